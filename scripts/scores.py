"""Score the runs that ended with their predictions (score=later), and write their records; nothing is trained.

python scripts/scores.py results_dir=results
"""

import sys

from delta_lora.errors import UserError
from delta_lora.suite.cli import words_main
from delta_lora.suite.config.compose import composed, composing


def main(overrides: list[str]) -> None:
    """Score all of them below ``results_dir``."""
    with composing():
        here = composed(overrides)
    from delta_lora.suite.run.scoring import score_waiting  # imported late: --help answers at once

    runs, problems = score_waiting(here)
    print(f"{len(runs)} runs scored in {here.results_dir}/runs")
    if problems:
        raise UserError("; ".join(problems))


if __name__ == "__main__":
    sys.exit(words_main(__doc__, "OVERRIDE", main))
