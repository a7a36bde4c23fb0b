"""The scripts and the example that come with the library, run for real."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import ROOT, script

from delta_lora.suite.bench import decoding, scoring
from delta_lora.suite.bench.cases import METHODS


def test_the_fold_keeps_the_update_that_algorithm_1_loses_in_bfloat16() -> None:
    """docs/delta-lora.md: 400 steps at 2e-4; at most 2 % of the learned update lost, over 20 % by the loop."""
    error = script("precision").learned_update_error
    assert error(torch.bfloat16, literal=False) <= 0.02
    assert error(torch.bfloat16, literal=True) > 0.20


def test_in_float64_both_forms_are_exact() -> None:
    error = script("precision").learned_update_error
    for literal in (False, True):
        assert error(torch.float64, literal, steps=40) < 1e-6  # the factors are float32's


def test_the_example_runs_and_its_export_has_the_models_logits(tmp_path: Path) -> None:
    example = ROOT / "examples" / "any_model.py"
    done = subprocess.run(
        [sys.executable, example, example], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert sum(line.startswith("step ") for line in done) == 4
    assert float(done[-1].removeprefix("largest difference of logits: ")) < 1e-4
    config = json.loads((tmp_path / "outputs/any-model/adapter/adapter_config.json").read_text())
    assert config["r"] == 8 and config["modules_to_save"] == ["lm_head"]


@pytest.mark.slow
def test_the_benchmark_measures_every_method(tmp_path: Path) -> None:
    bench = script("bench")
    bench.main(["--model", "roberta-base", "--steps", "1", "--batch-size", "1", "--output", str(tmp_path)])
    record = json.loads((tmp_path / "cpu.json").read_text())
    rows = {row["method"]: row for row in record["rows"]}
    assert rows.keys() == METHODS.keys()
    # All parameters and two moments against the factors and theirs: AdamW keeps two numbers a parameter.
    trainable = 294_912 + 592_130 + 769  # r = 8 on 24 matrices, and a head of 768 × 768 + 768 + 768 × 3 + 3
    assert rows["lora"]["checkpoint_bytes"] == pytest.approx(3 * 4 * trainable, rel=0.01)
    assert rows["full"]["checkpoint_ratio"] > 100 and rows["full"]["peak_memory_ratio"] > 1.5
    assert rows["lora"]["step_ratio"] == rows["lora"]["peak_memory_ratio"] == 1
    assert "| roberta-base | delta-lora (folded) |" in (tmp_path / "cpu.md").read_text()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three of E2E's instances, one with two references."""
    rows = [("name[The Vaults], eatType[pub]", text) for text in ("The Vaults is a pub.", "A pub is The Vaults.")]
    rows += [(f"name[The Mill], food[{food}]", f"The Mill serves {food} food.") for food in ("Thai", "French")]
    (tmp_path / "e2e").mkdir()
    with (tmp_path / "e2e/testset_w_refs.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("mr", "ref"), *rows])
    return tmp_path


def test_what_is_scored_is_a_reference_held_out(data: Path) -> None:
    hypotheses, references = scoring.held_out(data / "e2e")
    assert hypotheses == ["A pub is The Vaults.", "The Mill serves Thai food.", "The Mill serves French food."]
    assert references == [["The Vaults is a pub."], [hypotheses[1]], [hypotheses[2]]]


@pytest.mark.slow
def test_scoring_is_measured_beside_the_official_code(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The scores are the same; the clocks of children count, or METEOR would seem to cost nothing."""
    script("bench").main(["--score", "--data", str(data), "--output", str(data)])
    page = (data / "score.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == page and "3 texts against 3 references" in page
    cells = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in page.splitlines() if line.startswith("| ")}
    for name in ("METEOR", "ROUGE-L", "CIDEr"):
        assert float(cells[name][4].rstrip(" |")) < 1e-9
    assert float(cells["METEOR"][1]) > 0.1 and float(cells["METEOR"][2]) > 0.1
    assert float(cells["each later cell"][1]) < float(cells["a first cell"][1])


def test_scoring_without_data_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script("bench").main(["--score", "--data", str(tmp_path)])
    assert "no testset_w_refs.csv" in capsys.readouterr().err


def test_the_benchmark_of_decoding_holds_our_texts_against_those_of_one_input_at_a_time(
    gpt2_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = script("bench")
    monkeypatch.setattr(decoding, "peak_in_own_process", decoding.peak)
    options = ["--decode", "--model", str(gpt2_checkpoint), "--inputs", "3", "--sample", "2", "--output", str(tmp_path)]
    bench.main([*options, "--data", str(tmp_path)])
    (row,) = json.loads((tmp_path / "decode-cpu.json").read_text())["rows"]
    assert row["fp32"]["other_texts"] == 0 and row["original"]["inputs"] == 2
    assert row["fp32"]["ratio"] == pytest.approx(row["fp32"]["generate"] / row["fp32"]["ours"])
    assert min(row["peak_memory_bytes"].values()) > 1e8
    page = (tmp_path / "decode-cpu.md").read_text()
    assert f"| {gpt2_checkpoint.name} | 3 (random tokens) |" in page
    half, default = row["bf16"], row["fp32"]["generate"]
    assert f"| {half['ours']:.2f} | {half['ratio']:.2f} | {default / half['ours']:.2f} |" in page
    with pytest.raises(SystemExit):
        bench.main(["--decode", "--model", "no-such-folder"])
