"""What is set of a task: the ``task`` configuration group. A task's own class of settings stands in its own module."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from delta_lora.models.settings import Kind
from delta_lora.settings import LARGEST, Count, Fraction, NotNegative, Positive, Probability, Settings, Texts, setting

LOSS = "loss"  # the metric that needs no generated text
WholeNumber = Annotated[int, Field(ge=0, le=LARGEST)]


class TrainSettings(Settings):
    """How a task is trained (the paper's Tables 9, 11 and 13)."""

    learning_rate: Positive = setting("AdamW's peak rate for LoRA and its kin", in_key=False)
    finetune_learning_rate: Positive = setting("AdamW's peak rate for fine-tuning", in_key=False)
    batch_size: Count = setting("the whole run's: micro-batch × accumulation × processes", unit="examples")
    micro_batch_size: Count | None = setting("at a time; null: the whole batch", unit="examples", in_key=False)
    epochs: Count = setting("passes over the training set")
    max_steps: Count | None = setting("stop after so many; null: after the epochs", unit="steps")
    weight_decay: NotNegative = setting("AdamW's")
    decay: Literal["weights", "all"] = setting(
        "what decays: weights but not biases and layer norms, or all that is trained", default="weights"
    )
    adam_epsilon: Positive = setting("AdamW's ε", default=1e-8)
    label_smoothing: Probability = setting("of the loss")
    warmup_steps: WholeNumber | None = setting("in which the rate rises; or give warmup_ratio", unit="steps")
    warmup_ratio: Fraction | None = setting("the same as a fraction of all steps")
    max_grad_norm: NotNegative = setting("gradients are clipped to this norm; 0: they are not")
    max_length: Count = setting("of an example; the rest is cut", unit="tokens")
    dropouts: dict[str, Probability] = setting("probabilities, by names that all models share (model.dropouts)")
    precision: Literal["auto", "bf16", "fp32"] = setting("auto: bf16 where the GPU, or the CPU, has it")
    group_by_length: bool = setting("batches of similar length, which need fewer padded tokens")
    save_steps: Count = setting("a checkpoint to resume from, every so many", unit="steps", in_key=False)
    logging_steps: Count = setting("a line of the log, every so many", unit="steps", in_key=False)
    alignment_steps: Count | None = setting(
        "log the cosine of Δ(BA) and −∇W (Eq. 5) on two layers, every so many; null: never",
        unit="steps",
        default=None,
        in_key=False,
    )

    @model_validator(mode="after")
    def fits(self) -> Self:
        """Settings that bound each other.

        Raises:
            ValueError: the micro-batch does not divide the batch, or not one of the two warm-ups is given.
        """
        if self.batch_size % (self.micro_batch_size or 1):
            raise ValueError(
                f"task.train.micro_batch_size must divide task.train.batch_size={self.batch_size}, "
                f"got {self.micro_batch_size}"
            )
        if (self.warmup_steps is None) == (self.warmup_ratio is None):
            raise ValueError("give one of task.train.warmup_steps and task.train.warmup_ratio, and null for the other")
        return self

    def warmup(self, total: int) -> int:
        """Steps of ``total`` in which the rate rises."""
        return self.warmup_steps if self.warmup_steps is not None else math.ceil((self.warmup_ratio or 0) * total)


class GenerationTrainSettings(TrainSettings):
    """How a text-generation task is trained."""

    max_target_length: Count | None = setting(
        "of an encoder–decoder's target; null: as max_length", unit="tokens", default=None
    )


class DecodeSettings(Settings):
    """How texts are generated (the paper's Tables 10 and 12)."""

    beam_size: Count = setting("beams of the search; 1: greedy")
    length_penalty: float = setting("exponent of the length that a beam's score is divided by")
    no_repeat_ngram_size: WholeNumber = setting("no n-gram twice in the generated part; 0: off", unit="tokens")
    max_new_tokens: Count = setting("of an output", unit="tokens")
    batch_size: Count = setting("at a time", unit="inputs", in_key=False)
    search: Literal["microsoft-lora", "transformers"] = setting(
        "whose rule ends a beam search; microsoft-lora, our own code, is for decoder-only models",
        default="transformers",
    )
    precision: Literal["fp32", "bf16"] = setting("what the model computes in; bf16 changes some texts", default="fp32")


class Lengths(Settings):
    """Deciles of an example's tokens, from the shortest to the longest, for plans where the data are not here."""

    input: Annotated[tuple[WholeNumber, ...], Field(strict=False)] = setting("of the inputs", unit="tokens")
    target: Annotated[tuple[WholeNumber, ...] | None, Field(strict=False)] = setting(
        "of the targets", unit="tokens", default=None
    )


class FilesSettings(Settings):
    """Where a task's data are."""

    folder: str = setting("in data_dir")


class WebFileSettings(FilesSettings):
    """Where a release lies on the web."""

    url: str = setting("its address")


class HubFileSettings(FilesSettings):
    """Where a data set lies on the hub."""

    repository: str = setting("its name")
    revision: str = setting("a branch, a tag or a commit")
    hub_folder: str = setting("in the repository")
    empty: dict[str, dict[str, Count]] = setting(
        "the texts that the release itself leaves empty: how many, by split and column", default={}
    )


class TaskSettings(Settings):
    """What every task has. ``Task.Settings`` of a subclass adds its own."""

    target: str = setting("the task's class", alias="_target_", in_key=False)
    name: str = setting("what tables and records call it")
    kinds: Annotated[tuple[Kind, ...], Field(strict=False)] = setting(
        "the kinds of model that it fits", min_length=1, in_key=False
    )
    source: Literal["official", "generated"] = setting("official: the released files; generated: the tiny scale's")
    split: Literal["test", "dev"] = setting(
        "what is scored: test, the set that tables are of, or dev, the development set, on which settings are chosen",
        default="test",
    )
    max_train_examples: Count | None = setting("take only the first of the training set", unit="examples")
    max_test_examples: Count | None = setting("take only so many, spread over the test set", unit="inputs")
    train: TrainSettings = setting("how it is trained")
    per_method: dict[str, dict[str, Any]] = setting(
        "numbers for one method each, which reach a run through ``method`` alone", default={}, in_key=False
    )
    sweeps: dict[str, Any] = setting("values that tables sweep over", default={}, in_key=False)
    metrics: Texts = setting(
        "the columns of its tables, the first where a table has one a task", min_length=1, in_key=False
    )
    train_examples: Count = setting("in the released training set", unit="examples", in_key=False)
    test_examples: Count = setting("in the released test set", unit="inputs", in_key=False)
    lengths: Lengths | None = setting("of its texts", default=None, in_key=False)
    files: FilesSettings = setting("its data; their content is in the key", in_key=False)


class GenerationSettings(TaskSettings):
    """What a text-generation task has."""

    train: GenerationTrainSettings = setting("how it is trained")
    decode: DecodeSettings = setting("how its outputs are generated")

    @property
    def loss_only(self) -> bool:
        """Whether a run measures the loss on the references and generates nothing."""
        return tuple(self.metrics) == (LOSS,)

    @model_validator(mode="after")
    def loss_alone(self) -> Self:
        """The loss needs no generated text, and the other metrics need one.

        Raises:
            ValueError: both are asked for.
        """
        if LOSS in self.metrics and not self.loss_only:
            raise ValueError(
                f"task.metrics={self.metrics}: give [{LOSS}] alone, which generates no text, or leave it out"
            )
        return self


class ClassificationSettings(TaskSettings):
    """What a classification or regression task has."""

    evaluation_batch_size: Count = setting("at a time", unit="inputs")
    init_from: str | None = setting(
        "start from another task's run of the same model, method and seed (mnli), or from a run's key", default=None
    )
    save_start: bool = setting("keep what such a start needs", default=False, in_key=False)
