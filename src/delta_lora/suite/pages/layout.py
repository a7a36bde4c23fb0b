"""What a table shows, as text and free of any format: its cells, its face, where its numbers come from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from delta_lora.suite.config.grid import Grid
from delta_lora.suite.records.records import Run
from delta_lora.suite.tables.build import COUNTS, NOT_PRINTED, Number, Row, Table, comparable
from delta_lora.suite.tables.claims import Comparison
from delta_lora.suite.tables.compare import Verdict

NOT_RUN: Verdict = "not run"
NONE = "–"
HEADS = {"learning_rate": "Learning rate", "update_ratio": "λ", "start_steps": "K"}
PARAMETERS = {"trainable": "Trainable", "extra_updatable": "Extra updatable"}
MEBI = 2**20
# Overrides that a table's face leaves out: it names them elsewhere, or they change no number.
NOT_OF_THE_NUMBERS = ("table=", "scale=", "seed=", "results_dir=", "cache_dir=", "data_dir=", "logger", "hydra")
PACKAGES = ("torch", "transformers", "peft")


@dataclass(frozen=True)
class Entry:
    """A cell: ours above, the paper's below ("" where it has none); the best of a column are bold."""

    ours: str
    paper: str = ""
    best: bool = False
    paper_best: bool = False


def headers(table: Table) -> list[str]:
    """Column headings, with an arrow towards the better scores."""
    labels = ["Method"] if "method" in table.spec.rows else []
    settings = [HEADS[head] for head in table.spec.rows if head != "method"]
    parameters = list(PARAMETERS.values()) if table.spec.parameters else []
    scores = [f"{column} {'↑' if table.spec.sign(column) == 1 else '↓'}" for column in table.spec.columns]
    return [*labels, *settings, *parameters, *scores]


def entries(table: Table) -> list[list[Entry]]:
    """The cells, row by row, under `headers`."""
    ours = {column: best(table, column, ours=True) for column in table.spec.columns}
    paper = {column: best(table, column, ours=False) for column in table.spec.columns}
    lines = []
    for row in table.rows:
        label = f"{row.label} (quoted from Hu et al. 2022)" if row.quoted else row.label
        line = [Entry(label)] if "method" in table.spec.rows else []
        line += [
            Entry(dash(mine or NOT_RUN), "" if mine == printed else dash(printed))
            for mine, printed in row.settings.values()
        ]
        if table.spec.parameters:
            line += [count_entry(table, row, name) for name in COUNTS]
        for column in table.spec.columns:
            missing = NONE if row.quoted else NOT_RUN
            score = row.scores[column]
            text = missing if score is None else score_text(score, decimals(table, column))
            printed = row.printed[column]
            line.append(Entry(text, printed, row.name in ours[column], row.name in paper[column]))
        lines.append(line)
    return lines


def dash(text: str) -> str:
    """A setting that a row has not, as a dash."""
    return NONE if text == NOT_PRINTED else text


def count_entry(table: Table, row: Row, name: str) -> Entry:
    """A parameter column of one row: computed from its runs, beside what the paper printed."""
    unit = 10**6 if row.name in table.spec.plain_million else MEBI
    texts = list(dict.fromkeys(million(count, unit) for count in row.counts(name)))
    missing = NONE if row.quoted else NOT_RUN
    return Entry("-".join([texts[0], texts[-1]][: len(texts)]) if texts else missing, row.printed[name] or NONE)


def million(count: int, unit: int) -> str:
    """``393216 → 0.375M``: three digits, or two decimals from 100 on; "–" for none."""
    value = count / unit
    return NONE if count == 0 else f"{value:.2f}M" if value >= 100 else f"{value:.3g}M"


def decimals(table: Table, column: str) -> int:
    """Two, as the paper prints; three for scores between 0 and 1, where two would hide the differences."""
    printed = [float(row.printed[column]) for row in table.rows if row.printed[column]]
    return 3 if max(printed) < 1 else 2


def score_text(score: Number, digits: int) -> str:
    """``69.60``, with several seeds ``69.60 ± 0.21``, and ``(2 of 3)`` where seeds are missing."""
    text = f"{score.mean:.{digits}f}"
    if score.sd is not None:
        text += f" ± {score.sd:.{digits}f}"
    return text if score.seeds == score.asked else f"{text} ({score.seeds} of {score.asked})"


def best(table: Table, column: str, ours: bool) -> set[str]:
    """The rows with the best number of a column, as shown; ties are shared, a single number beats nothing."""
    numbers: dict[str, float] = {}
    for row in table.rows:
        score = row.scores[column]
        if ours and score is not None:
            numbers[row.name] = round(score.mean, decimals(table, column))
        elif not ours and row.printed[column] and not row.quoted:
            numbers[row.name] = float(row.printed[column])
    if len(numbers) < 2:
        return set()
    top = max(table.spec.sign(column) * value for value in numbers.values())
    return {name for name, value in numbers.items() if table.spec.sign(column) * value == top}


def title(table: Table) -> str:
    """``Table 1: E2E NLG Challenge, gpt2-tiny``."""
    return f"Table {table.spec.number}: {table.spec.title}, {', '.join(models(table.grid))}"


def models(grid: Grid) -> list[str]:
    """The models of its cells."""
    return sorted({cell.config.model.name for cell in grid.cells})


def warning(grid: Grid) -> str:
    """What its face must say where ours are not the paper's models on all of its data; "" where they are."""
    if comparable(grid):
        return ""
    generated = any(cell.config.task.source == "generated" for cell in grid.cells)
    data = "generated data" if generated else "real data, which may be a part of the whole"
    return (
        f"Not comparable with the paper (scale {grid.config.scale.name}): ours is "
        f"{', '.join(models(grid))} on {data}. Compare our rows with each other; the paper's numbers are shown "
        "for orientation only."
    )


def facts(grid: Grid, runs: Sequence[Run]) -> list[str]:
    """Where the numbers come from: scale, runs, seeds, environment, commit and time, from the records."""
    seeds = sorted({cell.config.seed for cell in grid.cells})
    environments = [run.environment for run in runs]
    versions = [
        ", ".join(f"{name} {env['versions'][name]}" for name in PACKAGES if name in env["versions"])
        for env in environments
    ]
    wall = timedelta(seconds=round(sum(run.train["wall_seconds"] for run in runs)))
    extra = [item for item in grid.overrides if not item.startswith(NOT_OF_THE_NUMBERS)]
    return [
        f"Scale: {grid.config.scale.name}",
        f"Runs: {len(runs)} of {len({cell.key for cell in grid.cells})}",
        f"{'Seed' if len(seeds) == 1 else 'Seeds'}: {', '.join(map(str, seeds))}",
        *([f"Overrides: {' '.join(extra)}"] if extra else []),
        f"Device: {tally([env['device'] for env in environments])}",
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


def notes(table: Table) -> list[str]:
    """How to read it: only what applies to this table."""
    scores = [score for row in table.rows for score in row.scores.values() if score is not None]
    lines = ["Upper line of a cell: ours; lower line: the paper's. Bold: the best of ours, and of the paper's rows."]
    if any(row.quoted for row in table.rows):
        lines.append("The quoted row is not run: the paper copied it from Hu et al. (2022). It is never bold.")
    if table.spec.parameters:
        unit = "M = 2²⁰ parameters, the paper's unit"
        if table.spec.plain_million:
            unit += " (10⁶ where all of GPT-2, or all but its embeddings, is trained, as in the paper)"
        lines.append(f"{unit}; ours are counted in the runs, without a classification head.")
    if any(score.sd is not None for score in scores):
        lines.append("± is the sample standard deviation over seeds.")
    if table.spec.average:
        lines.append(f"{table.spec.average} is the mean of the columns to its left, before rounding.")
    lines += [f"Left out: {problem}." for problem in table.problems]
    if len(table.runs) < table.cells:
        lines.append(f"To train what has not been run: {table.grid.command}")
    return lines


def row_title(table: Table, row: Row, of_paper: bool = False) -> str:
    """A row in words, with our settings or the paper's: ``LoRA (repr.), learning rate = 3e-3``, ``λ = 2``."""
    settings = [
        f"{HEADS[head].replace('Learning', 'learning')} = {text}"
        for head, (mine, printed) in row.settings.items()
        if (text := (printed or mine) if of_paper else (mine or printed)) != NOT_PRINTED
    ]
    return ", ".join([*([row.label] if "method" in table.spec.rows else []), *settings])


def comparison_texts(table: Table, comparison: Comparison) -> list[str]:
    """The two rows and the column, the paper's gain, ours, its interval and the verdict, as text."""
    digits = decimals(table, comparison.column)
    gain = comparison.gain
    rows = f"{row_title(table, comparison.better)} against {row_title(table, comparison.worse)}"
    printed = f"{comparison.table_gain:+.2f}"
    if comparison.text_gain is not None and f"{comparison.text_gain:+.2f}" != printed:
        printed = f"{comparison.text_gain:+.2f} in the text, {printed} in the table"
    return [
        f"{rows}, {comparison.column}",
        printed,
        NOT_RUN if gain is None else f"{gain.difference:+.{digits}f}",
        NONE if gain is None else f"{gain.low:+.{digits}f} to {gain.high:+.{digits}f}",
        comparison.verdict,
    ]
