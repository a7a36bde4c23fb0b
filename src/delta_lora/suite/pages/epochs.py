"""What choosing the best epoch on the scored rows adds to the scores of a table, beside them (GLUE)."""

from statistics import mean

from delta_lora.metrics.epochs import CROSS_FITTED, LAST
from delta_lora.suite.pages.texts import Texts
from delta_lora.suite.pages.words import row_title
from delta_lora.suite.tables.table import Table

EPOCH_NOTE = (
    "The table shows the best epoch, chosen on the rows that it is scored on, as the paper and LoRA do: partly the "
    "luckiest. Here each score is the best epoch's / the last epoch's / the cross-fitted best's: chosen on one half of "
    "the rows, scored on the other, 50 fixed splits, both ways. Verdicts are on the cross-fitted scores, and their "
    "resamples repeat the choice."
)


def epoch_texts(table: Table) -> Texts | None:
    """A line per row with runs: ``90.25 / 89.71 / 89.90`` in each column, means over seeds; None for no choice.

    How many seeds stands in brackets where another row has more of them, as in the table.
    """
    metrics = {column: name for column, name in table.metrics.items() if table.judged(column) != name}
    if not metrics:
        return None
    lines = []
    for row in table.rows:
        cells = []
        for column, name in metrics.items():
            said, score = [run.metrics for run in row.runs[column].values()], row.scores[column]
            names = (name, f"{name}{LAST}", f"{name}{CROSS_FITTED}")
            means = " / ".join(f"{mean(one[each] for one in said):.2f}" for each in names) if said else "–"
            cells.append(means + ("" if score is None else score.count))
        if set(cells) != {"–"}:
            lines.append([row_title(table, row), *cells])
    return Texts(["Best / last / cross-fitted", *metrics], lines, tuple(range(1, len(metrics) + 1)))
