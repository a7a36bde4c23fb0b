"""The best tokens of a step are those of the whole distribution, though little of it is looked at twice."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from delta_lora.suite.run import hypotheses
from delta_lora.suite.run.hypotheses import NEVER, best_tokens


@pytest.mark.parametrize("vocabulary", [7, 640, 3_000, 50_257])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_best_tokens_and_their_log_probabilities_are_those_of_the_whole(
    vocabulary: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    logits = (torch.randn(23, vocabulary, generator=generator) * 4).to(dtype)
    logits[:, -1] = torch.arange(23) % 11  # also in what no whole block holds
    logits[3, 2:] = NEVER
    expected = logits.double().log_softmax(-1).topk(5).values
    gains, tokens = best_tokens(logits, 5)
    assert gains.dtype == torch.float32
    torch.testing.assert_close(gains.double(), expected, atol=2e-5, rtol=1e-5)
    taken = logits.double().log_softmax(-1).gather(1, tokens)
    torch.testing.assert_close(taken, expected, atol=2e-5, rtol=1e-5)
    assert all(len(set(row)) == 5 for row in tokens.tolist())


def test_a_row_in_which_all_is_banned_has_no_best() -> None:
    gains, _ = best_tokens(torch.full((2, 9), NEVER), 4)
    assert gains.isneginf().all()


class Seen(TorchDispatchMode):
    """The float32 tensors that operations give, by their size, and how wide a row is that topk sorts."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.sorted = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        given = function(*arguments, **(named or {}))
        if isinstance(given, Tensor) and given.dtype == torch.float32:
            self.largest = max(self.largest, given.numel())
        if function is torch.ops.aten.topk.default:
            self.sorted = max(self.sorted, arguments[0].shape[1])
        return given


def test_the_vocabulary_is_never_sorted_nor_held_in_float32_for_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypotheses, "CHUNK", 60_000)
    logits = torch.randn(40, 20_000).bfloat16()
    with Seen() as seen:
        best_tokens(logits, 10)
    assert 20_000 <= seen.largest <= 60_000
    assert seen.sorted < 1_000
