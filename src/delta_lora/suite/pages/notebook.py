"""What the notebooks show: pieces of a page, each of the scale that `delta_lora.suite.pages.loading` finds it at."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

from delta_lora.places import variable
from delta_lora.suite.config.grid import compose_grid
from delta_lora.suite.pages import claims_page
from delta_lora.suite.pages.figure_page import rank_texts
from delta_lora.suite.pages.html import examples_html, message_html, table_html, texts_html
from delta_lora.suite.pages.loading import (
    SCALES,
    Shown,
    examples,
    message,
    overrides,
    results_dir,
    scale,
    similarity,
    table,
)
from delta_lora.suite.pages.plots import draw_curves, draw_similarity, draw_spectra, image
from delta_lora.suite.pages.texts import Texts
from delta_lora.suite.pages.view import table_view
from delta_lora.suite.tables.figure3 import seeds_said
from delta_lora.suite.tables.spec import names_with, own_tables
from delta_lora.suite.tables.table import Table


class Picture:
    """A PNG image and what it shows in words."""

    def __init__(self, png: bytes, text: str) -> None:
        self.png, self.text = png, text

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data = {"image/png": b64encode(self.png).decode(), "text/plain": self.text}
        return data, {"image/png": {"alt": self.text}}

    def __repr__(self) -> str:
        return self.text


def face() -> Shown:
    """What must be known before the numbers are read: the scale, or what is of which, and what may be compared."""
    of: dict[str, list[str]] = {}
    for name in (*names_with("table"), *names_with("figure")):
        if (results_dir() / (one := scale(f"{name}.csv")) / f"{name}.csv").is_file():
            of.setdefault(one, []).append(name)
    each = "; ".join(f"{one}: {', '.join(of[one])}" for one in SCALES if one in of) or "none"
    text = f"Each table and figure at the largest scale that there are results of: {each}."
    if asked := variable("DELTA_LORA_SCALE"):
        of, text = {asked: []}, f"Scale {asked}."
    if not all(compose_grid([*overrides("table1", one), "method=lora"]).config.scale.comparable for one in of):
        text += (
            " Not comparable with the paper: the models and the data are others. Compare our rows with each other; "
            "the paper's numbers are shown for orientation only."
        )
    return Shown(message_html(text, strong=True), text)


def show_table(name: str) -> Shown:
    """What ours are of, and ours, the paper's and the gains; coloured by what is better."""
    found = table(name)
    if isinstance(found, Shown):
        return found
    view = table_view(found)
    warning = message_html(view.warning) if view.warning else ""
    return Shown(warning + table_html(view), f"{view.warning}\n{view.texts}".lstrip())


def show_own_tables() -> Shown:
    """The tables in ``configs/table`` that are not the paper's, one below the other."""
    shown: list[Shown] = []
    for name in own_tables():
        found = table(name)
        if isinstance(found, Table):
            title = table_view(found).title
            shown.append(Shown(message_html(title, strong=True), ""))
        shown.append(show_table(name))
    if not shown:
        return message("There are no others: a table of one's own is one more YAML file in configs/table.")
    return Shown("".join(part.html for part in shown), "\n".join(part.text for part in shown if part.text))


def show_curves(name: str) -> Shown | Picture:
    """The scores of a sweep, such as Table 7 or 8, over its setting, with the paper's curve where it has one."""
    found = table(name)
    if isinstance(found, Shown):
        return found
    return Picture(image(draw_curves(found), "png"), f"Curves of {found.heading}, scale {found.grid.config.scale.name}")


def show_shape(name: str) -> Shown:
    """The shape of a table's columns: which row is best, and whether ours rank as the paper's do."""
    found = table(name)
    if isinstance(found, Shown):
        return found
    texts = table_view(found).shape
    return message(f"{found.heading} has no shape to show") if texts is None else plain_table(texts)


def show_similarity() -> Shown | Picture:
    """Figure 3."""
    found = similarity()
    if isinstance(found, Shown):
        return found
    return Picture(image(draw_similarity(found), "png"), f"Figure 3, scale {scale('figure3.csv')}")


def show_spectra() -> Shown | Picture:
    """The singular values and ranks of the updates."""
    found = similarity()
    if isinstance(found, Shown):
        return found
    return Picture(image(draw_spectra(found), "png"), "Singular values and ranks of the updates")


def show_ranks() -> Shown:
    """How far each method moves the weights, and the rank of its updates, with the seeds of Figure 3 above."""
    found = similarity()
    if isinstance(found, Shown):
        return found
    said, shown = message(f"Scale {scale('figure3.csv')}. {seeds_said(found)}"), plain_table(rank_texts(found))
    return Shown(said.html + shown.html, f"{said.text}\n{shown.text}")


def show_claims() -> Shown:
    """A line per sentence of the paper, as last rendered: resampling takes minutes, so it is not done here."""
    at = scale("claims.csv")
    path = results_dir() / at / "claims.csv"
    if not path.is_file():
        return message(f"claims.csv: nothing rendered of it; make claims SCALE={at}")
    said = message(f"Scale {at}, as last rendered ({path.with_suffix('.md').name} has every comparison).")
    shown = plain_table(claims_page.summary(claims_page.read_csv(path.read_text(encoding="utf-8"))))
    return Shown(said.html + shown.html, f"{said.text}\n{shown.text}")


def plain_table(texts: Texts) -> Shown:
    """A table of texts."""
    return Shown(texts_html(texts), "\n".join(" | ".join(line) for line in (texts.heads, *texts.lines)))


def show_examples(task: str) -> Shown:
    """A task's test items: the input, the references, and each method's text."""

    def holds(path: Path) -> bool:
        return path.is_file() and any(one["task"] == task for one in json.loads(path.read_text(encoding="utf-8")))

    found = examples(at := scale("examples.json", holds))
    if isinstance(found, Shown):
        return found
    chosen = next((one for one in found if one["task"] == task), None)
    if chosen is None:
        return message(f"{task}: no finished run; make tables SCALE={at}")
    plain = []
    for item in chosen["items"]:
        rows = [("Input", item["input"]), *(("Reference", text) for text in item["references"])]
        plain += [f"{name}: {text}" for name, text in (*rows, *item["outputs"].items())] + [""]
    return Shown(message_html(f"Scale {at}.") + examples_html(chosen["items"]), "\n".join([f"Scale {at}.", *plain]))
