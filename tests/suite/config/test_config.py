"""Configurations: what is valid, what is one clear error, and what makes two runs the same."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import ROOT
from omegaconf import DictConfig

from delta_lora.errors import UserError
from delta_lora.models.settings import ModelSettings
from delta_lora.settings import Texts, setting
from delta_lora.suite.config.cell import build_cell
from delta_lora.suite.config.compose import choices, resolved
from delta_lora.suite.config.grid import compose_grid
from delta_lora.suite.config.schema import NoLogger, RunSettings, ScaleSettings, WandbLogger
from delta_lora.suite.config.settings import check_settings
from delta_lora.tasks.e2e import E2E, E2ESettings
from delta_lora.tasks.glue import GlueSettings
from delta_lora.tasks.settings import DecodeSettings, Lengths, TrainSettings
from delta_lora.tasks.webnlg import WebNLGSettings
from delta_lora.tasks.xsum import XSumSettings

TYPED = "model=gpt2-medium task=e2e method=delta-lora method.update_ratio=2 method.start_steps=500"


def train(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the script as a user would."""
    command = [sys.executable, str(ROOT / "scripts/train.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_command_of_the_readme_composes_as_typed() -> None:
    printed = train(*TYPED.split(), "--cfg", "job", "--resolve")
    assert printed.returncode == 0, printed.stderr
    for line in ("name: gpt2-medium", "update_ratio: 2", "start_steps: 500", "beam_size: 10"):
        assert line in printed.stdout


def test_the_cells_of_several_seeds_are_those_that_hydra_composes_one_by_one() -> None:
    sweep = ["table=table7", "scale=tiny", "method.update_ratio=1,2", "seed=3,1,9"]
    cells = compose_grid(sweep).cells
    ones = [
        compose_grid(["table=table7", "scale=tiny", f"method.update_ratio={ratio}", f"seed={seed}"])
        for ratio in (1, 2)
        for seed in (3, 1, 9)
    ]
    assert [cell.config for cell in cells] == [cell.config for grid in ones for cell in grid.cells]
    assert [cell.key for cell in cells] == [cell.key for grid in ones for cell in grid.cells]
    assert len({cell.key for cell in cells}) == 6


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("method=lorra", "choose one of adalora, "),
        ("task=glue/colla", "glue/cola"),
        ("task.train.epochz=3", "epochz"),
        ("scale=tiny method.rank=0", "rank must be"),
    ],
)
def test_wrong_input_is_one_line_with_exit_code_2_and_writes_nothing(
    tmp_path: Path, arguments: str, expected: str
) -> None:
    result = train(*arguments.split(), cwd=tmp_path)
    assert result.returncode == 2, result.stdout + result.stderr
    assert expected in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.rank=0"], "rank"),
        (["method.rank=100000"], "rank"),
        (["method.update_ratio=-1"], "update_ratio"),
        (["method.start_steps=-1"], "start_steps"),
        (["method.start_steps=100000"], "start_steps"),
        (["seed=-1"], "seed"),
        (["task.train.batch_size=0"], "batch_size"),
        (["task.train.micro_batch_size=3"], "must divide"),
        (["task.train.warmup_steps=100000"], "does not fit"),
        (["task.train.warmup_ratio=0.1"], "one of"),
        (["task.decode.beam_size=0"], "beam_size"),
        (["task.max_test_examples=0"], "max_test_examples"),
        (["task.train.precision=fp8"], "precision"),
        (["task.train.batch_size=true"], r"task.train.batch_size must be a whole number ≥ 1 .*, got True"),
        (["task.train.dropouts=3"], "task.train.dropouts must be a group of settings, got 3"),
        (["task.train.max_grad_norm=nan"], "must be a number ≥ 0, got nan"),
        (["task.kinds=[]"], "a list .at least 1., each causal, seq2seq or classification"),
        (["task.train.epochs=???"], "task.train.epochs has no value"),
        (["~task.decode"], "task.decode is missing"),
        (["++logger.mode=online"], "no setting logger.mode; logger has name"),
        (["logger.name=mlflow"], "logger.name must be none or wandb, got 'mlflow'"),
        (["+method.ranks=3"], "no setting method.ranks; method has alpha, dropout, .*rank"),
        (["~method.rank"], "method.rank is missing"),
        (["+task.sentences=[a,b]"], "no setting task.sentences; task has .*per_method"),
    ],
)
def test_each_mistake_is_found_before_anything_is_loaded(
    composed: Callable[..., DictConfig], overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build_cell(composed("scale=tiny", "method=delta-lora", *overrides))


def test_a_model_that_does_not_fit_the_task_is_refused_with_the_one_that_does(
    composed: Callable[..., DictConfig],
) -> None:
    with pytest.raises(UserError, match="use model=gpt2-tiny"):
        build_cell(composed("scale=tiny", "model.kind=classification"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_paper_scale_without_a_gpu_names_the_scale_that_runs_without(
    composed: Callable[..., DictConfig],
) -> None:
    with pytest.raises(UserError, match="scale=tiny"):
        build_cell(composed("scale=paper"))


def key(composed: Callable[..., DictConfig], *overrides: str) -> str:
    return build_cell(composed("scale=tiny", *overrides)).key


def test_the_key_changes_with_what_changes_the_numbers(composed: Callable[..., DictConfig]) -> None:
    changes = [
        "seed=2",
        "method=lora",
        "method.rank=2",
        "method.update_ratio=3",
        "task.train.epochs=3",
        "task.decode.beam_size=2",
        "task.max_train_examples=1000",
        "task.train.dropouts.attention=0.1",
    ]
    keys = [key(composed), *(key(composed, change) for change in changes)]
    assert len(set(keys)) == len(keys)


def test_the_key_stays_with_what_does_not(composed: Callable[..., DictConfig]) -> None:
    same = [
        "task.train.save_steps=7",
        "task.train.logging_steps=7",
        "task.train.micro_batch_size=4",
        "task.decode.batch_size=3",
        "method.update_ratio=2",
        "method.label=x",
        "task.sweeps.update_ratio=[1]",
        "cache_dir=/tmp/elsewhere",
    ]
    assert {key(composed, change) for change in same} == {key(composed)}


def test_a_tasks_settings_for_one_more_method_change_no_other_runs_key(composed: Callable[..., DictConfig]) -> None:
    for method in ("lora", "delta-lora", "adalora", "full"):
        with_pissa = key(composed, f"method={method}", "+task.per_method.pissa={rank: 3}")
        assert with_pissa == key(composed, f"method={method}")


def test_a_tasks_settings_for_the_runs_own_method_change_its_key(composed: Callable[..., DictConfig]) -> None:
    assert key(composed, "method=lora", "task.per_method.lora.rank=3") != key(composed, "method=lora")


def test_every_task_at_every_scale_has_settings_that_fit(composed: Callable[..., DictConfig]) -> None:
    models = {"causal": "gpt2", "seq2seq": "bart", "classification": "roberta"}
    for scale in choices("scale"):
        for task in choices("task"):
            found = composed(f"scale={scale}", f"task={task}", "logger=wandb")
            if (model := found.scale.models.get(models[found.task.kinds[0]])) is None:
                assert found.preset is None and found.scale.left_out  # no model, no settings, and it says so
                continue
            found.model = composed(f"model={model}").model
            run, settings = check_settings(resolved(found))
            assert (run.scale.name, settings.name) == (scale, task)


def test_every_setting_says_what_it_is() -> None:
    kinds = [RunSettings, ModelSettings, ScaleSettings, NoLogger, WandbLogger, TrainSettings, DecodeSettings]
    for kind in [*kinds, Lengths, E2ESettings, WebNLGSettings, XSumSettings, GlueSettings]:
        for name, field in kind.model_fields.items():
            assert field.description, f"{kind.__name__}.{name}"


class LongSettings(E2ESettings):
    sentences: Texts = setting("what is read")
    shuffled: bool = setting("a setting that finished runs do not have", default=False)


class Long(E2E):
    """A stranger's task with settings of its own."""

    Settings = LongSettings


class Plain(E2E):
    """A stranger's task that has those of its base."""


@pytest.fixture
def own(composed: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    """A configuration of a task class of this module."""
    return lambda name, *extra: composed("scale=tiny", f"task._target_={__name__}.{name}", *extra)


def test_a_task_class_of_ones_own_has_settings_of_its_own(own: Callable[..., DictConfig]) -> None:
    cell = build_cell(own("Long", "+task.sentences=[a,b]"))
    assert isinstance(cell.task.settings, LongSettings)
    assert cell.task.settings.sentences == ("a", "b")
    with pytest.raises(UserError, match=r"task.sentences is missing"):
        build_cell(own("Long"))
    with pytest.raises(UserError, match=r"no setting task.sentence; task has .*sentences"):
        build_cell(own("Long", "+task.sentence=[a,b]"))


def test_a_task_class_without_settings_of_its_own_has_its_bases(own: Callable[..., DictConfig]) -> None:
    assert isinstance(build_cell(own("Plain")).task.settings, E2ESettings)
    with pytest.raises(UserError, match=r"no setting task.sentences"):
        build_cell(own("Plain", "+task.sentences=[a,b]"))


def test_a_new_setting_at_its_default_keeps_the_key(own: Callable[..., DictConfig]) -> None:
    keys = {build_cell(own("Long", "+task.sentences=[a]", *more)).key for more in ([], ["+task.shuffled=false"])}
    assert len(keys) == 1
    assert build_cell(own("Long", "+task.sentences=[a]", "+task.shuffled=true")).key not in keys
