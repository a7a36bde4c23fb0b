"""The notebooks run, and put on one page that needs no network: ``report.html``."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from delta_lora.errors import UserError
from delta_lora.files import write_whole
from delta_lora.places import place
from delta_lora.suite.config.grid import compose_grid
from delta_lora.suite.pages.fuller import check_numbers
from delta_lora.suite.pages.html import report_html
from delta_lora.suite.pages.loading import ROOT
from delta_lora.suite.pages.render import folder_of

NOTEBOOKS = ("tables", "sweeps", "similarity")
CELL_SECONDS = 600


def render_report(overrides: Sequence[str], force: bool = False) -> list[Path]:
    """Run the notebooks on one scale's results and write ``<results_dir>/<scale>/report.html``.

    Args:
        overrides: ``["scale=tiny"]``, and ``seed=1,2,3`` where there are several.
        force: replace a page that shows more numbers.

    Raises:
        UserError: nbconvert is not installed, a notebook fails, or the page shows more numbers.
    """
    folder = folder_of(compose_grid(["table=table1", *overrides]))
    sections = [(name, as_html(execute(name, overrides))) for name in NOTEBOOKS]
    path = folder / "report.html"
    text = report_html(folder.name, sections)
    check_numbers(path, text, force)
    write_whole(path, text)
    return [path]


def run_in_place(overrides: Sequence[str], force: bool = False) -> list[Path]:
    """Run the notebooks and keep what they show in their own files, as they are committed.

    Args:
        overrides: as for :func:`render_report`; without a scale each table is of the largest that has it.
        force: replace notebooks that show more numbers.

    Raises:
        UserError: nbconvert is not installed, a notebook fails, or one shows more numbers; then all stay as they are.
    """
    import nbformat

    folder = ROOT / "notebooks"
    one_scale = any(given.startswith("scale=") for given in overrides)
    found = {
        folder / f"{name}.ipynb": nbformat.writes(execute(name, overrides, one_scale), indent=1) + "\n"
        for name in NOTEBOOKS
    }
    for path, text in found.items():
        check_numbers(path, text, force)
    for path, text in found.items():
        write_whole(path, text)
    return list(found)


def execute(name: str, overrides: Sequence[str], one_scale: bool = True) -> Any:
    """A notebook after a run from top to bottom, without times and versions, so that equal results are equal files.

    Args:
        one_scale: everything is of the overrides' scale, or each table of the largest that has it.

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
    with environment_for(overrides, one_scale):
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
def environment_for(overrides: Sequence[str], one_scale: bool) -> Iterator[None]:
    """What `delta_lora.suite.pages.notebook` reads, for the kernel that is started inside."""
    grid = compose_grid(["table=table1", *overrides])
    seeds = sorted({cell.config.seed for cell in grid.cells})
    values = {
        "DELTA_LORA_SCALE": grid.config.scale.name if one_scale else "",
        "DELTA_LORA_RESULTS": str(place("results_dir", grid.config.results_dir)),
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
