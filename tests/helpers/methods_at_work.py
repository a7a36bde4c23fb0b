"""Each method with settings under which a short run shows what it does."""

from collections.abc import Callable

from delta_lora.methods.adalora import AdaLora
from delta_lora.methods.base import Method
from delta_lora.methods.delta_lora import DeltaLoraMethod
from delta_lora.methods.dylora import DyLora
from delta_lora.methods.finetune import FineTune
from delta_lora.methods.lora import Lora

STEPS = 8
RANKED = {"learning_rate": 1e-2, "rank": 4, "alpha": 8.0}
METHODS: dict[str, Callable[[], Method]] = {
    "full": lambda: FineTune(name="full", learning_rate=1e-2, scope="all"),
    "ft-qv": lambda: FineTune(name="ft-qv", learning_rate=1e-2, scope="query-value"),
    "lora": lambda: Lora(name="lora", dropout=0.0, **RANKED),  # type: ignore[arg-type]
    "dylora": lambda: DyLora(name="dylora", dropout=0.0, frozen=False, eval_rank=None, **RANKED),  # type: ignore[arg-type]
    "adalora": lambda: AdaLora(name="adalora", learning_rate=1e-2, init_rank=4, target_rank=2, alpha=8, dropout=0.0),
    "delta-lora": lambda: DeltaLoraMethod(name="delta-lora", update_ratio=2, start_steps=2, **RANKED),  # type: ignore[arg-type]
    "literal": lambda: DeltaLoraMethod(name="delta-lora", update_ratio=2, start_steps=2, literal=True, **RANKED),  # type: ignore[arg-type]
}
