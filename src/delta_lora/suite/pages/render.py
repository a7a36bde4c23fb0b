"""A table rendered: built from the finished runs, held against its claims, written as files."""

from collections.abc import Sequence
from pathlib import Path

from delta_lora.files import write_whole
from delta_lora.places import place
from delta_lora.suite.config.grid import Grid, compose_grid
from delta_lora.suite.pages.fuller import check_fuller
from delta_lora.suite.pages.latex import latex
from delta_lora.suite.pages.markdown import markdown
from delta_lora.suite.pages.view import TableView, table_view
from delta_lora.suite.records.records import NoRunError, read_runs
from delta_lora.suite.tables.build import build_table
from delta_lora.suite.tables.claims import check_claims
from delta_lora.suite.tables.compare import PairedBootstrap, resampler_of
from delta_lora.suite.tables.csv_file import to_csv
from delta_lora.suite.tables.table import Table


def render_table(overrides: Sequence[str], force: bool = False) -> tuple[Table, TableView, list[Path]]:
    """Build a table from the finished runs, hold its claims against them, and write its files.

    Args:
        overrides: as ``scripts/train.py -m`` takes them: ``["table=table1", "scale=tiny", "seed=1,2,3"]``.
        force: replace a page that was made from more runs.

    Returns:
        The table, its view with the claims, and the files below ``<results_dir>/<scale>``.

    Raises:
        UserError: no such table, or not one finished run of it; it names the command that makes them.
            Or the page is of more runs, and ``force`` is False.
        HydraException, OmegaConfBaseException: Hydra cannot compose the overrides.
    """
    grid = compose_grid(overrides)
    table = find_table(grid)
    check_fuller(folder_of(grid) / f"{grid.table}.md", len(table.runs), force)
    view = table_view(table, check_claims(table, bootstrap_of(grid)))
    return table, view, write_table(table, view, folder_of(grid))


def find_table(grid: Grid) -> Table:
    """The table of a grid, from the finished runs in its ``results_dir``.

    Raises:
        UserError: there is not one; it names the command that makes them.
    """
    results = place("results_dir", grid.config.results_dir)
    table = build_table(grid, read_runs(results))
    if not table.runs:
        left_out = "".join(f"{problem}; " for problem in table.problems)
        raise NoRunError(f"{left_out}no finished run of this table in {results / 'runs'}: {grid.command}")
    return table


def bootstrap_of(grid: Grid) -> PairedBootstrap:
    """The bootstrap, which keeps the scores of each run's resamples in the cache."""
    return PairedBootstrap(resampler_of, place("cache_dir", grid.config.cache_dir) / "resampled")


def folder_of(grid: Grid) -> Path:
    """``<results_dir>/<scale>``: where what was rendered lies."""
    return place("results_dir", grid.config.results_dir) / grid.config.scale.name


def texts_of(table: Table, view: TableView) -> dict[str, str]:
    """A table's files that are text, by suffix."""
    return {"md": markdown(view), "csv": to_csv(table), "tex": latex(view)}


def write_table(table: Table, view: TableView, folder: Path) -> list[Path]:
    """Write ``<name>.md``, ``.csv`` and ``.tex`` into a folder, curves of a sweep too, and return their paths."""
    paths = []
    for suffix, text in texts_of(table, view).items():
        paths.append(folder / f"{view.name}.{suffix}")
        write_whole(paths[-1], text)
    if not view.curves:
        return paths
    from delta_lora.suite.pages.plots import draw_curves, save  # imported late: Matplotlib is for tables with curves

    return [*paths, *save(draw_curves(table), folder / view.name)]
