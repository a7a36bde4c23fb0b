"""A table as a Markdown page; rows, tables, and text that must not be read as markup."""

from collections.abc import Sequence

from delta_lora.suite.pages.claim_texts import ClaimView
from delta_lora.suite.pages.epochs import EPOCH_NOTE
from delta_lora.suite.pages.texts import Texts, first_capital
from delta_lora.suite.pages.view import Entry, TableView
from delta_lora.suite.pages.words import NOT_RUN

LONG = 8  # lines of comparisons that a page shows without being asked
CLAIM_NOTE = (
    "A gain is positive where the first row is better, also for scores of which a low one is good: the mean over the "
    "seeds of the difference on all inputs that were scored. Interval: 95 %, with the error of the runs and of these "
    "inputs (10,000 draws of them); with one run, of the inputs alone. The paper's size: no, where the interval lacks "
    "the paper's gain; yes, where it holds that and not 0. No verdict below three seeds, a provisional one below five. "
    "Of the verdicts on comparisons only those that decide their sentence alone (of all: it fails; of any: it holds) "
    "are adjusted for how many there are (docs/statistics.md)."
)
SHAPE_NOTE = (
    "Best of ours: among the rows that have been run. Spearman's ρ: the rank correlation of our column with the "
    "paper's (1: the same order, -1: the reverse) over the rows that both have, at least five: with fewer no order "
    "is significant. The critical value is what random orders reach in 5 % of cases, either way, at most."
)


def markdown(view: TableView) -> str:
    """The whole page: the warning, the table, how to read it, where it comes from, the shape, the claims."""
    lines = [f"# {escape_markdown(view.title)}", ""]
    if view.warning:
        lines += [f"> **{escape_markdown(view.warning)}**", ""]
    heads = [escape_markdown(column.head) for column in view.columns]
    lines += [markdown_row(heads), markdown_row(["--:" if column.score else ":--" for column in view.columns])]
    lines += [markdown_row([markdown_entry(entry) for entry in line]) for line in view.lines]
    lines += ["", *(f"- {note}" for note in view.notes)]
    lines += ["", "**From** " + " · ".join(escape_markdown(fact) for fact in view.facts)]
    if view.curves:
        lines += ["", f"![Curves of {view.heading}]({view.name}.png)"]
    if view.epochs is not None:
        lines += ["", "## The choice of the epoch", "", EPOCH_NOTE, "", *markdown_table(view.epochs)]
    if view.shape is not None:
        lines += ["", "## Shape", "", SHAPE_NOTE, "", *markdown_table(view.shape)]
    if view.claims:
        lines += ["", "## Claims", "", CLAIM_NOTE]
    for claim in view.claims:
        lines += ["", *markdown_claim(claim)]
    return "\n".join(lines) + "\n"


def markdown_claim(claim: ClaimView) -> list[str]:
    """A sentence, how it fared, and its comparisons, folded away where they are many."""
    heading = f"**{claim.says}.** {first_capital(claim.verdict)}; {claim.summary}."
    lines = markdown_table(claim.comparisons)
    if len(lines) <= LONG:
        return [heading, "", *lines]
    return [heading, "", "<details><summary>Comparisons</summary>", "", *lines, "", "</details>"]


def markdown_entry(entry: Entry) -> str:
    """Ours, and below it, small, the paper's, and both gains."""
    ours, paper = escape_markdown(entry.text).replace(" ± ", "\u00a0±\u00a0"), escape_markdown(entry.paper)
    ours = f"**{ours}**" if entry.best else f"*{ours}*" if ours == NOT_RUN else ours
    paper = f"**{paper}**" if entry.paper_best else paper
    return "<br>".join([ours, *(f"<sub>{text}</sub>" for text in (paper, entry.gains) if text)])


def markdown_row(cells: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def markdown_table(texts: Texts) -> list[str]:
    """The lines of a table of plain text."""
    rule = ["--:" if place in texts.numeric else ":--" for place in range(len(texts.heads))]
    body = [markdown_row([escape_markdown(text) for text in line]) for line in texts.lines]
    return [markdown_row(texts.heads), markdown_row(rule), *body]


def escape_markdown(text: str) -> str:
    """Text that markdown would read as markup: ``W_q``, ``a|b``, ``*``."""
    for character in "\\|*_<>`":
        text = text.replace(character, f"\\{character}")
    return text
