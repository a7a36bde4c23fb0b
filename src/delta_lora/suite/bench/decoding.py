"""What decoding costs: our beam search, Transformers' ``generate`` and microsoft/LoRA's way, by E2E's settings.

``python -m delta_lora.suite.bench.decoding '{"model": …, …}' ours`` prints the peak memory of one of them, in bytes.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PretrainedConfig, PreTrainedModel

from delta_lora.errors import UserError
from delta_lora.models.load import PUBLISHED, random_model
from delta_lora.places import place
from delta_lora.settings import checked
from delta_lora.suite.bench.child import peak_resident_bytes
from delta_lora.suite.bench.original import one_at_a_time
from delta_lora.suite.config.compose import CONFIGS
from delta_lora.suite.config.settings import make_task
from delta_lora.suite.run.beam import search
from delta_lora.suite.run.decoding import generate
from delta_lora.suite.run.hypotheses import Rule
from delta_lora.suite.run.precision import computing_in
from delta_lora.tasks.generation import GenerationTask, causal_prompts
from delta_lora.tasks.settings import DecodeSettings

ROWS = 4693  # of E2E's test file: microsoft/LoRA decodes an input once for each of its references
SHAPES: dict[str, Callable[[], PretrainedConfig]] = {
    "gpt2-medium": PUBLISHED["openai-community/gpt2-medium"],
    "smollm2-135m": lambda: LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    ),
}  # fmt: skip
Decoder = Callable[[list[list[int]]], list[list[int]]]


@dataclass(frozen=True)
class DecodeCase:
    """A model (a name of `SHAPES`, with random weights, or a checkpoint's folder) and the inputs that it continues."""

    model: str
    data: str | None  # the folder of the data sets; None: random tokens, as many as E2E's inputs have
    inputs: int  # how many of E2E's, evenly chosen
    sample: int  # of them, for microsoft/LoRA's way
    device: str


class Decoding:
    """A case ready to run: the model, the prompts from the shortest to the longest, and the ways to decode them."""

    def __init__(self, case: DecodeCase) -> None:
        with initialize_config_dir(str(CONFIGS), version_base=None):
            data = [] if case.data is None else [f"data_dir={place('--data', case.data)}"]
            config = compose("train", overrides=["task=e2e", *data])
        torch.manual_seed(0)
        self.settings = checked(DecodeSettings, config.task.decode, "task.decode")
        self.distinct: int = config.task.test_examples
        if case.model in SHAPES:
            self.model: PreTrainedModel = random_model("causal", SHAPES[case.model]())
        elif (folder := place("--model", case.model)).is_dir():
            self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        else:
            raise UserError(f"--model {case.model}: give {', '.join(SHAPES)} or the folder of a checkpoint")
        network: Any = self.model
        network.to(case.device).eval()
        self.tokenizer: Any = None if case.model in SHAPES else AutoTokenizer.from_pretrained(folder)
        known = self.tokenizer or self.model.config
        self.eos: int = known.eos_token_id
        self.pad: int = self.eos if known.pad_token_id is None else known.pad_token_id
        self.real = self.tokenizer is not None and case.data is not None
        self.prompts = sorted(self.texts(config) if self.real else self.tokens(config), key=len)
        chosen = (np.arange(case.inputs) * len(self.prompts)) // case.inputs
        self.prompts = [self.prompts[i] for i in sorted(set(chosen.tolist()))]

    def texts(self, config: DictConfig) -> list[list[int]]:
        """E2E's test inputs."""
        task = make_task(config)
        assert isinstance(task, GenerationTask), "E2E is one"
        return causal_prompts(self.tokenizer, [item.input for item in task.test_items()])

    def tokens(self, config: DictConfig) -> list[list[int]]:
        """Random tokens, as many as E2E's test inputs have (`task.lengths`), and the end token."""
        random, deciles = np.random.default_rng(0), list(config.task.lengths.input)
        lengths = np.interp(random.random(self.distinct), np.linspace(0, 1, len(deciles)), deciles).round()
        vocabulary = self.model.config.vocab_size
        return [[*random.integers(5, vocabulary, int(length)).tolist(), self.eos] for length in lengths]

    def rule(self) -> Rule:
        """E2E's settings, for our search."""
        own = self.settings
        lengths = (own.length_penalty, own.no_repeat_ngram_size, own.max_new_tokens)
        return Rule(own.beam_size, *lengths, self.eos, self.pad)

    def ours(self, prompts: list[list[int]]) -> list[list[int]]:
        """Our search over all prompts."""
        found = dict(search(self.model, prompts, self.rule(), self.settings.batch_size))
        return [found[i] for i in range(len(prompts))]

    def generate(self, prompts: list[list[int]]) -> list[list[int]]:
        """Transformers' search in batches of similar length."""
        size = self.settings.batch_size
        named: Any = SimpleNamespace(eos_token_id=self.eos, pad_token_id=self.pad)  # what is asked of a tokenizer
        batches = [prompts[i : i + size] for i in range(0, len(prompts), size)]
        with torch.inference_mode():
            return [ids for batch in batches for ids in generate(self.model, named, batch, self.settings)]

    def original(self, prompts: list[list[int]]) -> list[list[int]]:
        """microsoft/LoRA's way, one prompt at a time."""
        return [one_at_a_time(self.model, prompt, self.rule()) for prompt in prompts]


def measure(case: DecodeCase) -> dict[str, Any]:
    """One model's row: seconds an input of each way, ours and ``generate`` in turn, and ours in texts and memory."""
    decoding = Decoding(case)
    prompts = decoding.prompts
    turns = 2 if len(prompts) >= 2 * decoding.settings.batch_size else 1  # of whole batches
    row: dict[str, Any] = {"model": Path(case.model).name, "inputs": len(prompts), "real_inputs": decoding.real}
    found: dict[str, dict[int, list[int]]] = {}
    for precision in ("fp32", "bf16"):
        seconds, texts = {"ours": 0.0, "generate": 0.0}, found.setdefault(precision, {})
        with computing_in(decoding.model, precision):
            for turn in range(turns):
                numbers = range(turn, len(prompts), turns)
                part = [prompts[i] for i in numbers]
                taken, own = timed(decoding.ours, part, case.device)
                texts |= dict(zip(numbers, own, strict=True))
                seconds["ours"] += taken
                seconds["generate"] += timed(decoding.generate, part, case.device)[0]
        ratio = seconds["generate"] / seconds["ours"]
        row[precision] = {name: value / len(prompts) for name, value in seconds.items()} | {"ratio": ratio}
        print(f"{row['model']:<16}{precision:<6}{row[precision]['ours']:8.3f} s an input  × {ratio:.2f}", flush=True)
    sample = sorted({(2 * i + 1) * len(prompts) // (2 * case.sample) for i in range(case.sample)})
    taken, texts_alone = timed(decoding.original, [prompts[i] for i in sample], case.device)
    row["original"] = {"inputs": len(sample), "seconds": taken / len(sample)}
    row["original"]["ratio"] = row["original"]["seconds"] * ROWS / (row["fp32"]["ours"] * decoding.distinct)
    for precision, texts in found.items():
        row[precision]["other_texts"] = sum(texts[i] != alone for i, alone in zip(sample, texts_alone, strict=True))
    row["mean_length"] = sum(map(len, found["fp32"].values())) / len(prompts)
    row["peak_memory_bytes"] = {way: peak_in_own_process(case, way) for way in ("ours", "generate")}
    return row


def timed(decode: Decoder, prompts: list[list[int]], device: str) -> tuple[float, list[list[int]]]:
    """Seconds, and the texts: processor time on the CPU, which what else runs hardly disturbs; wall time on a GPU."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    began = clock()
    texts = decode(prompts)
    return clock() - began, texts


def peak_in_own_process(case: DecodeCase, way: str) -> int:
    """Peak memory of one way in float32, in a fresh process."""
    command = [sys.executable, "-m", __name__, json.dumps(asdict(case)), way]
    variables = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=variables)
    return int(done.stdout.splitlines()[-1])


def peak(case: DecodeCase, way: str) -> int:
    """Peak memory after one batch of the longest inputs."""
    decoding = Decoding(case)
    getattr(decoding, way)(decoding.prompts[-decoding.settings.batch_size :])
    return torch.cuda.max_memory_allocated() if case.device == "cuda" else peak_resident_bytes()


if __name__ == "__main__":
    print(peak(DecodeCase(**json.loads(sys.argv[1])), sys.argv[2]))
