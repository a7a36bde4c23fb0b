"""The group that a sweep's runs share on W&B, without W&B."""

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from delta_lora.suite.tracking import group_of


@pytest.mark.parametrize(
    ("overrides", "group"),
    [
        (["table=table7", "scale=tiny"], "tiny-table7"),
        (["table=figure3", "scale=tiny"], "tiny-figure3"),
        (["scale=tiny"], "tiny-e2e"),
        (["scale=paper", "task=webnlg"], "paper-webnlg"),
    ],
)
def test_runs_of_one_table_share_a_group(composed: Callable[..., DictConfig], overrides: list[str], group: str) -> None:
    assert group_of(composed(*overrides)) == group
