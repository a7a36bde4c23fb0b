"""The laptop scale: real models, the paper's shares of a run, and what it leaves out said in one line."""

import math
import re
from collections.abc import Callable

import pytest
from helpers import ROOT
from omegaconf import DictConfig

from delta_lora import paper
from delta_lora.errors import UserError
from delta_lora.suite.cli import per_table
from delta_lora.suite.config.compose import LeftOut
from delta_lora.suite.config.grid import compose_grid

TRAIN = {"e2e": 42061, "webnlg": 18025, "glue/mnli": 392702, "glue/sst2": 67349, "glue/mrpc": 3668, "glue/cola": 8551}
TRAIN |= {"glue/qnli": 104743, "glue/qqp": 363846, "glue/rte": 2490, "glue/stsb": 5749}


@pytest.mark.parametrize("task", TRAIN)
def test_k_has_the_same_share_of_the_run_as_in_the_paper(composed: Callable[..., DictConfig], task: str) -> None:
    model = "minilm-l6" if task.startswith("glue/") else "smollm2-135m"
    config = composed("scale=laptop", f"task={task}", f"model={model}", "method=delta-lora")
    train, printed = config.task.train, paper.hyperparameters()[task]
    size = min(TRAIN[task], config.task.max_train_examples or TRAIN[task])
    steps = train.max_steps or math.ceil(size / train.batch_size) * train.epochs
    papers = math.ceil(TRAIN[task] / printed["train"]["batch_size"]) * printed["train"]["epochs"]
    share = printed["delta_lora"]["start_steps"] / papers
    assert config.method.start_steps == pytest.approx(share * steps, abs=0.51)
    if not task.startswith("glue/"):
        assert 400 <= steps <= 600 and train.batch_size == 8 and train.precision == "bf16"
        assert train.warmup_steps == pytest.approx(printed["train"]["warmup_steps"] / papers * steps, abs=0.51)


def test_table_8s_values_of_k_have_the_papers_shares(composed: Callable[..., DictConfig]) -> None:
    small, large = (composed(f"scale={scale}", "task=e2e").task for scale in ("laptop", "paper"))
    ours, theirs = ([int(k) for k in task.sweeps.start_steps.split(",")] for task in (small, large))
    share = small.train.max_steps / (math.ceil(TRAIN["e2e"] / 8) * 5)
    assert ours == pytest.approx([k * share for k in theirs], abs=0.51) and sorted(set(ours)) == ours


@pytest.mark.parametrize("table", ["table1", "table2", "table4", "table5", "table6", "table7", "table8", "figure3"])
def test_its_tables_are_of_real_pretrained_models(table: str) -> None:
    grid = compose_grid([f"table={table}", "scale=laptop"])
    assert {cell.config.model.name for cell in grid.cells} == {"minilm-l6" if table == "table4" else "smollm2-135m"}
    assert all(cell.config.task.source == "official" for cell in grid.cells)


def test_the_sweeps_have_runs_of_table_1_and_of_the_controls() -> None:
    """They score all inputs, too, so what one table has trained no other trains again."""

    def keys(table: str) -> set[str]:
        return {cell.key for cell in compose_grid([f"table={table}", "scale=laptop"]).cells}

    trained = keys("table1") | keys("controls")
    shared = {table: len(keys(table) & trained) for table in ("table5", "table6", "table7", "table8")}
    assert shared == {"table5": 3, "table6": 2, "table7": 3, "table8": 2}  # λ 1, 2, 3; K 0 and the paper's


@pytest.mark.parametrize("seed", ["x", "-1", "1.5"])
def test_a_wrong_seed_is_one_line_and_no_key(seed: str) -> None:
    with pytest.raises(UserError, match=rf"seed must be a whole number ≥ 0 \(and < 2\^32\), got '?{seed}"):
        compose_grid(["table=table1", "scale=laptop", "method=lora", f"seed=1,{seed}"])


def test_a_scale_says_why_it_has_not_a_table_and_which_has() -> None:
    with pytest.raises(LeftOut, match=r"table3 is none of scale=laptop: XSum needs .*; make table3 SCALE=tiny"):
        compose_grid(["table=table3", "scale=laptop"])
    for scale in ("tiny", "paper"):  # what it says to do names a scale that has the table
        with pytest.raises(LeftOut, match=rf"none of scale={scale}: .*; make controls-low-rate SCALE=laptop has it"):
            compose_grid(["table=controls-low-rate", f"scale={scale}"])
    tables = [overrides[0] for overrides in per_table(["all", "scale=laptop"])]
    assert "table=table3" not in tables and {"table=table1", "table=table4", "table=figure3"} <= set(tables)
    assert "table=table3" in [overrides[0] for overrides in per_table(["all", "scale=tiny"])]


def test_no_model_that_the_project_makes_is_left_in_it() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "configs/preset/laptop").rglob("*.yaml")]
    assert not [found for text in texts for found in re.findall(r"\w+-tiny", text)]
