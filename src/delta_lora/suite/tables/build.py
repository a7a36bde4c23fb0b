"""From run records to a table, each cell ours beside the paper's."""

from collections.abc import Iterable, Mapping, Sequence, Set
from statistics import mean
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from delta_lora import paper
from delta_lora.errors import UserError
from delta_lora.metrics.epochs import CROSS_FITTED, LAST
from delta_lora.suite.config.cell import is_number
from delta_lora.suite.config.grid import Grid, GridCell, compose_grid
from delta_lora.suite.records.divergence import run_diverged
from delta_lora.suite.records.records import Run
from delta_lora.suite.tables.copies import of_any_copy
from delta_lora.suite.tables.spec import OF, TableSpec, names_with, table_spec
from delta_lora.suite.tables.table import COUNTS, NOT_PRINTED, QUOTED, Number, Row, Table

LONGEST = 10**9  # seconds that a run can say it took: 30 years
MOST_PARAMETERS = 10**15


def build_table(grid: Grid, runs: Sequence[Run], borrowing: bool = True) -> Table:
    """Put the finished runs of a grid's cells into its table, beside the paper's numbers where the paper has it.

    A run stands in the table only if its key is that of a cell as composed now, so a record of another
    configuration never does. A record without one of its cell's metrics is left out, and reported in
    ``problems``. ``borrowing``: the rows of other tables that the table names are built, too.

    Raises:
        UserError: the overrides name no table; its section is wrong; the grid has two cells for one place in it.
    """
    grid = of_any_copy(grid, runs)
    if grid.table is None or "table" not in grid.config:
        raise UserError(f"no table in {' '.join(grid.overrides)}; give one of {', '.join(names_with('table'))}")
    spec = table_spec(grid.config, grid.table)
    printed = [] if spec.number is None else paper.table(spec.number).to_dict("records")
    if unknown := [head for head in spec.rows if printed and head not in printed[0]]:
        raise UserError(
            f"table.rows names {', '.join(unknown)}, which the paper's Table {spec.number} has no column for"
        )
    lines = {" ".join(line[head] for head in spec.rows): line for line in printed}
    names = row_names(spec, printed, grid)
    cells: dict[str, list[GridCell]] = {name: [] for name in [*lines, *names]}
    for cell, name in zip(grid.cells, names, strict=True):
        cells[name].append(cell)
    by_key = {run.key: run for run in runs}
    ran = [by_key[cell.key] for cell in grid.cells if cell.key in by_key]
    fitted = {name for run in ran for name in run.metrics if name.endswith(CROSS_FITTED)}
    problems: dict[str, None] = {}
    rows = []
    for name, members in cells.items():
        check_places(spec, name, members)
        found: dict[str, dict[int, Run]] = {column: {} for column in spec.columns if column != spec.average}
        for cell in members:
            run = by_key.get(cell.key)
            wrong = [] if run is None else missing(spec, cell, run, fitted)
            if run is not None and wrong:
                problems[f"{run.path / 'run.json'} is left out: it lacks {', '.join(wrong)}"] = None
            elif run is not None:
                for column in cell_metrics(spec, cell):
                    found[column][cell.config.seed] = run
        rows.append(make_row(spec, name, members, lines.get(name, {}), found))
    metrics = {column: metric for cell in grid.cells for column, metric in cell_metrics(spec, cell).items()}
    return Table(grid.table, spec, grid, metrics, rows, list(problems), borrow(spec, grid, runs) if borrowing else {})


def borrow(spec: TableSpec, grid: Grid, runs: Sequence[Run]) -> dict[str, Row]:
    """The rows of other tables that a table names (``table5: lora``), at the same scale and seeds.

    Raises:
        UserError: there is no such table, or it has no such row.
    """
    found: dict[str, Row] = {}
    shared = [word for word in grid.overrides if not word.startswith(("table=", "method", "hydra"))]
    others = sorted({name.partition(OF)[0] for name in spec.named if OF in name})
    known = names_with("table") if others else []
    for other in others:
        if other not in known:
            raise UserError(f"configs/table/{grid.table}.yaml names a row of {other!r}, which is no table")
        rows = build_table(compose_grid([f"table={other}", *shared]), runs, borrowing=False).rows
        found |= {f"{other}{OF}{row.name}": row for row in rows}
    if absent := sorted(name for name in spec.named if OF in name and name not in found):
        raise UserError(f"configs/table/{grid.table}.yaml names {', '.join(absent)}; there are {', '.join(found)}")
    return {name: row for name, row in found.items() if name in spec.named}


def check_places(spec: TableSpec, name: str, cells: Sequence[GridCell]) -> None:
    """Every cell of a row must have a place, and no two the same.

    Raises:
        UserError: a cell has none, since its task is no column; or two have the same, since the sweep varies something
            that tells no rows apart.
    """
    places: set[tuple[str, int]] = set()
    for cell in cells:
        columns = cell_metrics(spec, cell)
        if not columns:
            raise UserError(f"the table has no column for {cell.config.task.name}; it has {', '.join(spec.columns)}")
        for place in ((column, cell.config.seed) for column in columns):
            if place in places:
                raise UserError(
                    f"row {name!r} would hold several runs of one seed: the sweep varies something that this table "
                    "does not tell rows apart by; name it in table.rows, or sweep over the table's own parameters only"
                )
            places.add(place)


def row_names(spec: TableSpec, lines: Sequence[Mapping[str, str]], grid: Grid) -> list[str]:
    """For each cell the paper's words for its row.

    Methods, and other names, match by name. Settings (λ, K, learning rate) match by value; at a scale that is not the
    paper's, where they shrink with the run, a sweep of as many values as the paper's is matched in ascending order.

    Raises:
        UserError: no cell has a place that ``spec.rows`` names.
    """
    words: list[dict[Any, str]] = []
    for head, path in spec.rows.items():
        ours = {OmegaConf.select(cell.config, path) for cell in grid.cells}
        if ours == {None}:
            raise UserError(f"table.rows: no cell of the table has {path}, which is to name {head}")
        if not lines or not all(is_number(value) for value in ours - {None}):
            words.append({value: plain(value) for value in ours})
            continue
        theirs = sorted({line[head] for line in lines} - {NOT_PRINTED}, key=float)
        values = sorted(ours - {None})
        if len(values) == len(theirs) and not grid.config.scale.comparable:
            match = dict(zip(values, theirs, strict=True))
        else:
            match = {value: next((text for text in theirs if float(text) == value), plain(value)) for value in values}
        words.append({**match, None: NOT_PRINTED})
    return [
        " ".join(
            word[OmegaConf.select(cell.config, path)] for word, path in zip(words, spec.rows.values(), strict=True)
        )
        for cell in grid.cells
    ]


def plain(value: Any) -> str:
    """A setting as the paper writes it: ``2``, ``0.5``, ``2e-4``; a name as it is."""
    if value is None:
        return NOT_PRINTED
    if not is_number(value):
        return str(value)
    return np.format_float_scientific(value, trim="-", exp_digits=1) if 0 < value < 0.01 else f"{value:g}"


def cell_metrics(spec: TableSpec, cell: GridCell) -> dict[str, str]:
    """The columns that a cell's run fills, each with the name of the metric in the run's record."""
    if spec.metrics:
        return {name: name for name in spec.metrics}
    task = cell.config.task
    return {column: task.metrics[0] for column, name in spec.tasks.items() if name == task.name}


def missing(spec: TableSpec, cell: GridCell, run: Run, fitted: Set[str]) -> list[str]:
    """What the table needs of a run and its record lacks: scores, counts, the device and the versions.

    ``fitted``: the cross-fitted scores that runs of the table have; what one of them has, all need (`Table.judged`).
    """
    names = list(cell_metrics(spec, cell).values())
    names += [
        f"{name}{choice}" for name in names if f"{name}{CROSS_FITTED}" in fitted for choice in (LAST, CROSS_FITTED)
    ]
    scores = [name for name in names if not is_score(run.metrics.get(name))]
    return scores + [name for name in COUNTS if not is_count(run.counts.get(name))] + missing_facts(run)


def missing_facts(run: Run) -> list[str]:
    """What the line on where numbers come from needs of a run, and its record lacks."""
    seconds, environment = run.train.get("wall_seconds"), run.environment
    lacking = [] if is_number(seconds) and 0 <= seconds < LONGEST else ["wall_seconds"]
    kinds: dict[str, Any] = {"device": str, "versions": dict, "git_commit": str | None}
    return lacking + [name for name, kind in kinds.items() if not isinstance(environment.get(name), kind)]


def is_score(value: Any) -> bool:
    """A number that a metric of the tables can give: −100 to 100, also for TER of at most 64 tokens."""
    return is_number(value) and abs(value) <= 100


def is_count(value: Any) -> bool:
    """A number of parameters."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_PARAMETERS


def make_row(
    spec: TableSpec,
    name: str,
    cells: Sequence[GridCell],
    line: Mapping[str, str],
    runs: dict[str, dict[int, Run]],
) -> Row:
    """One row from its cells, the paper's line and the runs found (column → seed → run)."""
    ran = [run for by_seed in runs.values() for run in by_seed.values()]
    asked = len({cell.config.seed for cell in cells})
    metrics = {column: metric for cell in cells for column, metric in cell_metrics(spec, cell).items()}
    values = {
        column: {seed: run.metrics[metrics[column]] for seed, run in sorted(by_seed.items())}
        for column, by_seed in runs.items()
    }
    if spec.average:
        whole = set.intersection(*(set(by_seed) for by_seed in values.values()))
        values[spec.average] = {seed: mean(by_seed[seed] for by_seed in values.values()) for seed in sorted(whole)}
    if cells:
        label = cells[0].config.method.label
    else:  # the paper's labels alone do not tell its fine-tuning rows apart
        label = line.get("label", "") if name.endswith(QUOTED) else f"{line.get('label')} ({name})"
    return Row(
        name=name,
        label=label,
        settings={
            head: (plain(OmegaConf.select(cells[0].config, path)) if cells else "", line.get(head, ""))
            for head, path in spec.rows.items()
            if head != "method"
        },
        scores={column: Number(values[column], asked) if values[column] else None for column in spec.columns},
        printed={column: line.get(column, "") for column in [*spec.columns, *COUNTS]},
        counts={kind: sorted({run.counts[kind] for run in ran}) for kind in COUNTS},
        runs=runs,
        diverged=diverged_runs({run.key: run for run in ran}.values(), many=len(spec.tasks) > 1),
    )


def diverged_runs(runs: Iterable[Run], many: bool) -> list[str]:
    """The runs whose training came to nothing, each in words: their scores are no measure of their method.

    Args:
        many: they are of several tasks, so that each is named with its own.
    """
    found = []
    for run in runs:
        if (ends := run_diverged(run)) is not None:
            place = f"{run.config['task']['name']}, " if many else ""
            losses = f"the loss of its training was {ends.first:.3g} at step {ends.step} and {ends.last:.3g} at the end"
            found.append(f"{place}seed {run.config['seed']}: {losses}")
    return found
