"""Training makes logits where a target token is predicted, with the loss and the gradients of the whole batch."""

from typing import Any

import pytest
import torch
from helpers.models import VOCABULARY, bart_config, gpt2_config, llama_config, roberta_config
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import (
    BartForConditionalGeneration,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    RobertaForSequenceClassification,
)
from transformers.trainer_pt_utils import LabelSmoother

from delta_lora.suite.run.losses import summed_losses
from delta_lora.suite.run.targets import at_targets
from delta_lora.tasks.generation import IGNORED


def model_of(family: str) -> Any:
    torch.manual_seed(0)
    if family == "bart":
        return BartForConditionalGeneration(bart_config()).eval()
    model = GPT2LMHeadModel(gpt2_config()) if family != "llama" else LlamaForCausalLM(llama_config())
    if family == "gpt2-lora":
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["c_attn"], init_lora_weights=False))
    return model


def batch_of(family: str) -> dict[str, Tensor]:
    """Three examples of 9, 7 and 4 tokens, of which 5, 2 and none are targets."""
    ids = torch.randint(3, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(0))
    labels, attention = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    for row, (length, targets) in enumerate([(9, 5), (7, 2), (4, 0)]):
        attention[row, :length] = 1
        labels[row, length - targets : length] = ids[row, length - targets : length]
    batch = {"input_ids": ids, "attention_mask": attention, "labels": labels}
    return batch | ({"decoder_input_ids": ids.roll(1, dims=1)} if family == "bart" else {})


def loss_of(model: Any, batch: dict[str, Any], smoothing: float, **counted: Any) -> Tensor:
    if not smoothing:
        return model(**batch, **counted).loss  # type: ignore[no-any-return]
    shift = not model.config.is_encoder_decoder
    return LabelSmoother(smoothing)(model(**batch), batch["labels"], shift_labels=shift)  # type: ignore[no-any-return]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    ("family", "counted"),
    [(family, {}) for family in ("gpt2", "gpt2-lora", "llama", "bart")]
    + [(family, {"num_items_in_batch": 20}) for family in ("gpt2", "gpt2-lora", "llama")],  # BART's loss is a mean
)
def test_the_loss_and_the_gradients_are_those_of_all_positions(
    family: str, smoothing: float, counted: dict[str, Any]
) -> None:
    """``num_items_in_batch``: the targets of a step of several micro-batches."""
    model, batch = model_of(family), batch_of(family)
    loss = loss_of(model, batch, smoothing, **counted)
    loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with at_targets(model, batch) as given:
        logits = model(**given).logits
        assert logits.shape == (1, 7 + 1, VOCABULARY) and given["labels"].shape == (1, 7 + 1)
        fewer = loss_of(model, given, smoothing, **counted)
        fewer.backward()
    torch.testing.assert_close(fewer, loss, rtol=0, atol=1e-6)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
    assert model(**batch).logits.shape == (3, 9, VOCABULARY)  # and afterwards as before


@pytest.mark.parametrize("family", ["gpt2", "llama", "bart", "bart, its own decoder inputs"])
def test_the_summed_losses_are_each_examples_own(family: str) -> None:
    """Of the third, which has no target, 0."""
    model, batch = model_of(family.partition(",")[0]).eval(), batch_of(family)
    sums, counts = summed_losses(model, batch, shift="bart" not in family)
    assert counts == [5, 2, 0] and sums[2] == 0
    for i, count in enumerate(counts[:2]):
        alone = {name: value[i : i + 1] for name, value in batch.items()}
        torch.testing.assert_close(sums[i], model(**alone).loss * count, rtol=1e-5, atol=1e-6)


def test_a_batch_without_a_target_weighs_nothing() -> None:
    """What a process is given that the last step of an epoch leaves without examples."""
    model, batch = model_of("gpt2"), batch_of("gpt2")
    batch["labels"].fill_(IGNORED)
    with at_targets(model, batch) as given:
        loss = model(**given, num_items_in_batch=20).loss
    loss.backward()
    assert loss == 0 and all(not parameter.grad.any() for parameter in model.parameters())


def test_an_encoder_decoder_makes_its_decoders_inputs_from_all_labels() -> None:
    batch = batch_of("bart")
    del batch["decoder_input_ids"]
    with at_targets(model_of("bart"), batch) as given:
        assert given == batch


def test_a_batch_of_classification_is_given_as_it_is() -> None:
    batch = batch_of("roberta") | {"labels": torch.tensor([0, 1, 2])}
    model = RobertaForSequenceClassification(roberta_config())
    with at_targets(model, batch) as given:
        assert given == batch
        assert model(**given).logits.shape[0] == 3
