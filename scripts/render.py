"""Render tables from finished runs; nothing is trained.

    python scripts/render.py table1 scale=tiny
    python scripts/render.py table1 table5 scale=paper seed=1,2,3

Bare words are tables; the rest are the overrides that `scripts/train.py -m` was given. Each table is
printed, and written to <results_dir>/<scale>/table<N>.{md,csv,tex}.
"""

import argparse
import logging
import sys

from rich.console import Console

from delta_lora.suite.cli import guard, per_table


def main(arguments: list[str]) -> None:
    """Render every table asked for."""
    from delta_lora.suite.render import render_table, terminal  # imported late: --help answers at once

    console = Console(width=None if sys.stdout.isatty() else 140)
    for overrides in per_table(arguments):
        with console.status(f"{overrides[0] if overrides else 'table'}: reading runs, resampling test items"):
            table, claims, paths = render_table(overrides)
        for problem in table.problems:
            print(f"warning: {problem}", file=sys.stderr)
        console.print(terminal(table, claims))
        console.print(f"Written: {', '.join(map(str, paths))}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    logging.basicConfig(format="warning: %(message)s", level=logging.WARNING)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("arguments", nargs="*", metavar="TABLE or OVERRIDE")
    given = parser.parse_args().arguments
    sys.exit(guard(lambda: main(given)))
