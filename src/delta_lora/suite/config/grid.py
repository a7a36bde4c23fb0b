"""The cells of a table: its Hydra grid, composed exactly as ``scripts/train.py -m table=…`` composes it."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, open_dict

from delta_lora.settings import checked
from delta_lora.suite.config.compose import check_table, composing, resolved
from delta_lora.suite.config.key import run_key
from delta_lora.suite.config.schema import Seeded
from delta_lora.suite.config.settings import make_task

Bases = dict[tuple[str, ...], DictConfig]  # configurations by the overrides they share, not resolved yet


@dataclass(frozen=True)
class GridCell:
    """One job of a sweep: its resolved configuration and the key of its run."""

    config: DictConfig
    key: str


@dataclass(frozen=True)
class Grid:
    """A table's composed configuration, the overrides that asked for it, its cells in the sweep's order.

    table: the name of its file in ``configs/table``; None where none was asked for.
    """

    config: DictConfig
    table: str | None
    overrides: tuple[str, ...]
    cells: tuple[GridCell, ...]

    @property
    def command(self) -> str:
        """The command that trains whatever is missing of it: the same however its overrides were put."""
        names = ("table=", "scale=", "seed=")
        given = [*self.overrides, *([] if any(o.startswith("seed=") for o in self.overrides) else ["seed=1"])]
        first = [override for name in names for override in given if override.startswith(name)]
        return " ".join(["python scripts/train.py -m", *first, *(o for o in given if not o.startswith(names))])


def compose_grid(overrides: Sequence[str]) -> Grid:
    """Compose every cell of a sweep.

    Args:
        overrides: as given to ``scripts/train.py -m``: ``["table=table1", "scale=tiny", "seed=1,2,3"]``. As
            there, a value given here takes the place of the table's own for that key.

    Raises:
        LeftOut: the scale has no such table.
        UserError: a seed is no whole number.
        HydraException, OmegaConfBaseException: Hydra cannot compose it (unknown choice, wrong syntax, …).
    """
    parser = OverridesParser.create()
    given = parser.parse_overrides(list(overrides))
    fixed = [override.input_line or "" for override in given if not override.is_sweep_override()]
    with composing():
        config = compose("train", fixed, return_hydra_config=True)
        check_table(config, config.hydra.runtime.choices.table)
        # Hydra's own sweeper expands the grid, so that a table can only show what its sweep would train.
        params = [f"{name}={value}" for name, value in (config.hydra.sweeper.params or {}).items()]
        (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides([*params, *overrides]), None)
        bases: Bases = {}
        cells = tuple(compose_cell(job, bases) for job in jobs)
    table = config.hydra.runtime.choices.table
    with open_dict(config):
        del config["hydra"]
    return Grid(config, table, tuple(overrides), cells)


def compose_cell(overrides: Sequence[str], bases: Bases) -> GridCell:
    """One job's configuration, inside an initialized Hydra.

    Args:
        overrides: of the job, as the sweep gives them.
        bases: filled here. Hydra takes 0.15 s for a job, so jobs that differ in their seed alone are composed once.
    """
    rest = tuple(override for override in overrides if not override.startswith("seed="))
    if rest not in bases:
        bases[rest] = compose("train", list(overrides))
    for seed in OverridesParser.create().parse_overrides([given for given in overrides if given not in rest]):
        bases[rest].seed = checked(Seeded, {"seed": seed.value()}, "").seed  # a key of a wrong one is no run's
    config = resolved(bases[rest])
    return GridCell(config, run_key(config, make_task(config)))
