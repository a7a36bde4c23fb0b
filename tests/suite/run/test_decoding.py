"""Decoding: Table 10's settings mean what the original decoder means by them."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from delta_lora.errors import RunError, UserError
from delta_lora.suite.config.settings import check_settings
from delta_lora.suite.run.beam import beam_search
from delta_lora.suite.run.decoding import GeneratedNoRepeatNGram, decode, generate
from delta_lora.tasks.generation import causal_prompts

SETTINGS = {"beam_size": 3, "length_penalty": 0.8, "no_repeat_ngram_size": 4, "max_new_tokens": 12, "batch_size": 2}


def settings(**changes: float | str) -> DictConfig:
    """A task's, as far as decoding reads them."""
    return OmegaConf.create({"decode": {**SETTINGS, **changes}, "train": {"max_length": 256}})


@pytest.fixture(scope="module")
def loaded(gpt2_checkpoint: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    tokenizer = AutoTokenizer.from_pretrained(gpt2_checkpoint)
    tokenizer.pad_token = tokenizer.eos_token
    return AutoModelForCausalLM.from_pretrained(gpt2_checkpoint).eval(), tokenizer


class Cycle(torch.nn.Module):
    """Stands in for a language model's head: after token i, token i+1 of a fixed cycle is by far the likeliest."""

    def __init__(self, cycle: list[int], vocabulary: int) -> None:
        super().__init__()
        self.table = torch.zeros(vocabulary, vocabulary)
        for now, after in zip(cycle, cycle[1:] + cycle[:1], strict=True):
            self.table[now, after] = 50.0


def test_a_four_gram_of_the_prompt_can_be_generated_but_not_twice(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = loaded
    cycle = [10, 11, 12, 13, 14, 15]
    table = Cycle(cycle, len(tokenizer)).table
    last: dict[str, torch.Tensor] = {}
    forward = model.forward

    def cyclic(input_ids: torch.Tensor, **kwargs: object) -> object:
        output = forward(input_ids=input_ids, **kwargs)
        last["ids"] = input_ids
        output.logits = table[input_ids[:, -output.logits.shape[1] :]]
        return output

    monkeypatch.setattr(model, "forward", cyclic)
    prompt = [*cycle, *cycle]
    (generated,) = generate(model, tokenizer, [prompt], settings(beam_size=1).decode)
    assert generated[:6] == cycle, "the prompt's own 4-grams are allowed"
    assert generated[6:9] == cycle[:3]
    assert generated[9] != 13, "10 11 12 13 was generated before"


def test_the_processor_looks_at_the_generated_part_alone() -> None:
    processor = GeneratedNoRepeatNGram(ngram_size=2, prompt_length=3)
    scores = torch.zeros(1, 10)
    allowed = processor(torch.tensor([[5, 6, 7, 5]]), scores)
    assert not torch.isinf(allowed).any()
    banned = processor(torch.tensor([[1, 1, 1, 5, 6, 5]]), scores)
    assert torch.isinf(banned).nonzero().tolist() == [[0, 6]]


@pytest.mark.parametrize("search", ["microsoft-lora", "transformers"])
def test_batching_and_order_do_not_change_the_texts(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], search: str
) -> None:
    model, tokenizer = loaded
    inputs = ["name : The Vaults", "Type : pub | price : more than £30", "pub", "name : The Vaults"]
    together = decode(model, tokenizer, inputs, settings(batch_size=4, search=search))
    alone = [decode(model, tokenizer, [x], settings(search=search))[0] for x in inputs]
    assert together == alone
    assert together[0] == together[3]


def test_equal_inputs_are_decoded_once(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = loaded
    seen: list[int] = []
    original = model.generate
    monkeypatch.setattr(model, "generate", lambda ids, **kw: (seen.append(len(ids)), original(ids, **kw))[1])
    decode(model, tokenizer, ["a pub", "a pub", "a pub"], settings())
    assert seen == [1]


def test_the_cache_is_used_though_the_trainer_switched_it_off(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = loaded
    widths: list[int] = []
    forward = model.forward
    monkeypatch.setattr(model.config, "use_cache", False)
    monkeypatch.setattr(
        model, "forward", lambda input_ids, **kw: (widths.append(input_ids.shape[1]), forward(input_ids, **kw))[1]
    )
    decode(model, tokenizer, ["a pub near Café Adriatic"], settings())
    assert widths[0] > 1
    assert set(widths[1:]) == {1}


def test_a_prompt_without_room_to_generate_is_an_error(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    model, tokenizer = loaded
    with pytest.raises(UserError, match="leave room for"):
        decode(model, tokenizer, ["pub " * 300], settings())


def test_the_search_that_is_asked_for_is_the_one_that_runs(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = loaded
    monkeypatch.setattr(model, "generate", lambda *_, **__: pytest.fail("this is Transformers' search"))
    found = decode(model, tokenizer, ["a pub"], settings(search="microsoft-lora"))
    rule = {name: value for name, value in SETTINGS.items() if name not in ("beam_size", "batch_size")}
    ids = causal_prompts(tokenizer, ["a pub"])
    end = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    (expected,) = beam_search(model, ids, beams=SETTINGS["beam_size"], batch_size=1, **rule, **end)
    assert found == [" ".join(tokenizer.decode(expected, skip_special_tokens=True).split())]


def test_bf16_is_computed_in_and_the_weights_are_given_back(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    model, tokenizer = loaded
    kinds: set[torch.dtype] = set()
    hook = model.transformer.h[1].register_forward_hook(lambda _, __, output: kinds.add(output.dtype))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for search in ("microsoft-lora", "transformers"):
        decode(model, tokenizer, ["a pub"], settings(search=search, precision="bf16"))
    hook.remove()
    assert kinds == {torch.bfloat16}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_our_search_is_for_decoder_only_models_and_the_default_there(composed: Callable[..., DictConfig]) -> None:
    assert [composed(f"task={name}").task.decode.search for name in ("e2e", "webnlg")] == ["microsoft-lora"] * 2
    assert composed("task=xsum", "model=bart-large").task.decode.search == "transformers"
    with pytest.raises(UserError, match=r"decoder-only .* use task\.decode\.search=transformers"):
        check_settings(composed("task=xsum", "model=bart-large", "task.decode.search=microsoft-lora"))


@pytest.mark.parametrize("search", ["microsoft-lora", "transformers"])
def test_a_model_that_gives_no_numbers_writes_no_text(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], search: str
) -> None:
    model, tokenizer = copy.deepcopy(loaded[0]), loaded[1]
    model.transformer.ln_f.weight.data[0] = torch.nan
    with pytest.raises(RunError, match=r"gives no numbers \(NaN\)"):
        decode(model, tokenizer, ["name : A", "name : B | area : C"], settings(search=search))
