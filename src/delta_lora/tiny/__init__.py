"""The tiny scale: generated data sets and miniature pretrained models, made by the project itself."""

from delta_lora.tiny.data import TASKS, write
from delta_lora.tiny.models import MODELS, checkpoint
from delta_lora.tiny.pretrain import Recipe

__all__ = ["MODELS", "TASKS", "Recipe", "checkpoint", "write"]
