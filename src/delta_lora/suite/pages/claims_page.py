"""``claims.md``: every comparative sentence of the paper's §5 and appendix A.2, and how it fared in our runs.

The same as ``claims.csv``, a line per comparison, for whoever goes on from there: the notebooks show it, since
resampling takes minutes.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from delta_lora.errors import UserError
from delta_lora.files import write_whole
from delta_lora.suite.config.compose import left_out
from delta_lora.suite.config.grid import Grid, compose_grid
from delta_lora.suite.pages import figure_page
from delta_lora.suite.pages.claim_texts import CLAIM_HEADS, CLAIM_NUMBERS, comparison_texts
from delta_lora.suite.pages.fuller import check_fuller
from delta_lora.suite.pages.markdown import CLAIM_NOTE, escape_markdown, markdown_table
from delta_lora.suite.pages.provenance import diverged_runs, warning
from delta_lora.suite.pages.render import bootstrap_of, folder_of
from delta_lora.suite.pages.texts import Texts, first_capital
from delta_lora.suite.records.records import Run, read_runs
from delta_lora.suite.tables.build import build_table
from delta_lora.suite.tables.claims import check_claims
from delta_lora.suite.tables.compare import PairedBootstrap
from delta_lora.suite.tables.figure3 import build_figure3
from delta_lora.suite.tables.figure3_claims import check_similarity, share_texts
from delta_lora.suite.tables.spec import names_with, own_tables
from delta_lora.suite.tables.table import comparable
from delta_lora.suite.tables.verdicts import counts

VERDICT_NOTE = (
    "A sentence about all of its comparisons holds if every one-sided 95 % bound lies where the sentence says, and "
    "fails if one lies outside after Holm's adjustment over them; of a sentence about any of them it is the reverse. "
    "Else it is undecided; or it cannot be decided with this test set, which would show the paper's gain only with the "
    "power that stands beside it, whatever the number of runs. No verdict below three seeds, a provisional one below "
    "five."
)
FIELDS = ["where", "sentence", "sentence's verdict", *CLAIM_HEADS]


@dataclass(frozen=True)
class Sentence:
    """A sentence as text: where its numbers stand, its comparisons under `CLAIM_HEADS`, its verdict."""

    place: str
    says: str
    comparisons: list[list[str]]
    verdict: str


@dataclass
class Found:
    """What all tables and figures hold: the sentences, the runs that stand in them, the records that were left out."""

    sentences: list[Sentence]
    runs: dict[str, Run]
    problems: dict[str, None]
    diverged: dict[str, None]


def render_claims(overrides: Sequence[str], force: bool = False) -> tuple[list[Sentence], list[str], list[Path]]:
    """Check all sentences against the finished runs and write ``claims.md`` and ``claims.csv``.

    Args:
        overrides: what every table shares: ``["scale=tiny", "seed=1,2,3"]``.
        force: replace a page that was made from more runs.

    Returns:
        The sentences, the records that were left out and why, and the files below ``<results_dir>/<scale>``.

    Raises:
        UserError: not one finished run of any table, or the page is of more runs.
    """
    grids = paper_grids(overrides)
    folder = folder_of(grids[0])
    found = collect(grids, read_runs(folder.parent))
    problems = list(found.problems)
    if not found.runs:
        reasons = "".join(f"{problem}; " for problem in problems)
        raise UserError(
            f"{reasons}no finished run of any table in {folder.parent / 'runs'}: "
            f"make tables SCALE={grids[0].config.scale.name}, or for one of them {grids[0].command}"
        )
    paths = [folder / "claims.md", folder / "claims.csv"]
    check_fuller(paths[0], len(found.runs), force)
    for path, text in zip(paths, (page(found, grids[0]), to_csv(found.sentences)), strict=True):
        write_whole(path, text)
    return found.sentences, problems, paths


def paper_grids(overrides: Sequence[str]) -> list[Grid]:
    """Those of the paper's tables and figures that a scale has; sentences of one's own stand on their tables' pages."""
    without = {*left_out(overrides), *own_tables()}
    names = [name for name in (*names_with("table"), *names_with("figure")) if name not in without]
    return [compose_grid([f"table={name}", *overrides]) for name in names]


def collect(grids: Sequence[Grid], runs: Sequence[Run]) -> Found:
    """All sentences of tables and figures held against runs."""
    found = Found([], {}, {}, {})
    bootstrap = bootstrap_of(grids[0])
    for grid in grids:
        add(grid, runs, bootstrap, found)
    return found


def add(grid: Grid, runs: Sequence[Run], bootstrap: PairedBootstrap, found: Found) -> None:
    """Add one table's or figure's sentences to what is ``found``."""
    if "figure" in grid.config:
        figure = build_figure3(grid, runs)
        used, problems = figure.runs, figure.problems
        found.diverged |= {f"{figure.heading}: {line}": None for line in figure_page.diverged_of(figure)}
        for similar in check_similarity(figure):
            texts = [share_texts(similar, share, comparable(grid)) for share in similar.shares]
            verdict = similar.verdict.text(comparable(grid))
            found.sentences.append(Sentence(figure.heading, similar.claim.says, texts, verdict))
    else:
        table = build_table(grid, runs)
        used, problems = table.runs, table.problems
        found.diverged |= {f"{table.heading}: {line}": None for line in diverged_runs(table)}
        for claim in check_claims(table, bootstrap):
            texts = [comparison_texts(table, comparison) for comparison in claim.comparisons]
            found.sentences.append(Sentence(table.heading, claim.says, texts, claim.text(table.reproduces)))
    found.runs |= {run.key: run for run in used}
    found.problems |= dict.fromkeys(problems)


def page(found: Found, grid: Grid) -> str:
    """The whole page: the warning, a line per sentence, then every comparison; ``grid``: of any of the tables."""
    lines = [f"# The paper's claims, scale {grid.config.scale.name}", ""]
    if warning(grid):
        lines += [
            "> **Not comparable with the paper: ours are other models, or other or less data. The paper's gains stand "
            "beside ours for orientation only.**",
            "",
        ]
    lines += [f"{tally(found.sentences)}. {VERDICT_NOTE}", "", *markdown_table(summary(found.sentences))]
    seeds = sorted({run.config["seed"] for run in found.runs.values()})
    lines += ["", f"From {len(found.runs)} runs, seeds {', '.join(map(str, seeds))}.", ""]
    lines += [f"- {escape_markdown(line)}" for line in found.diverged]
    lines += [f"- Left out: {escape_markdown(problem)}." for problem in found.problems]
    lines += ["", f"Tables: {CLAIM_NOTE}", "", f"Figure 3: {figure_page.CLAIM_NOTE}"]
    place = ""
    for sentence in found.sentences:
        if sentence.place != place:
            place = sentence.place
            lines += ["", f"## {escape_markdown(place)}"]
        lines += ["", f"**{escape_markdown(sentence.says)}.** {first_capital(sentence.verdict)}.", ""]
        lines += markdown_table(Texts(CLAIM_HEADS, sentence.comparisons, CLAIM_NUMBERS))
    return "\n".join(lines) + "\n"


def summary(sentences: Sequence[Sentence]) -> Texts:
    """A line per sentence: where it stands, what it says, how its comparisons ended, and itself."""
    lines = [[sentence.place, sentence.says, count(sentence), sentence.verdict] for sentence in sentences]
    return Texts(["Where", "The paper says", "Comparisons", "Verdict"], lines)


def tally(sentences: Sequence[Sentence]) -> str:
    """``14 sentences: 3 reproduced, 8 undecided, …``"""
    return f"{len(sentences)} sentences: {counts(sentence.verdict for sentence in sentences)}"


def count(sentence: Sentence) -> str:
    """``3 reproduced, 2 undecided`` of a sentence's comparisons."""
    return counts(texts[-1] for texts in sentence.comparisons)


def to_csv(sentences: Sequence[Sentence]) -> str:
    """A line per comparison, under `FIELDS`."""
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(FIELDS)
    for sentence in sentences:
        writer.writerows([sentence.place, sentence.says, sentence.verdict, *texts] for texts in sentence.comparisons)
    return file.getvalue()


def read_csv(text: str) -> list[Sentence]:
    """The sentences of a file of `to_csv`, in its order."""
    found: dict[tuple[str, str, str], list[list[str]]] = {}
    for place, says, verdict, *texts in list(csv.reader(StringIO(text)))[1:]:
        found.setdefault((place, says, verdict), []).append(texts)
    return [Sentence(place, says, texts, verdict) for (place, says, verdict), texts in found.items()]
