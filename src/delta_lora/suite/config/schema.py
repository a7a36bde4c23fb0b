"""What is set of a run beside its task and its method: the top level, the scale, the logger."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from delta_lora.models.settings import ModelSettings
from delta_lora.settings import Positive, Settings, setting


class ScaleSettings(Settings):
    """How large the models and the data are: the ``scale`` group."""

    name: str = setting("paper, laptop, tiny, or one's own")
    require_gpu: bool = setting("refuse to run without a CUDA GPU")
    needs_preset: bool = setting("tasks without a configs/preset/SCALE/TASK.yaml do not run at it")
    comparable: bool = setting("its tables may be held against the paper's")
    models: dict[str, str] = setting("by family (gpt2, roberta, bart), the model that stands for the paper's")
    glue_start: str | None = setting("mnli: MRPC, RTE and STS-B start from the MNLI run of the same method")
    left_out: dict[str, str] = setting("files of configs/table that it does not have, and why", default={})


class NoLogger(Settings):
    """No tracking."""

    name: Literal["none"] = setting("none")


class WandbLogger(Settings):
    """Weights & Biases."""

    name: Literal["wandb"] = setting("wandb")
    project: str = setting("where its runs are listed")
    mode: Literal["auto", "online", "offline"] = setting("auto: online with a key, else offline")
    init_timeout: Positive = setting("to wait for the server when a run starts", unit="seconds")
    finish_timeout: Positive = setting("to wait for the last uploads when it ends", unit="seconds")


class MethodGroup(Settings):
    """What every ``method`` group has; the others are arguments of the method's class, which checks them."""

    model_config = ConfigDict(extra="allow")

    target: str = setting("the method's class", alias="_target_")
    name: str = setting("what tables and records call it")
    label: str = setting("the name of its row")


class Seeded(Settings):
    """What differs between the runs of one configuration."""

    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = setting("of every random number")


class RunSettings(Seeded):
    """A whole run. The task's settings are typed by the task's class, the method's by the method's."""

    rate_factor: Positive = setting("of the method's learning rate, in a sweep that looks for a better one", default=1)
    when_busy: Literal["wait", "skip"] = setting("when another process does the same run")
    score: Literal["now", "later"] = setting("later: a run ends with its predictions", default="now")
    preset: str | None = setting("the preset's own name: what the scale changes in the task")
    data_dir: str | None = setting("a folder of local data sets; null: they are downloaded")
    results_dir: str = setting("where records and tables go")
    cache_dir: str = setting("for downloads, generated data and the tiny models")
    model: ModelSettings = setting("what is fine-tuned")
    task: dict[str, Any] = setting("on what")
    method: MethodGroup = setting("how")
    scale: ScaleSettings = setting("how large")
    logger: Annotated[NoLogger | WandbLogger, Field(discriminator="name")] = setting("how a run is tracked")
    table: dict[str, Any] | None = setting("how a table shows its runs", default=None)
    figure: dict[str, Any] | None = setting("how a figure shows its runs", default=None)
