"""Our beam search finds what 40 plain lines of microsoft/LoRA's rule find, one input at a time, without a cache."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers.models import DECODER, VOCABULARY, gpt2_config, llama_config
from transformers import GPT2LMHeadModel, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedModel

from delta_lora.errors import RunError, UserError
from delta_lora.suite.run import prefix_tree
from delta_lora.suite.run.beam import beam_search

EOS, PAD = 1, 2
SETTINGS: dict[str, Any] = {
    "beams": 4,
    "length_penalty": 0.8,
    "no_repeat_ngram_size": 4,
    "max_new_tokens": 12,
    "eos_token_id": EOS,
    "pad_token_id": PAD,
}


@torch.inference_mode()
def reference(model: PreTrainedModel, prompt: list[int], rule: dict[str, Any]) -> list[int]:
    """examples/NLG/src/gpt2_beam.py at c4593f0 for one input, in words of our own."""
    n, most = rule["no_repeat_ngram_size"], rule["max_new_tokens"]
    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    best: tuple[float, list[int]] | None = None

    def offer(total: float, text: list[int]) -> None:
        nonlocal best
        score = total / len(text) ** rule["length_penalty"]
        if best is None or best[0] < score:
            best = (score, text)

    for _ in range(most):
        continuations = []
        beams = [beam for beam in beams if beam[0] > -torch.inf]
        if not beams:
            break
        output = model(torch.tensor([prompt + text for _, text in beams]), use_cache=False)
        for (total, text), logits in zip(beams, output.logits[:, -1].double(), strict=True):
            for start in range(len(text) - n + 1 if n else 0):
                if n == 1 or text[start : start + n - 1] == text[len(text) - n + 1 :]:
                    logits[text[start + n - 1]] = -torch.inf
            gains = logits.log_softmax(0).tolist()
            continuations += [(total + gain, [*text, token]) for token, gain in enumerate(gains)]
        beams = sorted(continuations, key=lambda pair: -pair[0])[: rule["beams"]]
        for i, (total, text) in enumerate(beams):
            if text[-1] == rule["eos_token_id"]:
                if total > -torch.inf:
                    offer(total, text)
                beams[i] = (-torch.inf, text)
    for total, text in beams:
        if total > -torch.inf:
            offer(total, text)
    assert best is not None
    return best[1][:-1] if best[1][-1] == rule["eos_token_id"] else best[1]


def sharpened(model: PreTrainedModel, by: float = 6.0) -> PreTrainedModel:
    """Random weights whose probabilities are far from even, so that few texts are nearly as good as others."""
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(by if "embed" not in name and "wte" not in name and "wpe" not in name else 1.0)
    return model.eval()


def trained(model: PreTrainedModel) -> PreTrainedModel:
    """Briefly, on texts that end: a few tokens in rising order, then eos."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(40):
        first = torch.randint(5, 40, (16, 1), generator=generator)
        tokens = (first + torch.arange(10)).clamp(max=VOCABULARY - 1)
        ends = torch.randint(4, 10, (16, 1), generator=generator)
        tokens = tokens.masked_fill(torch.arange(10) >= ends, EOS)
        optimizer.zero_grad()
        model(tokens, labels=tokens).loss.backward()
        optimizer.step()
    return model.eval()


def prompts() -> list[list[int]]:
    """Seven inputs of 1 to 12 tokens."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, 13, (7,), generator=generator).tolist()
    return [torch.randint(5, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


@pytest.fixture(scope="module", params=["gpt2", "llama", "gpt2 trained", "llama trained"])
def model(request: pytest.FixtureRequest) -> Iterator[PreTrainedModel]:
    torch.manual_seed(1)
    family, *more = request.param.split()
    made = GPT2LMHeadModel(gpt2_config()) if family == "gpt2" else LlamaForCausalLM(llama_config())
    yield trained(made) if more else sharpened(made)


@pytest.mark.parametrize(
    ("changes", "batch_size"),
    [
        ({}, 3),
        ({}, 16),
        ({"beams": 1}, 3),
        ({"beams": 9, "max_new_tokens": 7}, 4),
        ({"no_repeat_ngram_size": 0}, 3),
        ({"no_repeat_ngram_size": 1}, 3),
        ({"no_repeat_ngram_size": 2, "length_penalty": 2.5}, 3),
        ({"length_penalty": 0.0}, 3),
        ({"length_penalty": -1.5}, 3),
        ({"max_new_tokens": 1}, 3),
        ({"max_new_tokens": 20, "beams": 3}, 5),
    ],
)
def test_the_texts_are_those_of_the_plain_reference(
    model: PreTrainedModel, changes: dict[str, Any], batch_size: int
) -> None:
    rule = SETTINGS | changes
    assert beam_search(model, prompts(), batch_size=batch_size, **rule) == [
        reference(model, p, rule) for p in prompts()
    ]


@pytest.mark.parametrize(("bias", "longest"), [(-1e4, 12), (1e4, 0), (3.0, 11)], ids=["never", "at once", "everywhere"])
def test_texts_that_end_never_at_once_and_everywhere(bias: float, longest: int) -> None:
    torch.manual_seed(2)
    model = sharpened(LlamaForCausalLM(llama_config(tie_word_embeddings=False)))
    head = torch.nn.Linear(32, VOCABULARY)
    head.weight, head.bias.data[:] = model.lm_head.weight, 0.0
    head.bias.data[EOS] = bias
    model.lm_head = head
    found = beam_search(model, prompts(), batch_size=4, **SETTINGS)
    assert found == [reference(model, prompt, SETTINGS) for prompt in prompts()]
    assert max(map(len, found)) <= longest
    assert min(map(len, found)) == (12 if bias < 0 else 0)


def test_a_prompt_runs_once_and_beams_that_cannot_win_are_not_computed() -> None:
    torch.manual_seed(1)
    model = trained(GPT2LMHeadModel(gpt2_config()))
    rows: list[int] = []
    model.transformer.h[0].register_forward_pre_hook(lambda _, arguments: rows.append(arguments[0].shape[1]))
    found = beam_search(model, prompts(), batch_size=len(prompts()), **SETTINGS)
    assert rows[0] == sum(map(len, prompts()))
    assert len(rows) <= SETTINGS["max_new_tokens"]
    assert sum(rows[1:]) < 0.75 * SETTINGS["beams"] * len(found) * (SETTINGS["max_new_tokens"] - 1)


def test_an_input_that_is_finished_leaves_its_slot_to_the_next_while_others_run() -> None:
    torch.manual_seed(1)
    model = trained(LlamaForCausalLM(llama_config()))
    calls: list[tuple[int, int]] = []  # prompts that begin, rows that reach the head

    def watch(_: torch.nn.Module, __: tuple[Any, ...], given: dict[str, Any]) -> None:
        calls.append((int((given["position_ids"] == 0).sum()), len(given["logits_to_keep"])))

    model.register_forward_pre_hook(watch, with_kwargs=True)
    beam_search(model, prompts(), batch_size=3, **SETTINGS)
    assert calls[0] == (3, 3) and sum(begin for begin, _ in calls) == len(prompts())
    assert any(0 < begin < rows for begin, rows in calls[1:])


def test_the_model_is_left_as_it_was() -> None:
    model = GPT2LMHeadModel(gpt2_config()).train()
    before = model.config._attn_implementation
    beam_search(model, [[5, 6]], batch_size=1, **SETTINGS)
    assert (model.config._attn_implementation, model.training) == (before, True)


def test_a_model_that_looks_through_a_window_is_one_clear_line() -> None:
    model = MistralForCausalLM(MistralConfig(**DECODER, sliding_window=8))
    with pytest.raises(UserError, match=r"MistralAttention .* task\.decode\.search=transformers"):
        beam_search(model, [[5, 6]], batch_size=1, **SETTINGS)


def test_no_prompts_have_no_texts() -> None:
    assert beam_search(GPT2LMHeadModel(gpt2_config()), [], batch_size=4, **SETTINGS) == []


def test_a_model_whose_attention_is_its_own_is_one_clear_line() -> None:
    model = GPT2LMHeadModel(gpt2_config())
    model._supports_attention_backend = False
    with pytest.raises(UserError, match=r"GPT2LMHeadModel .* task\.decode\.search=transformers"):
        beam_search(model, [[5, 6]], batch_size=1, **SETTINGS)


def test_scores_that_are_no_numbers_end_the_search_with_one_line(model: PreTrainedModel) -> None:
    """Not with another input's text, which stood in the slot before."""
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.get_input_embeddings().weight[3] = torch.nan
    asked = prompts()
    head = broken.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().nan_to_num(0.0))  # tied to the embeddings
    head.register_forward_hook(lambda module, args, logits: logits.index_fill(-1, torch.tensor([3]), -torch.inf))
    assert len(beam_search(broken, asked, batch_size=2, **SETTINGS)) == len(asked)
    asked[2] = [*asked[2], 3]
    with pytest.raises(RunError, match=r"gives no numbers \(NaN\).*bf16, try precision=fp32"):
        beam_search(broken, asked, batch_size=2, **SETTINGS)


@pytest.mark.parametrize(("dtype", "multiple"), [(torch.bfloat16, 32), (torch.float32, 8)])
def test_sums_over_places_have_a_length_that_needs_no_padding(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, multiple: int
) -> None:
    """What oneDNN 3.12 pads a bf16 sum with on processors with AVX10 and AMX can be NaN."""
    seen: set[int] = set()
    attention = prefix_tree.grouped_attention

    def noted(query: torch.Tensor, states: tuple[torch.Tensor, torch.Tensor], unseen: torch.Tensor) -> torch.Tensor:
        seen.update((states[0].shape[2], states[1].shape[2], unseen.shape[2]))
        return attention(query, states, unseen)

    monkeypatch.setattr(prefix_tree, "grouped_attention", noted)
    found = beam_search(copy.deepcopy(model).to(dtype), prompts(), batch_size=3, **SETTINGS)
    assert len(found) == len(prompts()) and seen
    assert all(length % multiple == 0 for length in seen)
