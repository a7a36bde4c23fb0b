"""The notebooks run, and put on one page that needs no network: ``report.html``."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

from delta_lora.errors import UserError
from delta_lora.files import write_whole
from delta_lora.suite.config.grid import compose_grid
from delta_lora.suite.pages.notebook import ROOT
from delta_lora.suite.pages.table import folder_of

NOTEBOOKS = ("tables", "sweeps", "similarity")
CELL_SECONDS = 600


def render_report(overrides: Sequence[str]) -> list[Path]:
    """Run the notebooks on one scale's results and write ``<results_dir>/<scale>/report.html``.

    Args:
        overrides: ``["scale=tiny"]``, and ``seed=1,2,3`` where there are several.

    Raises:
        UserError: nbconvert is not installed, or a notebook fails.
    """
    folder = folder_of(compose_grid(["table=table1", *overrides]))
    sections = [(name, as_html(execute(name, overrides))) for name in NOTEBOOKS]
    path = folder / "report.html"
    write_whole(path, page(folder.name, sections))
    return [path]


def run_in_place(overrides: Sequence[str]) -> list[Path]:
    """Run the notebooks and keep what they show in their own files, as they are committed."""
    import nbformat

    paths = []
    for name in NOTEBOOKS:
        notebook = execute(name, overrides)
        paths.append(ROOT / "notebooks" / f"{name}.ipynb")
        write_whole(paths[-1], nbformat.writes(notebook, indent=1) + "\n")
    return paths


def execute(name: str, overrides: Sequence[str]) -> Any:
    """A notebook after a run from top to bottom, without times and versions, so that equal results are equal files.

    Raises:
        UserError: nbconvert or a kernel is not installed, or a cell fails.
    """
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
    except ImportError as error:
        raise UserError(
            f"the report needs nbconvert and ipykernel ({error}): make setup, or pip install them"
        ) from None
    path = ROOT / "notebooks" / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        resources={"metadata": {"path": path.parent}},
    )
    with environment_for(overrides):
        try:
            client.execute()
        except CellExecutionError as error:
            raise UserError(f"notebooks/{name}.ipynb fails: {error.ename}: {error.evalue}") from None
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        if "outputs" in cell:  # libraries' remarks name paths of this machine
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


@contextmanager
def environment_for(overrides: Sequence[str]) -> Iterator[None]:
    """What `delta_lora.suite.notebook` reads, for the kernel that is started inside."""
    grid = compose_grid(["table=table1", *overrides])
    seeds = sorted({cell.config.seed for cell in grid.cells})
    values = {
        "DELTA_LORA_SCALE": grid.config.scale.name,
        "DELTA_LORA_RESULTS": str(Path(grid.config.results_dir).resolve()),
        "DELTA_LORA_SEEDS": ",".join(map(str, seeds)),
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def as_html(notebook: Any) -> str:
    """The notebook's text and results, without its code; images are data URIs."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="basic", exclude_input=True, exclude_output_prompt=True, exclude_anchor_links=True
    )
    body, _ = exporter.from_notebook_node(notebook)
    body = body.replace("<table", '<div class="wide"><table').replace("</table>", "</table></div>")
    return re.sub("<img[^>]*>", r'<div class="image">\g<0></div>', body)


def page(scale: str, sections: Sequence[tuple[str, str]]) -> str:
    """One page with its own style and no script: nothing on it is fetched from anywhere."""
    links = "".join(f'<a href="#{name}">{name.capitalize()}</a>' for name, _ in sections)
    body = "".join(f'<section id="{name}">{html}</section>' for name, html in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Delta-LoRA, scale {escape(scale)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<nav>{links}</nav>\n<main>{body}</main>\n</body>\n</html>\n"
    )


STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; color: #1b1b1b; background: #fff; font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
nav { position: sticky; top: 0; z-index: 1; display: flex; gap: 1.2rem; padding: .6rem 1rem; background: #10324a; }
nav a { color: #fff; text-decoration: none; }
nav a:hover, nav a:focus { text-decoration: underline; }
main { max-width: 1400px; margin: 0 auto; padding: 0 1rem 3rem; }
section { scroll-margin-top: 3rem; border-top: 1px solid #ddd; }
section:first-child { border-top: 0; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; } h3 { font-size: 1rem; }
.wide { overflow-x: auto; margin: .8rem 0; border: 1px solid #e3e3e3; border-radius: 4px; }
.wide { width: fit-content; max-width: 100%; } .wide:has(table.examples) { width: 100%; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .45rem; border-bottom: 1px solid #eee; text-align: right; white-space: nowrap; }
thead th { background: #f4f6f8; } thead th[colspan] { text-align: center; border-left: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
thead th:first-child { background: #f4f6f8; }
.jp-RenderedMarkdown td, .jp-RenderedMarkdown th { text-align: left; }
.jp-RenderedMarkdown td { white-space: normal; min-width: 6rem; }
table.examples { width: 100%; }
table.examples th { vertical-align: top; font-weight: 600; min-width: 7rem; max-width: 10rem; white-space: normal; }
table.examples td { white-space: normal; min-width: 15rem; }
tr.input { background: #f4f6f8; } tr.input th { background: #f4f6f8; } tr.reference td { color: #555; }
.image { overflow-x: auto; } .image img { max-width: 100%; height: auto; }
pre { overflow-x: auto; }
@media (max-width: 600px) {
  body { font-size: 14px; } th, td { padding: .25rem .4rem; }
  th:first-child, td:first-child { max-width: 9rem; white-space: normal; }
  table.examples th { min-width: 5.5rem; }
  th:first-child, td:first-child { min-width: 4.5rem; }
  .image img { max-width: none; width: 680px; }
}
"""
