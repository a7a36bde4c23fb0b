"""Beam search over the test inputs: each distinct input once, in batches of similar length (Tables 10 and 12)."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from delta_lora.models.positions import check_room
from delta_lora.settings import checked
from delta_lora.suite.machine import ranks
from delta_lora.suite.run.beam import search
from delta_lora.suite.run.hypotheses import Rule
from delta_lora.suite.run.precision import check_numbers, computing_in
from delta_lora.suite.run.progress import Progress, watched
from delta_lora.tasks.generation import causal_prompts
from delta_lora.tasks.settings import DecodeSettings


class GeneratedNoRepeatNGram(NoRepeatNGramLogitsProcessor):
    """No n-gram twice in what was *generated*; n-grams of the prompt may be copied.

    Transformers' own processor also looks at a decoder-only model's prompt, and so forbids copying any n-gram of it;
    the decoder of microsoft/LoRA looks at the generated part only.

    Args:
        ngram_size: n.
        prompt_length: tokens of the (padded) prompt, left out of the comparison.
    """

    def __init__(self, ngram_size: int, prompt_length: int) -> None:
        super().__init__(ngram_size)
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Ban continuations; input_ids (beams, tokens), scores (beams, vocabulary)."""
        return super().__call__(input_ids[:, self.prompt_length :], scores)


class OnlyNumbers(LogitsProcessor):
    """Ends `generate` where a model's scores are NaN: it would write a text of them all the same."""

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """As they are; scores (beams, vocabulary)."""
        check_numbers(scores)
        return scores


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    inputs: Sequence[str],
    task: DictConfig,
    name: str | None = None,
) -> list[str]:
    """Generate a text for every input; several processes share the batches.

    Args:
        model: the plain model, adapters merged, on its device.
        inputs: source texts; equal ones are decoded once.
        task: its settings. ``decode`` has ``beam_size``, ``length_penalty`` (the summed log-probability is divided by
            the generated length to this power), ``no_repeat_ngram_size``, ``max_new_tokens``, ``batch_size`` (inputs
            at a time), ``search`` (whose beam search) and ``precision``; ``train.max_length`` cuts the inputs of an
            encoder–decoder.
        name: of the run, for a line a minute of how far it is; None: no such lines.

    Returns:
        One text per input, in the order given.

    Raises:
        RunError: the model's scores are no numbers.
        UserError: a prompt leaves no room for ``max_new_tokens`` in the model's positions.
    """
    settings = checked(DecodeSettings, task.decode, "task.decode")
    model.eval()
    distinct = list(dict.fromkeys(inputs))
    encoded = encode(model, tokenizer, distinct, task)
    order = sorted(range(len(distinct)), key=lambda i: (len(encoded[i]), i))
    size = settings.batch_size
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    texts: dict[str, str] = {}
    own = batches[ranks.rank() :: ranks.count()]
    numbers = [i for batch in own for i in batch]
    progress = Progress(name or "", len(distinct))
    console = Console(stderr=True)
    with computing_in(model, settings.precision):
        found = generated(model, tokenizer, [[encoded[i] for i in batch] for batch in own], settings)
        hidden = not (watched() and ranks.is_main())
        for i, ids in track(found, "decoding", total=len(numbers), console=console, disable=hidden):
            text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            texts[distinct[numbers[i]]] = " ".join(str(text).split())
            if name is not None:
                progress.inputs("decoding", min(len(texts) * ranks.count(), len(distinct)))
    everyones = {source: text for part in ranks.gather(texts) for source, text in part.items()}
    return [everyones[source] for source in inputs]


def encode(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, inputs: list[str], task: DictConfig
) -> list[list[int]]:
    """Token ids of each prompt: a decoder-only model's is the input and ``<|endoftext|>``, an encoder's the input.

    Raises:
        UserError: a decoder-only model's prompt leaves no room for ``max_new_tokens`` in its positions.
    """
    if model.config.is_encoder_decoder:
        return tokenizer(inputs, truncation=True, max_length=task.train.max_length)["input_ids"]
    encoded = causal_prompts(tokenizer, inputs)
    check_room(model.config, encoded, task.decode.max_new_tokens)
    return encoded


def generated(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batches: list[list[list[int]]], settings: DecodeSettings
) -> Iterator[tuple[int, list[int]]]:
    """The number of each prompt, counted through the batches, and what is generated after it, as it is found."""
    if settings.search == "transformers":
        number = itertools.count()
        for batch in batches:
            for ids in generate(model, tokenizer, batch, settings):
                yield next(number), ids
    else:
        rule = Rule(
            settings.beam_size,
            settings.length_penalty,
            settings.no_repeat_ngram_size,
            settings.max_new_tokens,
            tokenizer.eos_token_id,
            tokenizer.pad_token_id,
        )
        yield from search(model, [ids for batch in batches for ids in batch], rule, settings.batch_size)


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    settings: DecodeSettings,
) -> list[list[int]]:
    """Transformers' beam search over one batch; returns the generated token ids without the prompts."""
    width = max(len(ids) for ids in prompts)
    pad = tokenizer.pad_token_id
    left = not model.config.is_encoder_decoder
    padding = [[0] * (width - len(ids)) for ids in prompts]
    ids = torch.tensor(
        [[pad] * len(p) + x if left else x + [pad] * len(p) for x, p in zip(prompts, padding, strict=True)]
    )
    mask = torch.tensor([p + [1] * len(x) if left else [1] * len(x) + p for x, p in zip(prompts, padding, strict=True)])
    prompt_length = width if left else 1  # an encoder-decoder's decoder starts from one token
    ngram = settings.no_repeat_ngram_size
    processors = LogitsProcessorList([OnlyNumbers()])
    if ngram:
        processors.append(GeneratedNoRepeatNGram(ngram, prompt_length))
    configuration = GenerationConfig.from_model_config(model.config)
    configuration.update(
        num_beams=settings.beam_size,
        length_penalty=settings.length_penalty,
        max_new_tokens=settings.max_new_tokens,
        max_length=None,
        min_length=0,
        no_repeat_ngram_size=0,  # ours is in the processors
        do_sample=False,
        use_cache=True,  # the Trainer has switched it off in the model's configuration
        early_stopping=False,
        pad_token_id=pad,
        eos_token_id=tokenizer.eos_token_id,
    )
    search: Any = model.generate
    output = search(
        ids.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=configuration,
        logits_processor=processors,
    )
    return output[:, prompt_length:].tolist()
