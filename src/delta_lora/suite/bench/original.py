"""The way in which microsoft/LoRA's own script searches: one input at a time, every step of it, each beam apart.

It is the yardstick of our search's texts and of its time (``scripts/bench.py --decode``).
"""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from delta_lora.suite.run.hypotheses import Rule


@torch.inference_mode()
def one_at_a_time(model: PreTrainedModel, prompt: list[int], rule: Rule) -> list[int]:
    """examples/NLG/src/gpt2_beam.py at c4593f0 with batch size 1, in words of our own.

    The prompt runs once for each beam, all its positions pass the head, the cache is copied each step, repeats are
    looked for in lists, and the search goes on for ``max_new_tokens`` steps. The original also pads each prompt to 512
    tokens, which is left out here: it is slower still.

    Returns:
        Generated ids without the closing eos.
    """
    device, beams, eos = model.device, rule.beams, rule.eos_token_id
    tokens = torch.tensor([prompt] * beams, device=device)
    cache: Any = DynamicCache(config=model.config)
    sums = torch.zeros(beams, device=device)
    history = torch.empty(beams, 0, dtype=torch.long, device=device)
    best: tuple[float, list[int]] = (float("-inf"), [])
    for step in range(rule.max_new_tokens):
        logits: Tensor = model(input_ids=tokens, past_key_values=cache, use_cache=True).logits[:, -1].float()
        for row, written in enumerate(history.tolist()):
            logits[row, repeats(written, rule.no_repeat_ngram_size)] = float("-inf")
        gains = logits.softmax(dim=-1).log()
        sums, chosen = (gains[0] if step == 0 else (sums[:, None] + gains).flatten()).topk(beams)
        parents = chosen // gains.shape[1]
        tokens = (chosen % gains.shape[1])[:, None]
        cache.reorder_cache(parents)
        history = torch.cat([history[parents], tokens], dim=1)
        for beam in range(beams):
            if tokens[beam, 0] == eos or step + 1 == rule.max_new_tokens:
                score = float(sums[beam] / (step + 1) ** rule.length_penalty)
                best = (score, history[beam].tolist()) if score > best[0] else best
                sums[beam] = float("-inf")
    return best[1][:-1] if best[1][-1] == eos else best[1]


def repeats(written: list[int], n: int) -> list[int]:
    """The tokens that would complete an n-gram of ``written`` a second time; none for n = 0."""
    last = written[len(written) - n + 1 :]
    starts = range(len(written) - n + 1) if n else ()
    return [written[i + n - 1] for i in starts if written[i : i + n - 1] == last]
