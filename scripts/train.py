"""Train, decode, score and record one cell; with -m a sweep of cells.

python scripts/train.py model=gpt2-medium task=e2e method=delta-lora method.update_ratio=2 method.start_steps=500
python scripts/train.py -m table=table1 scale=tiny
python scripts/train.py --cfg job --resolve        # print the whole run
"""

import sys

from omegaconf import DictConfig

from delta_lora.suite.cli import hydra_main
from delta_lora.suite.config.compose import resolved
from delta_lora.suite.config.settings import check_settings


def main(config: DictConfig) -> None:
    """One cell."""
    check_settings(resolved(config))
    from delta_lora.suite.run.recipe import run_cell  # takes long to load; --help and mistakes have been answered

    run_cell(config)


if __name__ == "__main__":
    sys.exit(hydra_main(main))
