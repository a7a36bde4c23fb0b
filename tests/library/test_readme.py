"""What README's first screen and the library's page show runs as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT
from helpers.models import llama_config
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaForCausalLM, Trainer, TrainingArguments

BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)
BATCH = {name: torch.arange(10)[None] for name in ("input_ids", "labels")}


def base() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(llama_config())


def sooner(code: str) -> str:
    """The same code where W moves within a few steps."""
    assert "start_steps=500" in code
    return code.replace("start_steps=500", "start_steps=1")


def assert_exported(model: PeftModel) -> None:
    loaded = PeftModel.from_pretrained(base(), "adapter").eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**BATCH).logits, model.eval()(**BATCH).logits, rtol=0, atol=1e-5)
        assert (loaded(**BATCH).logits - base()(**BATCH).logits).abs().max() > 1e-6


def test_the_first_screens_loop_ends_with_an_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"base": base(), "loader": [BATCH] * 4}
    exec(sooner(BLOCKS[0]), names)
    assert names["delta"].anchored
    assert_exported(names["model"])


def test_the_trainers_three_lines_end_with_an_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = get_peft_model(base(), LoraConfig(r=2, target_modules=["q_proj"]))
    arguments = TrainingArguments("run", max_steps=4, report_to=[], disable_tqdm=True, use_cpu=True)
    row = {name: values[0].tolist() for name, values in BATCH.items()}
    exec(sooner(BLOCKS[1]), {"model": model, "arguments": arguments, "data": [row] * 8, "Trainer": Trainer})
    assert_exported(model)
