"""What the phases of a run hand on: each is written once, whole, and read back as it was after an interruption."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class TrainResult:
    """What a record says of the training.

    steps: optimizer steps of the whole run.
    seconds, examples_per_second: since ``resumed_from_step``, which is 0 for an undisturbed run.
    peak_memory_bytes: of the process that needed most.
    final_loss: the last one that was logged.
    micro_batch_size: examples at once in a process.
    """

    steps: int
    seconds: float
    resumed_from_step: int
    examples_per_second: float
    peak_memory_bytes: int
    final_loss: float
    micro_batch_size: int
    processes: int

    @property
    def only_loaded(self) -> bool:
        """Whether nothing was left to train: the last checkpoint was the run's last step."""
        return self.resumed_from_step == self.steps

    def to_json(self) -> dict[str, Any]:
        """For ``phases.json`` and the record."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "TrainResult":
        """What :meth:`to_json` gave."""
        return cls(**facts)


@dataclass(frozen=True)
class Predicted:
    """A run whose predictions are on disk: all that its record needs besides them and their scores.

    counts: parameters by how they learn (:class:`delta_lora.methods.base.Counts`).
    seconds: what it took until then, since this process began.
    environment: what it ran on (:func:`delta_lora.suite.machine.environment.environment`), with the revisions of the
        model and the data, and the precision that it was trained in.
    best_epoch: the epoch whose predictions count (classification).
    decode_seconds: what generating the texts took.
    """

    training: TrainResult
    counts: dict[str, int]
    seconds: float = 0.0
    environment: dict[str, Any] = field(default_factory=dict)
    best_epoch: int | None = None
    decode_seconds: float | None = None

    def train_facts(self) -> dict[str, Any]:
        """The record's ``train``: the training's result, and what of the rest there is."""
        more = {"best_epoch": self.best_epoch, "decode_seconds": self.decode_seconds}
        return self.training.to_json() | {name: value for name, value in more.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """For ``phases.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "Predicted":
        """What :meth:`to_json` gave."""
        return cls(**{**facts, "training": TrainResult.from_json(facts["training"])})
