"""What is trained: exact parameter counts of the real configurations, and what stays frozen."""

import pytest
from helpers.method_models import BART, GPT2, ROBERTA, SCHEDULE, SPECS, model_for, real_model

from delta_lora.errors import UserError
from delta_lora.methods.adalora import AdaLora
from delta_lora.methods.base import Counts, ModelSpec
from delta_lora.methods.dylora import DyLora
from delta_lora.methods.finetune import FineTune, Scope
from delta_lora.methods.lora import Lora


def lora(rank: int) -> Lora:
    return Lora(name="lora", learning_rate=1e-3, rank=rank, alpha=32)


# The paper's M is 2²⁰ for adapters: 0.375 M, 0.28 M and 0.5625 M.
@pytest.mark.parametrize(
    ("family", "rank", "trainable"),
    [("gpt2", 4, 24 * 2 * 4 * 2048), ("roberta", 8, 12 * 2 * 8 * 1536), ("bart", 4, 36 * 2 * 4 * 2048)],
)
def test_low_rank_counts_on_the_real_configurations(family: str, rank: int, trainable: int) -> None:
    assert trainable == {"gpt2": 393_216, "roberta": 294_912, "bart": 589_824}[family]
    head = 768 * 768 + 768 + 768 * 2 + 2 if family == "roberta" else 0
    dylora = DyLora(name="dylora", learning_rate=1e-3, rank=rank, alpha=32)
    for method in (lora(rank), dylora):
        method.prepare(real_model(family), SPECS[family], SCHEDULE)
        assert method.counts() == Counts(trainable=trainable, extra_updatable=0, head=head)


def test_adalora_counts_its_singular_values_too() -> None:
    method = AdaLora(name="adalora", learning_rate=1e-3, init_rank=4, target_rank=3, alpha=32)
    method.prepare(real_model("gpt2"), GPT2, SCHEDULE)
    assert method.counts().trainable == 24 * 2 * 4 * (2048 + 1) == 393_408


# Computed from the architectures. The paper prints 354.92, 118.87 and 387.5 M for full fine-tuning, and
# 305.84, 82.05 and 338.4 M with frozen embeddings: less by the token embeddings, 49.08, 36.81 and 49.09 · 2²⁰.
@pytest.mark.parametrize(
    ("family", "scope", "trainable"),
    [
        ("gpt2", "all", 354_823_168),
        ("gpt2", "all-but-embeddings", 354_823_168 - (50257 + 1024) * 1024),
        ("gpt2", "query-value", 50_331_648),
        ("roberta", "all", 124_055_040),
        ("roberta", "all-but-embeddings", 124_055_040 - (50265 + 514) * 768),
        ("roberta", "query-value", 14_155_776),
        ("bart", "all", 406_291_456),
        ("bart", "all-but-embeddings", 406_291_456 - (50265 + 2 * 1026) * 1024),
        ("bart", "query-value", 75_497_472),
    ],
)
def test_fine_tuning_counts_on_the_real_configurations(family: str, scope: Scope, trainable: int) -> None:
    method = FineTune(name="ft", learning_rate=1e-5, scope=scope)
    method.prepare(real_model(family), SPECS[family], SCHEDULE)
    assert method.counts() == Counts(trainable, 0, head=592_130 if family == "roberta" else 0)


def test_frozen_embeddings_freeze_the_tied_output_layer() -> None:
    for family, spec in (("gpt2", GPT2), ("bart", BART)):
        model = model_for(family)
        FineTune(name="ft", learning_rate=1e-5, scope="all-but-embeddings").prepare(model, spec, SCHEDULE)
        assert not model.get_output_embeddings().weight.requires_grad
        assert not model.get_input_embeddings().weight.requires_grad


def test_query_value_fine_tuning_trains_no_bias() -> None:
    model = model_for("roberta")
    FineTune(name="ft-qv", learning_rate=1e-5, scope="query-value").prepare(model, ROBERTA, SCHEDULE)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    body = {name for name in trained if not name.startswith("classifier")}
    assert body == {
        f"roberta.encoder.layer.{i}.attention.self.{part}.weight" for i in (0, 1) for part in ("query", "value")
    }
    assert trained - body == {
        f"classifier.{p}" for p in ("dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias")
    }


def test_unknown_module_names_are_a_clear_error() -> None:
    spec = ModelSpec("gpt2", "causal", ("query",), ("embedding",))
    with pytest.raises(UserError, match=r"no module named query; it has .*q_proj"):
        lora(2).prepare(model_for("gpt2"), spec, SCHEDULE)
    with pytest.raises(UserError, match="no module named embedding"):
        FineTune(name="ft", learning_rate=1e-5, scope="all-but-embeddings").prepare(model_for("gpt2"), spec, SCHEDULE)
