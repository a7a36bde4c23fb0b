"""How a table is shown: the ``table`` section of ``configs/table/*.yaml``."""

from dataclasses import dataclass, field
from typing import Literal

from omegaconf import DictConfig, OmegaConf


@dataclass
class ClaimSpec:
    """A comparative sentence of the paper: some rows are each better than others in some columns.

    ``better`` and ``worse`` name rows by the paper's words for them (all ``rows`` columns, spaced apart);
    ``gains`` gives the gain that the sentence prints for each column, or null where it prints none.
    """

    says: str
    better: list[str]
    worse: list[str]
    gains: dict[str, float | None]


@dataclass
class TableSpec:
    """What is shown, and where it comes from.

    Args:
        number: the paper's table, which stands beside ours.
        title: what it is about.
        rows: what names a row: column of the paper's table → place in a cell's configuration.
        metrics: columns, by their names in the records; or
        tasks: columns that each show the first metric of a task, and
        average: a last column with their mean.
        lower_is_better: columns of which a low score is good.
        parameters: show the parameter counts, in M = 2^20, or, in the rows ``plain_million``, in 10^6.
        shape: say which row is best, and how far our order of the rows is the paper's.
        claims: what the paper says about it.
    """

    number: int
    title: str
    rows: dict[str, str]
    metrics: list[str] = field(default_factory=list)
    tasks: dict[str, str] = field(default_factory=dict)
    average: str | None = None
    lower_is_better: list[str] = field(default_factory=list)
    parameters: bool = False
    plain_million: list[str] = field(default_factory=list)
    shape: bool = False
    claims: list[ClaimSpec] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The columns with scores."""
        return self.metrics or [*self.tasks, *([self.average] if self.average else [])]

    @property
    def swept(self) -> str | None:
        """The setting that alone tells the rows apart, which a curve can be drawn over; None where there is none."""
        return next(iter(self.rows)) if len(self.rows) == 1 and "method" not in self.rows else None

    def sign(self, column: str) -> Literal[1, -1]:
        """1 where a higher score is better, -1 where a lower one is."""
        return -1 if column in self.lower_is_better else 1


def table_spec(config: DictConfig) -> TableSpec:
    """The ``table`` section of a composed configuration.

    Raises:
        OmegaConfBaseException: it has another shape than `TableSpec`.
    """
    spec = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TableSpec), config.table))
    assert isinstance(spec, TableSpec)
    return spec
