"""All claims on one page: each sentence with its verdict, over items and seeds, and nothing guessed."""

from pathlib import Path
from typing import Any

import pytest
from helpers.table_records import grid_of, write_run

from delta_lora.errors import UserError
from delta_lora.metrics.base import Resampler
from delta_lora.suite.pages import claims_page, render
from delta_lora.suite.records.records import Run
from delta_lora.suite.tables import compare
from delta_lora.suite.tables.claims import check_claims, overall

E2E = ["BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr"]
TINY = ["scale=tiny", "model.path=/a/checkpoint", "model.kind=causal", "model.name=gpt2-tiny"]
ITEMS = 30


class MeanScore:
    """A metric that needs no Java: the mean of the numbers that the predictions are, under all five names."""

    def __init__(self, run: Run) -> None:
        self.values = [float(line["prediction"]) for line in run.predictions()]
        self.size = len(self.values)

    def score(self, indices: Any = None) -> dict[str, float]:
        chosen = self.values if indices is None else [self.values[i] for i in indices]
        return dict.fromkeys(E2E, sum(chosen) / len(chosen))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DELTA_LORA_DATA", raising=False)

    def resampler(run: Run) -> Resampler:
        return MeanScore(run)  # type: ignore[return-value]

    monkeypatch.setattr(render, "resampler_of", resampler)
    assert compare.resampler_of is not resampler


def overrides(results: Path, table: str, *extra: str) -> list[str]:
    return [f"table={table}", "scale=tiny", *extra, f"results_dir={results}", f"cache_dir={results / 'cache'}"]


def write_e2e(results: Path, table: str, level: dict[str, float], *extra: str) -> None:
    """Finished runs whose items lie around a level; a row is named by its method or swept setting."""
    for cell in grid_of(results, *overrides(results, table, *extra)[:-2]).cells:
        method = cell.config.method
        mean = level.get(str(method.name), 0.0) + level.get("λ", 0.0) * (method.get("update_ratio") or 0)
        values = [mean + 0.01 * (i % 3) + 0.001 * cell.config.seed for i in range(ITEMS)]
        lines = [{"id": i, "prediction": str(value), "references": ["x"]} for i, value in enumerate(values)]
        write_run(results, cell, dict.fromkeys(E2E, sum(values) / ITEMS), lines)


def page(results: Path, *extra: str) -> str:
    claims_page.render_claims(overrides(results, "", *extra)[1:])
    return (results / "tiny" / "claims.md").read_text(encoding="utf-8")


def test_a_sentence_holds_if_all_that_it_compares_does() -> None:
    assert overall(["reproduced", "reproduced"]) == "reproduced"
    assert overall(["reproduced", "within noise"]) == "within noise"
    assert overall(["within noise", "not run"]) == "not run"
    assert overall(["not run", "not reproduced", "reproduced"]) == "not reproduced"


def test_every_sentence_has_a_line_and_a_verdict(tmp_path: Path) -> None:
    write_e2e(tmp_path, "table5", {"lora": 50, "delta-lora-dropout": 60, "delta-lora": 55})
    text = page(tmp_path)
    lines = [line for line in text.split("From ")[0].splitlines() if line.startswith(("| Table", "| Figure"))]
    assert len(lines) == 19
    assert all(
        line.split("|")[-2].strip() in ("reproduced", "within noise", "not reproduced", "not run") for line in lines
    )
    assert (
        "| Table 5 | Updating W with the delta alone already improves on LoRA (§5.4) | 5 reproduced | reproduced |"
        in text
    )
    assert "further (§5.4) | 5 not reproduced | not reproduced |" in text
    assert "| Table 4 | Delta-LoRA beats LoRA on all eight tasks (§5.3) | 8 not run | not run |" in text
    assert "Not comparable with the paper" in text
    assert "From 3 runs, seeds 1." in text


def test_the_papers_numbers_stand_beside_ours(tmp_path: Path) -> None:
    write_e2e(tmp_path, "table5", {"lora": 50, "delta-lora-dropout": 60, "delta-lora": 65})
    line = next(
        line for line in page(tmp_path).splitlines() if "against LoRA (repr.), BLEU" in line and "+0.69" in line
    )
    assert "| +0.69 | +10.00 | +10.00 to +10.00 | reproduced |" in line  # 70.29 - 69.60 in Table 5


@pytest.mark.parametrize("table", ["table5", "table6", "table7", "table8"])
def test_several_seeds_are_means_and_pairs(tmp_path: Path, table: str) -> None:
    write_e2e(tmp_path, table, {"lora": 50, "delta-lora": 60, "delta-lora-dropout": 55, "λ": 1}, "seed=1,2,3")
    found, _, _ = render.render_table(overrides(tmp_path, table, "seed=1,2,3"))
    score = next(row.scores["BLEU"] for row in found.rows if row.runs["BLEU"])
    assert score is not None and score.seeds == score.asked == 3
    assert score.sd == pytest.approx(0.001)
    claims = check_claims(found, render.bootstrap_of(found.grid))
    gains = [comparison.gain for claim in claims for comparison in claim.comparisons]
    assert all(gain is not None and gain.seeds == 3 for gain in gains)
    text = (tmp_path / "tiny" / f"{table}.md").read_text(encoding="utf-8")
    assert "± is the sample standard deviation over seeds." in text
    assert "## Shape" in text


def test_a_record_without_a_metric_is_reported_and_not_run(tmp_path: Path) -> None:
    write_e2e(tmp_path, "table5", {"lora": 50, "delta-lora-dropout": 60, "delta-lora": 65})
    cell = next(
        c for c in grid_of(tmp_path, *overrides(tmp_path, "table5")[:-2]).cells if c.config.method.name == "lora"
    )
    write_run(tmp_path, cell, {"BLEU": 50.0})
    text = page(tmp_path)
    assert "it lacks NIST, METEOR, ROUGE-L, CIDEr" in text
    assert "improves on LoRA (§5.4) | 5 not run | not run |" in text


def test_without_any_run_the_commands_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no finished run of any table .* make tables SCALE=tiny"):
        claims_page.render_claims(overrides(tmp_path, "")[1:])
    assert not (tmp_path / "tiny").exists()


def test_a_page_of_more_runs_is_kept(tmp_path: Path) -> None:
    write_e2e(tmp_path, "table5", {"lora": 50, "delta-lora-dropout": 60, "delta-lora": 55})
    kept = tmp_path / "tiny" / "claims.md"
    kept.parent.mkdir()
    kept.write_text("# Claims\n\nFrom 95 runs, seeds 1.\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"claims.md is made from 95 runs and there are 3 now, so it is kept"):
        page(tmp_path)
    assert not (tmp_path / "tiny" / "claims.csv").exists()
