"""A table as markdown, CSV, LaTeX and on the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from omegaconf import OmegaConf
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from delta_lora.errors import UserError
from delta_lora.files import write_whole
from delta_lora.suite.config.compose import CONFIGS
from delta_lora.suite.config.grid import Grid, compose_grid
from delta_lora.suite.pages import layout, shape
from delta_lora.suite.pages.latex import latex
from delta_lora.suite.pages.layout import Entry
from delta_lora.suite.pages.markdown import escape_markdown, markdown_row, markdown_table
from delta_lora.suite.pages.plots import draw_curves, save
from delta_lora.suite.pages.shape import shape_texts, shapes
from delta_lora.suite.records.records import read_runs
from delta_lora.suite.tables.build import COUNTS, Table, build_table
from delta_lora.suite.tables.claims import Claim, check_claims
from delta_lora.suite.tables.compare import PairedBootstrap, Verdict, resampler_of
from delta_lora.suite.tables.frames import read_csv

CLAIM_HEADS = ["Comparison", "Paper's gain", "Our gain", "95 % interval", "Verdict"]
LONG = 8  # lines of comparisons that a page shows without being asked
CLAIM_NOTE = (
    "A gain is positive where the claim holds, also for scores of which a low one is good. Interval: a paired "
    "bootstrap over the test items (1,000 resamples), and over the seeds where there are several. Reproduced: it "
    "lies above 0; not reproduced: it lies below; within noise: it holds 0."
)


def render_table(overrides: Sequence[str]) -> tuple[Table, list[Claim], list[Path]]:
    """Build a table from the finished runs, hold its claims against them, and write its files.

    Args:
        overrides: as ``scripts/train.py -m`` takes them: ``["table=table1", "scale=tiny", "seed=1,2,3"]``.

    Returns:
        The table, its claims and the files below ``<results_dir>/<scale>``.

    Raises:
        UserError: no such table, or not one finished run of it; it names the command that makes them.
        HydraException, OmegaConfBaseException: Hydra cannot compose the overrides.
    """
    grid = compose_grid(overrides)
    if "table" not in grid.config:
        raise UserError(f"no table in {' '.join(overrides) or 'the arguments'}; give one of {', '.join(tables())}")
    table = find_table(grid)
    claims = check_claims(table, bootstrap_of(grid))
    return table, claims, write_table(table, claims, folder_of(grid))


def find_table(grid: Grid) -> Table:
    """The table of a grid, from the finished runs in its ``results_dir``.

    Raises:
        UserError: there is not one; it names the command that makes them.
    """
    results = Path(grid.config.results_dir)
    table = build_table(grid, read_runs(results))
    if not table.runs:
        left_out = "".join(f"{problem}; " for problem in table.problems)
        raise UserError(f"{left_out}no finished run of this table in {results / 'runs'}: {grid.command}")
    return table


def bootstrap_of(grid: Grid) -> PairedBootstrap:
    """The bootstrap, which keeps the scores of each run's resamples in the cache."""
    return PairedBootstrap(resampler_of, Path(grid.config.cache_dir).expanduser() / "resampled")


def folder_of(grid: Grid) -> Path:
    """``<results_dir>/<scale>``: where what was rendered lies."""
    return Path(grid.config.results_dir) / grid.config.scale.name


def tables() -> list[str]:
    """The names of all tables: configurations with a ``table`` section."""
    files = sorted((CONFIGS / "table").glob("*.yaml"))
    return [file.stem for file in files if "table" in OmegaConf.load(file)]


def write_table(table: Table, claims: Sequence[Claim], folder: Path) -> list[Path]:
    """Write ``table<N>.md``, ``.csv`` and ``.tex`` into a folder, curves of a sweep too, and return their paths."""
    stem = f"table{table.spec.number}"
    texts = {"md": markdown(table, claims), "csv": csv(table), "tex": latex(table)}
    paths = {suffix: folder / f"{stem}.{suffix}" for suffix in texts}
    for suffix, text in texts.items():
        write_whole(paths[suffix], text)
    if table.spec.swept is None:
        return list(paths.values())
    return [*paths.values(), *save(draw_curves(read_csv(texts["csv"]), table.spec, table.comparable), folder / stem)]


def markdown(table: Table, claims: Sequence[Claim]) -> str:
    """The whole page: the warning, the table, how to read it, where it comes from, the claims."""
    heads = layout.headers(table)
    lines = [f"# {layout.title(table)}", ""]
    if warning := layout.warning(table.grid):
        lines += [f"> **{escape_markdown(warning)}**", ""]
    numeric = len(heads) - len(table.spec.columns)
    lines += [markdown_row(heads), markdown_row([":--"] * numeric + ["--:"] * len(table.spec.columns))]
    lines += [markdown_row([markdown_entry(entry) for entry in line]) for line in layout.entries(table)]
    lines += ["", *(f"- {note}" for note in layout.notes(table))]
    lines += ["", "**From** " + " · ".join(escape_markdown(fact) for fact in layout.facts(table.grid, table.runs))]
    if table.spec.swept:
        lines += ["", f"![Curves of Table {table.spec.number}](table{table.spec.number}.png)"]
    if table.spec.shape and (found := shapes(table)):
        texts = [shape_texts(table, column) for column in found]
        lines += ["", "## Shape", "", shape.NOTE, "", *markdown_table(shape.HEADS, texts, numeric=(3, 4))]
    if claims:
        lines += ["", "## Claims", "", CLAIM_NOTE]
    for claim in claims:
        lines += ["", *markdown_claim(table, claim)]
    return "\n".join(lines) + "\n"


def markdown_claim(table: Table, claim: Claim) -> list[str]:
    """A sentence of the paper, how it fared, and its comparisons, folded away where they are many."""
    heading = f"**{claim.says}.** {claim_summary(claim)}."
    texts = [layout.comparison_texts(table, comparison) for comparison in claim.comparisons]
    lines = markdown_table(CLAIM_HEADS, texts, numeric=(1, 2, 3))
    if len(lines) <= LONG:
        return [heading, "", *lines]
    return [heading, "", "<details><summary>Comparisons</summary>", "", *lines, "", "</details>"]


def claim_summary(claim: Claim) -> str:
    """``5 comparisons: 3 reproduced, 2 within noise``."""
    counted = [f"{count} {verdict}" for verdict in get_args(Verdict) if (count := claim.count(verdict))]
    total = len(claim.comparisons)
    return f"{total} {'comparison' if total == 1 else 'comparisons'}: {', '.join(counted)}"


def markdown_entry(entry: Entry) -> str:
    """Ours, and below it, small, the paper's."""
    ours, paper = escape_markdown(entry.ours).replace(" ± ", "\u00a0±\u00a0"), escape_markdown(entry.paper)
    ours = f"**{ours}**" if entry.best else f"*{ours}*" if ours == layout.NOT_RUN else ours
    paper = f"**{paper}**" if entry.paper_best else paper
    return f"{ours}<br><sub>{paper}</sub>" if paper else ours


def csv(table: Table) -> str:
    """One row per row of the table, numbers in full; empty where there is none, and why in ``status``."""
    records: list[dict[str, Any]] = []
    for row in table.rows:
        record: dict[str, Any] = {"row": row.name}
        if "method" in table.spec.rows:
            record["label"] = row.label
        for head, (ours, paper) in row.settings.items():
            record |= {head: ours, f"{head} (paper)": paper}
        if table.spec.parameters:
            for name in COUNTS:
                counts = row.counts(name)
                record |= {name: "-".join(map(str, counts)), f"{name} (paper)": row.printed[name]}
        for column in table.spec.columns:
            score = row.scores[column]
            record |= {
                column: "" if score is None else repr(score.mean),
                f"{column} sd": "" if score is None or score.sd is None else repr(score.sd),
                f"{column} seeds": 0 if score is None else score.seeds,
                f"{column} (paper)": row.printed[column],
            }
        whole = all(score is not None for score in row.scores.values())
        record["status"] = "quoted" if row.quoted else "run" if whole else layout.NOT_RUN
        keys = {run.key: None for by_seed in row.runs.values() for run in by_seed.values()}
        records.append(record | {"runs": " ".join(keys)})
    return pd.DataFrame(records).to_csv(index=False, lineterminator="\n")


def terminal(table: Table, claims: Sequence[Claim]) -> RenderableType:
    """For ``rich.print``: the table, the warning, and how the claims fared."""
    grid = RichTable(title=layout.title(table), caption=layout.warning(table.grid), show_lines=False)
    numeric = len(layout.headers(table)) - len(table.spec.columns)
    for place, head in enumerate(layout.headers(table)):
        grid.add_column(head, justify="left" if place < numeric else "right")
    for line in layout.entries(table):
        grid.add_row(*(terminal_entry(entry) for entry in line))
    legend = Text("Upper line: ours; lower line: the paper's.", style="dim")
    parts: list[RenderableType] = [grid, legend]
    if table.spec.shape and (found := shapes(table)):
        columns = RichTable(*shape.HEADS, title="Shape")
        for column in found:
            columns.add_row(*shape_texts(table, column))
        parts.append(columns)
    return Group(*parts, *(Text(f"{claim.says}. {claim_summary(claim)}.") for claim in claims))


def terminal_entry(entry: Entry) -> Text:
    """Ours, and below it, dim, the paper's."""
    text = Text(entry.ours, style="bold" if entry.best else "")
    return text.append(f"\n{entry.paper}", style="not bold dim") if entry.paper else text
