"""HTML: Jinja2 templates and the report's style sheet, of which `templates/` has one file each."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from delta_lora.suite.pages.texts import Texts
from delta_lora.suite.pages.view import TableView

BETTER, WORSE = "#cfe3f2", "#fbdcc0"  # tints of Okabe and Ito's blue and vermilion
HEADS = {"text": "ours", "paper": "paper", "difference": "difference", "gain": "gain", "paper_gain": "paper’s gain"}
ARROWS = {"better": "▲", "worse": "▼", "same": "="}  # for those who see no colours

TEMPLATES = Environment(
    loader=PackageLoader("delta_lora.suite.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def table_html(view: TableView) -> str:
    """A table's cells; coloured: the difference from the paper's where it may stand, else a gain the seeds bear out."""
    tints = {"better": BETTER, "worse": WORSE}
    return TEMPLATES.get_template("table.html").render(view=view, heads=HEADS, arrows=ARROWS, tints=tints)


def texts_html(texts: Texts) -> str:
    """A table of texts."""
    return TEMPLATES.get_template("texts.html").render(texts=texts)


def examples_html(items: Sequence[Mapping[str, Any]]) -> str:
    """Test items: each one's input, references and outputs."""
    return TEMPLATES.get_template("examples.html").render(items=items)


def message_html(text: str, strong: bool = False) -> str:
    """A line of text."""
    return TEMPLATES.get_template("message.html").render(text=text, strong=strong)


def report_html(scale: str, sections: Sequence[tuple[str, str]]) -> str:
    """One page with its own style and no script: nothing on it is fetched from anywhere.

    Args:
        sections: a name and the HTML below it, each.
    """
    return TEMPLATES.get_template("report.html").render(scale=scale, sections=sections)
