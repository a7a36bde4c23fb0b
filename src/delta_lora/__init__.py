"""Delta-LoRA: fine-tune high-rank parameters with the delta of low-rank matrices (arXiv 2309.02411).

The library is :class:`DeltaLora` for any training loop and :class:`DeltaLoraCallback` for
``transformers.Trainer``. Both are loaded at first use, so that importing a small part of the package does not
load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from delta_lora.callback import DeltaLoraCallback
    from delta_lora.delta import DeltaLora

__all__ = ["DeltaLora", "DeltaLoraCallback"]

_HOMES = {"DeltaLora": "delta_lora.delta", "DeltaLoraCallback": "delta_lora.callback"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
