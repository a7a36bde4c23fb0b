"""Where numbers come from, in words: models, data, runs, machine, commit; the warning, and how to read a table."""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from omegaconf import OmegaConf

from delta_lora.suite.config.grid import Grid
from delta_lora.suite.pages.words import row_title
from delta_lora.suite.records.records import Run
from delta_lora.suite.tables.copies import copy_of
from delta_lora.suite.tables.shape import different_seeds
from delta_lora.suite.tables.table import NOT_OF_THE_NUMBERS, Table, comparable, overridden

ESCAPED = re.compile(r"\\([\\|*_<>`])")  # by markdown.escape_markdown
PACKAGES = ("torch", "transformers", "peft")


def models(grid: Grid) -> list[str]:
    """The models of its cells."""
    return sorted({cell.config.model.name for cell in grid.cells})


def warning(grid: Grid, of_paper: bool = True) -> str:
    """What its face must say where ours are not the paper's models on all of its data; "" where they are.

    Args:
        of_paper: the paper's numbers stand beside ours.
    """
    if comparable(grid):
        return ""
    if of_paper and grid.config.scale.comparable and (more := overridden(grid)):
        return f"Not comparable with the paper: these are other cells than its own, by {' '.join(more)}."
    generated = any(cell.config.task.source == "generated" for cell in grid.cells)
    data = "generated data" if generated else f"real data{part(grid)}"
    if not of_paper:
        ours = f"Scale {grid.config.scale.name}: {', '.join(models(grid))} on {data}"
        return f"{ours}. Compare the rows with each other only."
    return (
        f"Not comparable with the paper (scale {grid.config.scale.name}): ours is "
        f"{', '.join(models(grid))} on {data}. Compare our rows with each other; the paper's numbers are shown "
        "for orientation only."
    )


def part(grid: Grid) -> str:
    """How much of its tasks' data and steps a grid's cells take: `` (at most 500 steps)``; "" where that is all."""
    splits = {OmegaConf.select(cell.config.task, "split", default="test") for cell in grid.cells}
    scored = "development" if splits == {"dev"} else "test"
    places = {
        "max_train_examples": "the first {} training examples",
        "max_test_examples": f"{{}} {scored} inputs, spread over all",
        "train.max_steps": "at most {} steps",
    }
    said = []
    for place, text in places.items():
        values = sorted({OmegaConf.select(cell.config.task, place) or 0 for cell in grid.cells})
        if limits := [f"{value:,}" for value in values if value]:
            said.append(f"{'' if all(values) else 'all or '}{text.format(' or '.join(limits))}")
    return f" ({'; '.join(said)})" if said else ""


def facts(grid: Grid, runs: Sequence[Run]) -> list[str]:
    """Where the numbers come from: scale, runs, seeds, environment, commit and time, from the records."""
    seeds = sorted({cell.config.seed for cell in grid.cells})
    environments = [run.environment for run in runs]
    versions = [
        ", ".join(f"{name} {env['versions'][name]}" for name in PACKAGES if name in env["versions"])
        for env in environments
    ]
    wall = timedelta(seconds=round(sum(run.train["wall_seconds"] for run in runs)))
    precisions = [env.get("precision", "not recorded") for env in environments]  # older records do not say
    copies = sum(copy_of(run) is not None for run in runs)
    extra = [item for item in grid.overrides if not item.startswith(NOT_OF_THE_NUMBERS)]
    return [
        f"Scale: {grid.config.scale.name}",
        f"Runs: {len(runs)} of {len({cell.key for cell in grid.cells})}",
        f"{'Seed' if len(seeds) == 1 else 'Seeds'}: {', '.join(map(str, seeds))}",
        *([f"Overrides: {' '.join(extra)}"] if extra else []),
        *([f"Data: files that are not the released ones in {copies} of the runs (docs/data.md)"] if copies else []),
        f"Device: {tally([env['device'] for env in environments])}",
        *([f"Precision: {tally(precisions)}"] if {*precisions} - {"not recorded"} else []),
        f"Versions: {tally(versions)}",
        f"Commit: {tally([commit(env.get('git_commit')) for env in environments])}",
        f"Wall time of the runs together: {wall}",
    ]


def commit(name: str | None) -> str:
    """Ten digits of a commit; a record marks a working tree that differed from it by ``+``."""
    if not name:
        return "unknown"
    return f"{name[:10]} with uncommitted changes" if name.endswith("+") else name[:10]


def tally(values: Sequence[str]) -> str:
    """``a``, or where runs differ ``a (5 runs); b (2 runs)``."""
    counts = Counter(values).most_common()
    if len(counts) == 1:
        return counts[0][0]
    return "; ".join(f"{value} ({count} {'run' if count == 1 else 'runs'})" for value, count in counts)


def notes(table: Table, diverged: Sequence[str]) -> list[str]:
    """How to read it, with the lines of `diverged_runs`: only what applies to this table."""
    scores = [score for row in table.rows for score in row.scores.values() if score is not None]
    lines = ["Bold: the best of a column."]
    if table.of_paper:
        lines = [
            "Upper line of a cell: ours; lower line: the paper's. Bold: the best of ours, and of the paper's rows."
        ]
    unequal = any(different_seeds(table, column) for column in table.spec.columns)
    if unequal:
        lines[0] += f" None{' of ours' if table.of_paper else ''} where rows have different seeds."
    if table.base is not None:
        both = ", ours / the paper's" if table.of_paper else ""
        shared = ", over the seeds that both rows have" if unequal else ""
        name = row_title(table, table.base)
        lines.append(f"Last line of a cell: the gain over {name}{both}{shared}; positive is better.")
    if any(row.quoted for row in table.rows):
        lines.append("The quoted row is not run: the paper copied it from Hu et al. (2022). It is never bold.")
    if table.spec.parameters:
        unit = "M = 2²⁰ parameters" + (", the paper's unit" if table.of_paper else "")
        if table.spec.plain_million:
            unit += " (10⁶ where all of GPT-2, or all but its embeddings, is trained, as in the paper)"
        lines.append(f"{unit}; ours are counted in the runs, without a classification head.")
    if any(score.sd is not None for score in scores):
        lines.append("± is the sample standard deviation over seeds.")
    if table.spec.average:
        shared = ", over the seeds that all of them have" if unequal else ""
        lines.append(f"{table.spec.average} is the mean of the columns to its left, before rounding{shared}.")
    lines += diverged
    lines += [f"Left out: {problem}." for problem in table.problems]
    return lines


def to_train(grid: Grid) -> str:
    """The note with the command for the cells without a run."""
    return f"To train what has not been run: {grid.command}"


def diverged_runs(table: Table) -> list[str]:
    """A line for each run of a table whose training came to nothing: its scores are no measure of its method."""
    rows = [*((row_title(table, row), row) for row in table.rows), *table.borrowed.items()]
    return [diverged_line(name, text) for name, row in rows for text in row.diverged]


def diverged_line(name: str, text: str) -> str:
    """A line on a run that came to nothing; ``text``: of `delta_lora.suite.tables.build.diverged_runs`."""
    return f"Diverged: {name}, {text}, so its scores say only that."


def asked_on(page: str) -> list[str]:
    """The seeds and overrides that a Markdown page says it is of (`facts`), as overrides; none where it does not."""
    seeds = re.search(r" · Seeds?: ([0-9, ]+)", page)
    extra = re.search(r" · Overrides: (.*?) · ", page)
    words = ESCAPED.sub(r"\1", extra[1]).split() if extra else []
    return [] if seeds is None else [f"seed={seeds[1].replace(' ', '')}", *words]
