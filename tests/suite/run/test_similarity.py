"""How far a run has moved each weight, measured from its factors, against the merged model's dense weights."""

from pathlib import Path

import pytest
import torch
from helpers.method_models import model_for, trainer_for
from helpers.methods_at_work import METHODS, RANKED, STEPS

from delta_lora.methods.base import Method
from delta_lora.methods.finetune import FineTune
from delta_lora.methods.lora import Lora
from delta_lora.methods.peft_method import PeftMethod
from delta_lora.models.gpt2 import split_attention
from delta_lora.suite.run.similarity import compare, entropy_rank, measure


def dora() -> Method:
    return Lora(name="dora", dropout=0.0, peft={"use_dora": True}, **RANKED)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["gpt2", "bart"])
@pytest.mark.parametrize("name", [*METHODS, "dora"])
def test_measured_as_the_merged_weights_are(name: str, family: str, tmp_path: Path) -> None:
    method = dora() if name == "dora" else METHODS[name]()
    trainer_for(method, family, tmp_path, STEPS).train()
    assert isinstance(method, FineTune | PeftMethod)
    measured = measure(method, model_for(family))
    before = dict(model_for(family).named_modules())
    assert len(measured) == {"gpt2": 2, "bart": 6}[family] * 2
    merged = method.merge()
    if family == "gpt2":
        split_attention(merged)
    for module, found in measured.items():
        old = before[module].get_parameter("weight").detach().double()
        new = merged.get_submodule(module).get_parameter("weight").detach().double()
        cosine = torch.nn.functional.cosine_similarity(old.flatten(), new.flatten(), dim=0)
        assert found["cosine"] == pytest.approx(float(cosine), abs=1e-6)
        assert found["update_norm"] == pytest.approx(float((new - old).norm()), rel=1e-3)
        assert found["singular_values"][0] == pytest.approx(float(torch.linalg.svdvals(new - old)[0]), rel=1e-3)
        assert 0 < found["rank"] <= (method.rank_limit() or 32)
        assert 1 <= found["entropy_rank"] <= found["rank"] + 0.01
        if name in ("delta-lora", "literal"):
            assert found["rank"] == 8, "twice LoRA's rank, and no more"


def test_factors_and_their_product_are_described_alike() -> None:
    torch.manual_seed(0)
    weight, b, a = torch.randn(20, 30), torch.randn(20, 3), torch.randn(3, 30)
    low, dense = compare(weight, (b, a)), compare(weight, b @ a)
    assert low["rank"] == dense["rank"] == 3
    assert low["cosine"] == pytest.approx(dense["cosine"])
    assert low["singular_values"] == pytest.approx(dense["singular_values"][:3], rel=1e-5)


def test_a_weight_that_did_not_move_has_rank_zero() -> None:
    still = compare(torch.randn(5, 4), (torch.zeros(5, 2), torch.randn(2, 4)))
    assert still["entropy_rank"] == 0
    assert still["rank"] == 0 and still["cosine"] == pytest.approx(1) and still["update_norm"] == 0


def test_the_entropy_rank_is_roys_and_vetterlis() -> None:
    """exp of the entropy of σ / Σσ: k for k equal values; by hand for 3 and 1, ¾ and ¼ of their sum."""
    assert entropy_rank(torch.tensor([2.0, 2, 2, 0])) == pytest.approx(3)
    assert entropy_rank(torch.tensor([3.0, 1])) == pytest.approx((4 / 3) ** 0.75 * 4**0.25)
