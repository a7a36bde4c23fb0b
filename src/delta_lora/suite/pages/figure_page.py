"""Figure 3 as files: its numbers as CSV, two plots, and a page with the ranks and the claims."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from delta_lora.files import write_whole
from delta_lora.suite.pages.claim_texts import CLAIM_HEADS, CLAIM_NUMBERS
from delta_lora.suite.pages.fuller import check_fuller
from delta_lora.suite.pages.markdown import escape_markdown, markdown_table
from delta_lora.suite.pages.plots import draw_similarity, draw_spectra, save
from delta_lora.suite.pages.provenance import diverged_line, facts, models, to_train, warning
from delta_lora.suite.pages.render import folder_of
from delta_lora.suite.pages.texts import Texts, first_capital
from delta_lora.suite.tables.build import diverged_runs
from delta_lora.suite.tables.figure3 import Figure3, find_figure3, of_shared_seeds, seeds_said, to_csv
from delta_lora.suite.tables.figure3_claims import CheckedSimilarity, check_similarity, share_texts
from delta_lora.suite.tables.table import comparable

CLAIM_NOTE = (
    "Ours: in how many blocks a method lies beyond the others. Interval and verdict as in the tables, with blocks "
    "in the place of test items, of which weights have none (docs/statistics.md)."
)
RANK_NOTE = (
    "What the paper does not show: the rank of each learned update W − W₀ and its length. Delta-LoRA's update is a "
    "difference of two products of rank r, so its rank is at most 2r, whatever the number of weights that move. A rank "
    "counts every singular value above rounding; how many of them matter say the stable rank ‖W − W₀‖² / σ₁², the "
    "entropy rank exp(−Σ p ln p) with p = σ / Σσ (Roy and Vetterli 2007), and the part of the energy ‖W − W₀‖² "
    "beyond LoRA's rank r: what no LoRA of that rank could hold. All are means over the matrices."
)
SAME_RATE = (
    "All methods have one learning rate here, as in the paper, since an update's length grows with the rate; LoRA at "
    "(1+λ)α is not the paper's: its branch has the scale that Delta-LoRA's has after step K (docs/delta-lora.md)."
)
RANK_HEADS = ["Method", "Cosine: mean", "lowest", "highest", "‖W − W₀‖ / ‖W₀‖: mean", "Rank", "Limit of the rank"]
SPECTRUM = {"stable_rank": "Stable rank", "entropy_rank": "Entropy rank", "beyond": "Energy beyond r"}


def render_figure3(
    overrides: Sequence[str], force: bool = False
) -> tuple[Figure3, list[CheckedSimilarity], list[Path]]:
    """Build the figure from the finished runs, check its claims and write its files.

    Returns:
        The figure, its claims, and ``figure3.{md,csv,png,svg}`` and ``figure3-updates.{png,svg}`` below
        ``<results_dir>/<scale>``.

    Raises:
        UserError: no usable run of it; it names the command that makes them. Or the page is of more runs, and ``force``
            is False.
    """
    figure = find_figure3(overrides)
    claims = check_similarity(figure)
    folder, name = folder_of(figure.grid), figure.name
    check_fuller(folder / f"{name}.md", len(figure.runs), force)
    paths = [folder / f"{name}.csv", folder / f"{name}.md"]
    for path, text in zip(paths, (to_csv(figure.frame), page(figure, claims)), strict=True):
        write_whole(path, text)
    images = [
        save(draw_similarity(figure.frame), folder / name),
        save(draw_spectra(figure.frame), folder / f"{name}-updates"),
    ]
    return figure, claims, [*paths, *images[0], *images[1]]


def page(figure: Figure3, claims: Sequence[CheckedSimilarity]) -> str:
    """The whole page: the warning, the plots, the ranks, where it comes from, the claims."""
    lines = [f"# {title(figure)}", ""]
    if said := warning(figure.grid, figure.spec.number is not None):
        lines += [f"> **{escape_markdown(said)}**", ""]
    lines += [f"![Cosine similarity over blocks]({figure.name}.png)", "", SAME_RATE, ""]
    lines += ["## The updates", "", f"{RANK_NOTE} {seeds_said(figure.frame)}", ""]
    lines += [f"![Singular values and ranks]({figure.name}-updates.png)", ""]
    lines += [*markdown_table(rank_texts(figure.frame)), ""]
    missing = len({cell.key for cell in figure.grid.cells}) - len(figure.runs)
    lines += [f"- {escape_markdown(line)}" for line in diverged_of(figure)]
    lines += [f"- Left out: {escape_markdown(problem)}." for problem in figure.problems]
    if missing > len(figure.problems):
        lines += [f"- {to_train(figure.grid)}"]
    lines += ["", "**From** " + " · ".join(escape_markdown(fact) for fact in facts(figure.grid, figure.runs))]
    lines += ["", "## Claims", "", CLAIM_NOTE]
    for checked in claims:
        ours = comparable(figure.grid)
        texts = [share_texts(checked, share, ours) for share in checked.shares]
        lines += ["", f"**{escape_markdown(checked.claim.says)}.** {first_capital(checked.verdict.text(ours))}.", ""]
        lines += markdown_table(Texts(CLAIM_HEADS, texts, CLAIM_NUMBERS))
    return "\n".join(lines) + "\n"


def diverged_of(figure: Figure3) -> list[str]:
    """A line for each of its runs whose training came to nothing."""
    return [
        diverged_line(run.config["method"]["label"], text)
        for run in figure.runs
        for text in diverged_runs([run], many=False)
    ]


def title(figure: Figure3) -> str:
    """``Figure 3: Cosine similarity …, gpt2-tiny``."""
    return f"{figure.heading}: {figure.spec.title}, {', '.join(models(figure.grid))}"


def rank_texts(frame: pd.DataFrame) -> Texts:
    """A line per method under `RANK_HEADS` and `SPECTRUM`, over its blocks, both projections and the shared seeds.

    A ``figure3.csv`` that was rendered before they were measured has nothing for `SPECTRUM`.
    """
    lines, measured = [], [name for name in SPECTRUM if name in frame]
    for label, part in of_shared_seeds(frame).groupby("label", sort=False):
        cosine, rank, moved = part["cosine"], part["rank"], part["update_norm"] / part["weight_norm"]
        limits = sorted({text for text in part["rank_limit"] if text}, key=int)
        ranks = f"{rank.min():.0f}" + (f" to {rank.max():.0f}" if rank.max() > rank.min() else "")
        shown = [f"{value:.4f}" for value in (cosine.mean(), cosine.min(), cosine.max(), moved.mean())]
        spectrum = [f"{part[name].mean():.1%}" if name == "beyond" else f"{part[name].mean():.2f}" for name in measured]
        lines.append([str(label), *shown, ranks, " or ".join(limits) or "the matrix’s size", *spectrum])
    heads = [*RANK_HEADS, *(SPECTRUM[name] for name in measured)]
    return Texts(heads, lines, tuple(range(1, len(heads))))
