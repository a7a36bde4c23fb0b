"""What tables will cost, before anything is spent: cells, what is done, hours, downloads, disk.

    python scripts/plan.py table1 table4 scale=paper seed=1,2,3
    python scripts/plan.py table1 jobs=4 measure=true      # time a few steps of what nothing here has timed yet

Bare words are tables and figures, by their file in configs/table: table1, figure3, …; or all (the default). jobs=N:
cells at a time. The rest are the overrides that `scripts/train.py -m` will be given. Hours are those of training and
decoding, from this machine's own runs or from what measure=true has timed; where neither is, there is a dash. A plan
needs no GPU and no network.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from delta_lora.errors import UserError
from delta_lora.suite.cli import per_table, words_main

if TYPE_CHECKING:
    from delta_lora.suite.plan.plan import Plan, PlannedCell


def taken(arguments: list[str], name: str, default: str) -> tuple[str, list[str]]:
    """The value of a ``name=value`` of this script's own, and the other arguments."""
    own = [word for word in arguments if word.startswith(f"{name}=")]
    return (own[-1].partition("=")[2] if own else default), [word for word in arguments if word not in own]


def number(value: float | None) -> str:
    """``0.031``, ``4.07``, ``1,234``, or a dash."""
    if not value:
        return "–" if value is None else "0"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def table(name: str, cells: "Sequence[PlannedCell]", device: str) -> Table:
    """One row for each setting, over the seeds; hours of cells that a table before has counted stand there."""
    found = Table(title=name, title_justify="left", title_style="bold")
    for title in ("cell", "runs", "done", "steps each", "examples/s", f"hours left ({device})", "counted in"):
        found.add_column(title, justify="left" if title in ("cell", "counted in") else "right")
    for label in dict.fromkeys(cell.label for cell in cells):
        rows = [cell for cell in cells if cell.label == label]
        started = [f"at {cell.step:,}" for cell in rows if cell.state == "started"]
        hours = [cell.hours for cell in rows]
        found.add_row(
            label,
            str(len(rows)),
            " ".join([str(sum(cell.state == "done" for cell in rows)), *started]),
            f"{rows[0].cell.schedule.total_steps:,}",
            number(rows[0].examples_per_second),
            number(None if None in hours else sum(filter(None, hours))),
            " ".join(sorted({cell.counted for cell in rows if cell.counted})),
        )
    return found


def summary(plan: "Plan", jobs: int) -> list[str]:
    """All tables together, each cell once."""
    from delta_lora.suite.plan.prefetch import bytes_text

    cells = plan.cells
    left = [cell for cell in cells if cell.state != "done"]
    known = [cell.hours for cell in left if cell.hours is not None]
    shared = sum(len(found) for found in plan.tables.values()) - len(cells)
    lines = [f"{len(cells)} cells{f' ({shared} more are shared)' if shared else ''}: {len(cells) - len(left)} done, "
             f"{len(left)} to run"]  # fmt: skip
    unit = "hours on the CPU" if plan.device.startswith("CPU") else "GPU-hours"
    if left:
        without = len(left) - len(known)
        missing = f"; {without} of the {len(left)} cells are not in it: nothing here has timed them (measure=true does)"
        apart = f", {number(sum(known) / jobs)} with {jobs} at a time and nothing lost" if jobs > 1 and known else ""
        lines.append(f"time: {number(sum(known)) if known else '–'} {unit}{apart}{missing if without else ''}")
    for name, found in plan.downloads:
        if isinstance(found, bool):
            lines.append(f"download: {name}: {'here' if found else 'not here'} (size not asked: no connection)")
        else:
            lines.append(
                f"download: {found.name}: {'nothing to come' if found.complete else bytes_text(found.missing)}"
            )
    if not plan.downloads:
        lines.append("download: nothing")
    disk = plan.disk
    need = "the models' sizes are not known here"
    if disk.checkpoints is not None:
        need = f"{bytes_text(disk.checkpoints)} for checkpoints ({jobs} at a time), {bytes_text(disk.kept)} of adapters"
    lines.append(f"disk: {need}; {bytes_text(disk.free)} free for results")
    coming = [found.missing or 0 for _, found in plan.downloads if not isinstance(found, bool)]
    if disk.checkpoints is not None and disk.checkpoints + (disk.kept or 0) + sum(coming) > disk.free:
        lines.append(
            "disk: that and the downloads are more than is free: set results_dir, cache_dir or HF_HOME elsewhere"
        )
    return lines


def main(arguments: list[str]) -> None:
    """Compose, time where asked to, and print."""
    measure, arguments = taken(arguments, "measure", "false")
    jobs, arguments = taken(arguments, "jobs", "1")
    if measure not in ("true", "false"):
        raise UserError(f"measure must be true or false, got {measure}")
    if not jobs.isdecimal() or int(jobs) < 1:
        raise UserError(f"jobs must be a whole number ≥ 1, got {jobs}")
    wanted = (
        arguments if any("=" not in word or word.startswith("table=") for word in arguments) else ["all", *arguments]
    )

    from delta_lora.suite.machine.quiet import quiet_libraries
    from delta_lora.suite.plan.plan import (  # imported late: --help answers at once
        compose_tables,
        make_plan,
        time_missing,
    )

    quiet_libraries()
    console = Console(width=None if sys.stdout.isatty() else 140)
    with console.status("composing the cells, reading the runs"):
        tables = compose_tables(per_table(wanted))
    if measure == "true":
        for line in time_missing(tables):
            console.print(line, highlight=False)
    with console.status("reading the runs"):
        plan = make_plan(tables, int(jobs))
    for name, cells in plan.tables.items():
        console.print(table(name, cells, plan.device), highlight=False)
    for line in summary(plan, int(jobs)):
        console.print(line, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(words_main(__doc__, "TABLE or OVERRIDE", main))
