"""Keep the finished runs that a scale's tables show, small enough for a repository: <results_dir>/<scale>/runs.

python scripts/keep.py scale=laptop seed=1,2,3

Of each run: its record, predictions, similarities and log; no weights. Kept runs are found like those made here.
"""

import sys

from delta_lora.places import place
from delta_lora.suite.cli import per_table, words_main


def main(overrides: list[str]) -> None:
    """Keep the runs of all tables of the scale, and those by which its settings were chosen."""
    from delta_lora.suite.config.grid import compose_grid  # imported late: --help answers at once
    from delta_lora.suite.records.keep import keep_run
    from delta_lora.suite.records.records import made_runs

    grids = [compose_grid(words) for words in per_table(["all", "chosen", *overrides])]
    results = place("results_dir", grids[0].config.results_dir)
    keys = {cell.key for grid in grids for cell in grid.cells}
    scale = grids[0].config.scale.name
    made = [run for run in made_runs(results) if run.config["scale"]["name"] == scale]
    found = [run for run in made if run.key in keys]
    new = [folder for run in found if (folder := keep_run(run, results)) is not None]
    kept = results / scale / "runs"
    size = sum(path.stat().st_size for path in kept.rglob("*") if path.is_file())
    print(f"{len(new)} new of {len(found)} finished runs kept in {kept}, which has {size / 1e6:.1f} MB now")
    if others := len(made) - len(found):
        print(f"{others} other finished runs of scale {scale} are in no table of it with these seeds and overrides")


if __name__ == "__main__":
    sys.exit(words_main(__doc__, "OVERRIDE", main))
