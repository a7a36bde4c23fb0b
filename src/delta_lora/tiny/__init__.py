"""The tiny scale: generated data sets and miniature pretrained models, made by the project itself."""

from delta_lora.tiny.data import DATA_VERSION, TASKS, write
from delta_lora.tiny.models import MODELS, Recipe, checkpoint

__all__ = ["DATA_VERSION", "MODELS", "TASKS", "Recipe", "checkpoint", "write"]
