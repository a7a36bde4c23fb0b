"""``claims.md``: every comparative sentence of the paper's §5 and appendix A.2, and how it fared in our runs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from delta_lora.errors import UserError
from delta_lora.files import write_whole
from delta_lora.suite.config.grid import Grid, compose_grid
from delta_lora.suite.pages import figure3 as render_figure3
from delta_lora.suite.pages import layout
from delta_lora.suite.pages.markdown import escape_markdown, markdown_table
from delta_lora.suite.pages.table import CLAIM_HEADS, CLAIM_NOTE, bootstrap_of, folder_of, tables
from delta_lora.suite.records.records import Run, read_runs
from delta_lora.suite.tables.build import build_table
from delta_lora.suite.tables.claims import check_claims
from delta_lora.suite.tables.compare import Verdict
from delta_lora.suite.tables.figure3 import build_figure3, check_similarity, share_texts

VERDICT_NOTE = (
    "A sentence is reproduced if every comparison that it makes is; not reproduced if one is not; else not run, if "
    "one has not been run; else within noise."
)


@dataclass(frozen=True)
class Sentence:
    """A sentence of the paper, as text: where its numbers stand, its comparisons under `CLAIM_HEADS`, its verdict."""

    place: str
    says: str
    comparisons: list[list[str]]
    verdict: Verdict


def render_claims(overrides: Sequence[str]) -> tuple[list[Sentence], list[str], list[Path]]:
    """Check all sentences against the finished runs and write ``claims.md``.

    Args:
        overrides: what every table shares: ``["scale=tiny", "seed=1,2,3"]``.

    Returns:
        The sentences, the records that were left out and why, and the file below ``<results_dir>/<scale>``.

    Raises:
        UserError: not one finished run of any table.
    """
    sentences: list[Sentence] = []
    problems: dict[str, None] = {}
    used: dict[str, Run] = {}
    grids = [compose_grid([f"table={name}", *overrides]) for name in [*tables(), "figure3"]]
    folder = folder_of(grids[0])
    runs = read_runs(folder.parent)
    bootstrap = bootstrap_of(grids[0])
    for grid in grids:
        if "figure" in grid.config:
            figure = build_figure3(grid, runs)
            found, left_out = figure.runs, figure.problems
            for similar in check_similarity(figure):
                texts = [share_texts(similar, share) for share in similar.shares]
                sentences.append(Sentence("Figure 3", similar.claim.says, texts, similar.verdict))
        else:
            table = build_table(grid, runs)
            found, left_out = table.runs, table.problems
            for claim in check_claims(table, bootstrap):
                texts = [layout.comparison_texts(table, comparison) for comparison in claim.comparisons]
                sentences.append(Sentence(f"Table {table.spec.number}", claim.says, texts, claim.verdict))
        used |= {run.key: run for run in found}
        problems |= dict.fromkeys(left_out)
    if not used:
        reasons = "".join(f"{problem}; " for problem in problems)
        raise UserError(
            f"{reasons}no finished run of any table in {folder.parent / 'runs'}: "
            f"make tables SCALE={grids[0].config.scale.name}, or for one of them {grids[0].command}"
        )
    write_whole(folder / "claims.md", page(sentences, grids, list(used.values()), list(problems)))
    return sentences, list(problems), [folder / "claims.md"]


def page(sentences: Sequence[Sentence], grids: Sequence[Grid], runs: Sequence[Run], problems: Sequence[str]) -> str:
    """The whole page: the warning, a line per sentence, then every comparison."""
    lines = [f"# The paper's claims, scale {grids[0].config.scale.name}", ""]
    if layout.warning(grids[0]):
        lines += [
            "> **Not comparable with the paper: ours are other models, or other or less data. The paper's gains stand "
            "beside ours for orientation only.**",
            "",
        ]
    lines += [f"{tally(sentences)}. {VERDICT_NOTE}", ""]
    lines += markdown_table(
        ["Where", "The paper says", "Comparisons", "Verdict"],
        [[line.place, line.says, count(line), line.verdict] for line in sentences],
    )
    lines += ["", f"From {len(runs)} runs, seeds {', '.join(map(str, seeds(runs)))}.", ""]
    lines += [f"- Left out: {escape_markdown(problem)}." for problem in problems]
    lines += ["", f"Tables: {CLAIM_NOTE}", "", f"Figure 3: {render_figure3.CLAIM_NOTE}"]
    place = ""
    for sentence in sentences:
        if sentence.place != place:
            place = sentence.place
            lines += ["", f"## {place}"]
        lines += ["", f"**{escape_markdown(sentence.says)}.** {sentence.verdict.capitalize()}.", ""]
        lines += markdown_table(CLAIM_HEADS, sentence.comparisons, numeric=(1, 2, 3))
    return "\n".join(lines) + "\n"


def seeds(runs: Sequence[Run]) -> list[int]:
    """The runs' seeds, ascending."""
    return sorted({run.config["seed"] for run in runs})


def tally(sentences: Sequence[Sentence]) -> str:
    """``14 sentences: 3 reproduced, 8 within noise, …``"""
    counted = Counter(sentence.verdict for sentence in sentences)
    parts = [f"{counted[verdict]} {verdict}" for verdict in get_args(Verdict) if counted[verdict]]
    return f"{len(sentences)} sentences: {', '.join(parts)}"


def count(sentence: Sentence) -> str:
    """``3 reproduced, 2 within noise`` of a sentence's comparisons."""
    counted = Counter(texts[-1] for texts in sentence.comparisons)
    return ", ".join(f"{counted[verdict]} {verdict}" for verdict in get_args(Verdict) if counted[verdict])
