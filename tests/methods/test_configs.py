"""Every method is one configuration file: it composes, builds its class and passes its own checks."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.method_models import SPECS, model_for
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from delta_lora.errors import UserError
from delta_lora.methods.base import Counts, Method, Schedule
from delta_lora.methods.lookup import settings_with
from delta_lora.methods.lora import Lora

CONFIGS = ROOT / "configs" / "method"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
Composed = Callable[..., DictConfig]


def test_all_methods_of_the_tables_are_there() -> None:
    tables = {
        "full",
        "ft-frozen-emb",
        "ft-qv",
        "lora",
        "dylora",
        "adalora",
        "delta-lora",
        "delta-lora-dropout",
    }
    assert tables <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_composes_and_trains_what_it_says(name: str, composed: Composed) -> None:
    config = composed("task=e2e", f"method={name}").method
    method: Method = instantiate(config)
    assert method.name == name and method.label
    method.validate(32, 1000)
    method.prepare(model_for("gpt2"), SPECS["gpt2"], Schedule(1000, 0))
    dense = 2 * 2 * 32 * 32  # W_q and W_v of two blocks
    low_rank = 2 * 2 * 4 * 64  # rank 4
    everything = sum(p.numel() for p in model_for("gpt2").parameters())
    expected = {
        "full": Counts(everything, 0, 0),
        "ft-frozen-emb": Counts(everything - (50 + 32) * 32, 0, 0),
        "ft-qv": Counts(dense, 0, 0),
        "lora": Counts(low_rank, 0, 0),
        "dylora": Counts(low_rank, 0, 0),
        "dora": Counts(low_rank + 2 * 2 * 32, 0, 0),
        "adalora": Counts(2 * 2 * 4 * 65, 0, 0),
        "lora-ms": Counts(low_rank, 0, 0),
        "delta-lora": Counts(low_rank, dense, 0),
        "delta-lora-dropout": Counts(low_rank, dense, 0),
    }
    assert method.counts() == expected.get(name, method.counts())


@pytest.mark.parametrize(
    ("name", "delay", "by_task"),
    [
        ("full", set(), {"label", "learning_rate"}),
        ("adalora", {"warmup_fraction"}, {"label", "learning_rate"}),
        ("delta-lora", {"start_steps"}, {"label", "learning_rate", "start_steps", "update_ratio"}),
    ],
)
def test_a_class_says_of_its_settings_what_the_suite_has_to_know(
    name: str, delay: set[str], by_task: set[str], composed: Composed
) -> None:
    config = composed("task=e2e", f"method={name}").method
    method: Method = instantiate(config)
    at_once = method.at_full_cost()
    assert {key for key, value in vars(at_once).items() if value != vars(method)[key]} == delay
    assert all(vars(at_once)[key] == 0 for key in delay)
    assert settings_with(config, "by_task") == by_task and settings_with(config, "outside_key") == {"label"}


def test_a_class_that_is_no_method_is_refused_by_name() -> None:
    for target in ("delta_lora.errors.UserError", "delta_lora.methods.nowhere.Nothing", "collections.OrderedDict", 3):
        with pytest.raises(UserError, match=r"^method\._target_="):
            settings_with({"_target_": target}, "by_task")


def test_a_relative_of_lora_needs_a_configuration_only(composed: Composed) -> None:
    method = instantiate(composed("task=e2e", "method=lora", "+method.peft={use_rslora: true}").method)
    assert isinstance(method, Lora)
    method.validate(32, 1000)
    method.prepare(model_for("gpt2"), SPECS["gpt2"], Schedule(1000, 0))
    assert {layer.scaling["default"] for layer in method.adapted_layers().values()} == {32 / 4**0.5}


def test_low_rank_methods_take_the_tasks_values(composed: Composed) -> None:
    config = composed(
        "task=e2e", "method=delta-lora", "task.per_method.lora.rank=7", "task.per_method.delta_lora.start_steps=11"
    )
    assert OmegaConf.to_container(config.method, resolve=True) == {
        "_target_": "delta_lora.methods.delta_lora.DeltaLoraMethod",
        "name": "delta-lora",
        "label": "Delta-LoRA (Ours)",
        "update_ratio": 2.0,
        "start_steps": 11,
        "literal": False,
        "rank": 7,
        "alpha": 32,
        "dropout": 0.0,
        "learning_rate": 2e-4,
    }


def test_a_task_may_have_its_own_pruning_schedule(composed: Composed) -> None:
    assert composed("task=e2e", "method=adalora").method.final_fraction == 0.5
    config = composed("task=e2e", "method=adalora", "+task.per_method.adalora.final_fraction=0.3")
    assert config.method.final_fraction == 0.3


def test_lists_and_mappings_of_the_command_line_reach_a_checkpoint(composed: Composed, tmp_path: Path) -> None:
    options = ["+method.peft.rank_pattern={q_proj: 2}", "+method.peft.layers_to_transform=[0]"]
    method = instantiate(composed("task=e2e", "method=lora", *options).method)
    method.validate(32, 1000)
    method.prepare(model_for("gpt2"), SPECS["gpt2"], Schedule(1000, 0)).save_pretrained(tmp_path / "checkpoint")
    method.export(tmp_path / "adapter")
    for folder in ("checkpoint", "adapter"):
        assert (tmp_path / folder / "adapter_config.json").is_file()


def test_the_calibration_row_is_microsoft_loras_recipe(composed: Composed) -> None:
    config = composed("task=e2e", "method=lora-ms")
    train = config.task.train
    assert (train.label_smoothing, train.adam_epsilon, train.decay) == (0.1, 1e-6, "all")
    assert (config.task.text, config.method.dropout, train.group_by_length) == ("microsoft", 0.1, False)
    assert train.precision == "fp32"
    plain = composed("task=e2e", "method=lora").task.train
    assert (plain.label_smoothing, plain.adam_epsilon, plain.decay) == (0, 1e-8, "weights")
    for path in (ROOT / "configs" / "table").glob("*.yaml"):
        assert "lora-ms" not in path.read_text(), "it stands in no table"


@pytest.mark.parametrize(("task", "dropout"), [("e2e", 0.1), ("webnlg", 0.1), ("xsum", 0.0), ("glue/cola", 0.0)])
@pytest.mark.parametrize("method", ["lora", "dylora", "adalora"])
def test_the_branchs_dropout_is_the_tasks(composed: Composed, task: str, dropout: float, method: str) -> None:
    assert composed(f"task={task}", f"method={method}").method.dropout == dropout
    assert composed(f"task={task}", f"method={method}", "task.per_method.lora.dropout=0.3").method.dropout == 0.3


@pytest.mark.parametrize(
    ("task", "times"),
    [("e2e", 2.5), ("webnlg", 2.5), ("xsum", 2.5)]
    + [(f"glue/{name}", None) for name in ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb")],
)
def test_adalora_is_counted_at_the_initial_rank_and_learns_no_slower_than_lora(
    composed: Composed, task: str, times: float | None
) -> None:
    adalora, lora = (composed(f"task={task}", f"method={name}").method for name in ("adalora", "lora"))
    assert adalora.init_rank == lora.rank, "the paper prints LoRA's count for both"
    assert adalora.target_rank == adalora.init_rank * 3 // 4
    ratio = adalora.learning_rate / lora.learning_rate
    if times is None:  # the authors' scripts', docs/fidelity.md
        assert 1 <= ratio <= 5.5
        assert (ratio == pytest.approx(1)) == (task == "glue/mnli")
        assert (ratio == pytest.approx(5.5)) == (task == "glue/stsb")
    else:
        assert ratio == pytest.approx(times)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "lora-ms"])
def test_a_sweep_multiplies_any_methods_learning_rate(composed: Composed, name: str) -> None:
    rates = [composed("task=e2e", f"method={name}", f"rate_factor={factor}").method.learning_rate for factor in (1, 3)]
    assert rates[1] == pytest.approx(3 * rates[0], rel=1e-12)
