"""How a table is shown: the ``table`` section of ``configs/table/*.yaml``, the one place where tables are listed."""

from dataclasses import dataclass, field
from typing import Literal

from omegaconf import DictConfig, OmegaConf

from delta_lora.errors import UserError
from delta_lora.suite.config.compose import CONFIGS

PAPER = range(1, 9)  # its result tables
# Names that mean something else where a table's name is given, or whose files would be written over.
TAKEN = ("all", "check", "chosen", "claims", "examples", "notebooks", "report", "table", "tables")
OF = ": "  # between a table and its row, where another table names it

QUANTIFIERS = ("all", "any")
KINDS = ("superior", "noninferior", "equivalent", "contrast")
SIZES = ("slight", "significant")


@dataclass
class ClaimSpec:
    """A comparative sentence: some rows are each better than others in some columns, or what else its words say.

    ``better`` and ``worse`` name rows by the paper's words for them (all ``rows`` columns, spaced apart), in a table
    missing from the paper by ours; ``table5: lora`` is the row ``lora`` of another table. ``gains`` gives the gain that
    the paper's sentence prints for each column, or null where it prints none.

    Args:
        quantifier: the sentence holds if ``all`` of its comparisons do, or ``any``.
        kind: ``superior``, the gain is above 0; ``noninferior``, above −margin; ``equivalent``, between −margin and
            margin; ``contrast``, the mean of the rows ``better`` is above the mean of the rows ``worse``.
        size: what else the sentence says of a superior row: ``slight``, the gain is below the margin; ``significant``,
            the paper's own gain is at least the margin, the smallest that its test set can call significant.
        margin: column → the margin, in the column's unit.
    """

    says: str
    better: list[str]
    worse: list[str]
    gains: dict[str, float | None]
    quantifier: str = "all"
    kind: str = "superior"
    size: str | None = None
    margin: dict[str, float] = field(default_factory=dict)

    def mistake(self) -> str | None:
        """What in it does not go together; None: nothing."""
        for name, given, allowed in (
            ("quantifier", self.quantifier, QUANTIFIERS),
            ("kind", self.kind, KINDS),
            ("size", self.size, (None, *SIZES)),
        ):
            if given not in allowed:
                known = ", ".join("null" if word is None else word for word in allowed)
                return f"{name} {given!r}: it is one of {known}"
        if self.size is not None and self.kind != "superior":
            return f"size {self.size!r} is said of kind superior, got {self.kind}"
        whole = self.size == "slight" or self.kind in ("noninferior", "equivalent")
        if lacking := [column for column in self.gains if column not in self.margin and whole]:
            what = f"kind {self.kind}" if self.size is None else f"size {self.size}"
            return f"{what} needs a margin for {', '.join(lacking)}"
        if unread := [column for column in self.margin if column not in self.gains or not (whole or self.size)]:
            return f"nothing reads the margin of {', '.join(unread)}"
        if wrong := [f"{value:g}" for value in self.margin.values() if not value > 0]:
            return f"a margin is above 0, got {', '.join(wrong)}"
        return None


@dataclass
class TableSpec:
    """What is shown, and where it comes from.

    Args:
        title: what it is about.
        rows: what names a row: column of the paper's table → place in a cell's configuration.
        number: the paper's table, which stands beside ours; null for a table of one's own.
        metrics: columns, by their names in the records; or
        tasks: columns that each show the first metric of a task, and
        average: a last column with their mean.
        lower_is_better: columns of which a low score is good.
        parameters: show the parameter counts, in M = 2^20, or, in the rows ``plain_million``, in 10^6.
        chooses: the last of ``rows``, a setting: say which value of it is best for each method.
        base: the row that the others' gains are shown over; ``table5: lora`` is a row of another table.
        shape: say which row is best, and how far our order of the rows is the paper's.
        examples: show a few of its test items with every row's text.
        claims: what the paper, or whoever wrote the table, says about it.
    """

    title: str
    rows: dict[str, str]
    number: int | None = None
    metrics: list[str] = field(default_factory=list)
    tasks: dict[str, str] = field(default_factory=dict)
    average: str | None = None
    lower_is_better: list[str] = field(default_factory=list)
    parameters: bool = False
    plain_million: list[str] = field(default_factory=list)
    chooses: str | None = None
    base: str | None = None
    shape: bool = False
    examples: bool = False
    claims: list[ClaimSpec] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The columns with scores."""
        return self.metrics or [*self.tasks, *([self.average] if self.average else [])]

    @property
    def named(self) -> set[str]:
        """The rows that it names: those of its sentences, and the one that gains are over."""
        claimed = {name for claim in self.claims for name in (*claim.better, *claim.worse)}
        return claimed if self.base is None else claimed | {self.base}

    def sign(self, column: str) -> Literal[1, -1]:
        """1 where a higher score is better, -1 where a lower one is."""
        return -1 if column in self.lower_is_better else 1


def table_spec(config: DictConfig, name: str) -> TableSpec:
    """The ``table`` section of a composed configuration.

    Args:
        name: of its file, ``table1``; errors name it.

    Raises:
        UserError: it cannot be shown: what it asks for does not go together.
        OmegaConfBaseException: it has another shape than `TableSpec`.
    """
    given = OmegaConf.to_container(config.table, resolve=True)  # rows may be named by the task's settings
    spec = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TableSpec), given))
    assert isinstance(spec, TableSpec)
    wrong = None
    if name in TAKEN:
        wrong = f"no table can be called {name!r}: that names something else here; rename the file"
    elif spec.number not in (None, *PAPER):
        wrong = f"table.number is one of the paper's tables {PAPER[0]} to {PAPER[-1]}, or null for a table of one's own"
        wrong += f", got {spec.number}"
    elif not spec.rows:
        wrong = "table.rows must say what names a row, such as {method: method.name}"
    elif spec.chooses not in (None, [*spec.rows][-1]):
        wrong = f"table.chooses is the last of table.rows, {[*spec.rows][-1]!r}, or null, got {spec.chooses!r}"
    elif bool(spec.metrics) == bool(spec.tasks):
        wrong = "the columns are table.metrics, or table.tasks: give one of the two"
    elif spec.average and not spec.tasks:
        wrong = "table.average is the mean of table.tasks; there are none"
    elif spec.shape and spec.number is None:
        wrong = "table.shape holds our order of the rows against the paper's; it needs table.number"
    elif unknown := [name for name in spec.lower_is_better if name not in spec.columns]:
        wrong = f"table.lower_is_better names {', '.join(unknown)}; the columns are {', '.join(spec.columns)}"
    for claim in spec.claims:
        if mistake := claim.mistake():
            wrong = f"the claim {claim.says!r}: {mistake}"
    if wrong:
        raise UserError(f"configs/table/{name}.yaml: {wrong}")
    return spec


def names_with(section: Literal["table", "figure"]) -> list[str]:
    """The files of ``configs/table`` that have this section (``table`` or ``figure``): the paper's, then one's own."""
    files = all_files()
    return sorted((name for name, config in files.items() if section in config), key=lambda name: is_own(files[name]))


def own_tables() -> list[str]:
    """The tables of one's own, which the paper does not print, by name."""
    return [name for name, config in all_files().items() if is_own(config)]


def is_own(config: DictConfig) -> bool:
    """Whether a file of ``configs/table`` is a table that the paper does not print."""
    return "table" in config and config.table.get("number") is None


def tables_with_examples() -> list[str]:
    """The tables whose test items are shown with every row's text, by name."""
    return [name for name, config in all_files().items() if "table" in config and config.table.get("examples")]


def all_files() -> dict[str, DictConfig]:
    """Every file of ``configs/table``, by name."""
    loaded = {file.stem: OmegaConf.load(file) for file in sorted((CONFIGS / "table").glob("*.yaml"))}
    return {name: config for name, config in loaded.items() if isinstance(config, DictConfig)}
