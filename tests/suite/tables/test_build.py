"""Run records in the paper's tables: the right run in the right place, and nothing else in it."""

from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from helpers.table_records import COUNTS, grid_of, write_run, write_runs

from delta_lora import paper
from delta_lora.errors import UserError
from delta_lora.suite.config.grid import GridCell
from delta_lora.suite.pages.provenance import warning
from delta_lora.suite.pages.view import score_text, table_view
from delta_lora.suite.records.records import read_runs
from delta_lora.suite.tables.build import build_table
from delta_lora.suite.tables.csv_file import read_table, to_csv
from delta_lora.suite.tables.table import Number, Row, Table, comparable

E2E = ["BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr"]


@pytest.fixture(autouse=True)
def no_local_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DELTA_LORA_DATA", raising=False)


def e2e(value: float) -> dict[str, float]:
    return dict.fromkeys(E2E, value)


def row(table: Table, name: str) -> Row:
    return next(row for row in table.rows if row.name == name)


def number(table: Table, name: str, column: str = "BLEU") -> Number:
    score = row(table, name).scores[column]
    assert score is not None
    return score


def shown(table: Table, name: str, head: str) -> tuple[str, str]:
    place = next(place for place, candidate in enumerate(table.rows) if candidate.name == name)
    view = table_view(table)
    entry = view.lines[place][[column.head for column in view.columns].index(head)]
    return entry.text, entry.paper


@pytest.mark.parametrize("number_", range(1, 9))
def test_the_grid_at_paper_scale_has_a_cell_for_every_row_of_the_paper(tmp_path: Path, number_: int) -> None:
    methods = ["method=lora,delta-lora"] if number_ == 4 else []
    table = build_table(grid_of(tmp_path, f"table=table{number_}", "scale=paper", *methods), [])
    printed = paper.table(number_)
    ran = [row.name for row in table.rows if not row.quoted]
    expected = [" ".join(line[head] for head in table.spec.rows) for line in printed.to_dict("records")]
    assert [name for name in ran if name in expected] == [name for name in expected if not name.endswith("-quoted")]
    assert set(ran) - set(expected) == ({"delta-lora 6e-4 2"} if number_ == 6 else set())
    assert set(table.spec.columns) <= set(printed.columns)
    assert all(row.printed[column] for row in table.rows if row.name in expected for column in table.spec.columns)
    assert table.comparable
    assert warning(table.grid) == ""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("model=smollm2-135m", "by model=smollm2-135m."),
        ("task.train.max_steps=10", "by task.train.max_steps=10."),
        ("task.decode.beam_size=1", "by task.decode.beam_size=1."),
        ("method=lora", ""),
        ("task.train.save_steps=7", ""),
    ],
)
def test_other_cells_than_the_tables_own_are_not_the_papers(tmp_path: Path, given: str, said: str) -> None:
    grid = grid_of(tmp_path, "table=table1", "scale=paper", given)
    assert comparable(grid) == (not said)
    assert warning(grid) == (said and f"Not comparable with the paper: these are other cells than its own, {said}")


def test_a_cell_that_several_tables_share_has_one_key(tmp_path: Path) -> None:
    keys = [
        {cell.key for cell in grid_of(tmp_path, *overrides, "scale=paper").cells}
        for overrides in (
            ["table=table1", "method=delta-lora"],
            ["table=table5", "method=delta-lora"],
            ["table=table6", "method=delta-lora", "method.learning_rate=2e-4"],
            ["table=table7", "method.update_ratio=2"],
            ["table=table8", "method.start_steps=500"],
        )
    ]
    assert len(keys[0]) == 1
    assert all(key == keys[0] for key in keys)


def test_our_numbers_stand_beside_the_papers(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "table=table1", "scale=paper", "method=lora,delta-lora")
    write_runs(tmp_path, grid, lambda cell: e2e(68.8125 if cell.config.method.name == "lora" else 69.5))
    table = build_table(grid, read_runs(tmp_path))
    assert shown(table, "lora", "BLEU ↑") == ("68.81", "69.60")
    assert shown(table, "delta-lora", "BLEU ↑") == ("69.50", "70.84")
    assert shown(table, "dylora", "BLEU ↑") == ("not run", "67.89")
    assert shown(table, "lora-quoted", "BLEU ↑") == ("–", "70.4")
    assert shown(table, "lora-quoted", "Method")[0] == "LoRA (quoted from Hu et al. 2022)"


def test_a_run_of_another_configuration_stands_in_no_table(tmp_path: Path) -> None:
    then = grid_of(tmp_path, "table=table1", "scale=paper", "method=lora", "task.train.epochs=3")
    write_runs(tmp_path, then, lambda cell: e2e(99.0))
    table = build_table(grid_of(tmp_path, "table=table1", "scale=paper", "method=lora"), read_runs(tmp_path))
    assert table.runs == []
    assert row(table, "lora").scores["BLEU"] is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"metrics": {**e2e(50.0), "NIST": None}}, "NIST"),
        ({"metrics": {**e2e(50.0), "CIDEr": float("nan")}}, "CIDEr"),
        ({"metrics": {"BLEU": 50.0}}, "NIST, METEOR, ROUGE-L, CIDEr"),
        ({"counts": {"trainable": 1}}, "extra_updatable"),
        ({"train": {}}, "wall_seconds"),
        ({"environment": {"versions": {}}}, "device"),
    ],
)
def test_a_record_that_lacks_something_is_reported_and_left_out(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    grid = grid_of(tmp_path, "table=table1", "scale=paper", "method=lora")
    write_run(tmp_path, grid.cells[0], **{"metrics": e2e(50.0), **changes})
    table = build_table(grid, read_runs(tmp_path))
    assert table.runs == []
    assert row(table, "lora").scores["BLEU"] is None
    assert len(table.problems) == 1
    assert table.problems[0].endswith(f"is left out: it lacks {problem}")


def test_several_seeds_give_mean_and_sample_standard_deviation(tmp_path: Path) -> None:
    scores = {1: 69.1, 2: 69.9, 3: 70.2}
    grid = grid_of(tmp_path, "table=table1", "scale=paper", "method=lora", "seed=1,2,3")
    write_runs(tmp_path, grid, lambda cell: e2e(scores[cell.config.seed]))
    table = build_table(grid, read_runs(tmp_path))
    score = number(table, "lora")
    assert (score.mean, score.sd) == (mean(scores.values()), stdev(scores.values()))
    assert shown(table, "lora", "BLEU ↑")[0] == "69.73 ± 0.57"


def test_a_row_with_seeds_missing_says_so(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "table=table1", "scale=paper", "method=lora", "seed=1,2,3")
    for cell in grid.cells[:2]:
        write_run(tmp_path, cell, e2e(70.0))
    table = build_table(grid, read_runs(tmp_path))
    assert score_text(number(table, "lora"), 2) == "70.00 ± 0.00 (2 of 3)"


def test_settings_match_the_papers_rows_by_value_at_its_scale(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "table=table8", "scale=paper", "method.start_steps=500,550")
    write_runs(tmp_path, grid, lambda cell: e2e(cell.config.method.start_steps / 10))
    table = build_table(grid, read_runs(tmp_path))
    assert number(table, "500").mean == 50
    assert number(table, "550").mean == 55
    assert row(table, "550").printed["BLEU"] == ""
    assert row(table, "0").scores["BLEU"] is None


def test_settings_match_the_papers_rows_in_order_where_they_shrink_with_the_run(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "table=table8", "scale=tiny", "method.start_steps=range(0,101,10)")
    write_runs(tmp_path, grid, lambda cell: e2e(float(cell.config.method.start_steps)))
    table = build_table(grid, read_runs(tmp_path))
    assert [row.name for row in table.rows] == list(paper.table(8)["start_steps"])
    assert number(table, "500").mean == 50
    assert shown(table, "500", "K") == ("50", "500")


def test_learning_rates_and_lambda_name_the_rows_of_table_6(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "table=table6", "scale=tiny", "method.learning_rate=3e-3,9e-3")
    table = build_table(grid, [])
    settings = {row.name: row.settings for row in table.rows}
    assert settings["lora 6e-4 -"] == {"learning_rate": ("9e-3", "6e-4"), "update_ratio": ("-", "-")}
    assert settings["delta-lora 2e-4 2"] == {"learning_rate": ("3e-3", "2e-4"), "update_ratio": ("2", "2")}
    assert settings["delta-lora 6e-4 2"] == {"learning_rate": ("9e-3", ""), "update_ratio": ("2", "")}


def glue(cell: GridCell) -> dict[str, float]:
    lora = paper.table(4).set_index("method").loc["lora"]
    columns = {"sst2": "SST-2", "stsb": "STS-B", "cola": "CoLA"}
    task = cell.config.task.name.removeprefix("glue/")
    return {cell.config.task.metrics[0]: float(lora[columns.get(task, task.upper())])}


def test_the_glue_average_is_the_papers(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "table=table4", "scale=paper", "method=lora")
    write_runs(tmp_path, grid, glue)
    table = build_table(grid, read_runs(tmp_path))
    assert number(table, "lora", "MNLI").mean == 87.40
    assert number(table, "lora", "STS-B").mean == 91.54
    # The paper's own eight columns average 87.129; it prints 87.12.
    assert number(table, "lora", "AVG").mean == pytest.approx(float(row(table, "lora").printed["AVG"]), abs=0.01)


def test_there_is_no_average_without_all_eight_tasks(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "table=table4", "scale=paper", "method=lora")
    for cell in grid.cells[1:]:
        write_run(tmp_path, cell, glue(cell))
    table = build_table(grid, read_runs(tmp_path))
    assert row(table, "lora").scores["MNLI"] is None
    assert row(table, "lora").scores["AVG"] is None
    assert number(table, "lora", "RTE").mean == 86.64


def test_a_sweep_over_something_that_tells_no_rows_apart_is_refused(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "table=table1", "scale=paper", "method=lora", "method.rank=2,4")
    with pytest.raises(UserError, match="row 'lora' would hold several runs of one seed"):
        build_table(grid, [])


def test_parameter_columns_are_counted_in_the_papers_units(tmp_path: Path) -> None:
    counts = {
        "full": {**COUNTS, "trainable": 354_823_168},
        "ft-qv": {**COUNTS, "trainable": 50_331_648},
        "delta-lora": {**COUNTS, "extra_updatable": 50_331_648},
    }
    grid = grid_of(tmp_path, "table=table1", "scale=paper", "method=full,ft-qv,delta-lora")
    for cell in grid.cells:
        write_run(tmp_path, cell, e2e(70.0), counts=counts[cell.config.method.name])
    table = build_table(grid, read_runs(tmp_path))
    assert shown(table, "full", "Trainable") == ("354.82M", "354.92M")
    assert shown(table, "ft-qv", "Trainable") == ("48M", "48M")
    assert shown(table, "delta-lora", "Trainable") == ("0.375M", "0.375M")
    assert shown(table, "delta-lora", "Extra updatable") == ("48M", "48M")
    assert shown(table, "full", "Extra updatable") == ("–", "–")


@pytest.mark.parametrize(
    "overrides",
    [
        ["scale=tiny", "model.path=/x"],
        ["scale=paper", "task.max_train_examples=9"],
        ["scale=paper", "task.split=dev"],
        ["scale=paper", "task.text=official"],
    ],
)
def test_a_table_of_less_than_the_papers_models_and_data_says_so(tmp_path: Path, overrides: list[str]) -> None:
    table = build_table(grid_of(tmp_path, "table=table1", "method=lora", *overrides), [])
    assert warning(table.grid).startswith("Not comparable with the paper")


def test_a_row_read_from_a_file_says_which_seeds_it_lacks(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "table=table1", "scale=tiny", "method=lora,delta-lora", "seed=1,2")
    for cell in grid.cells:
        if (cell.config.method.name, cell.config.seed) != ("delta-lora", 2):
            write_run(tmp_path, cell, e2e(50.0 + cell.config.seed), [])
    built = build_table(grid, read_runs(tmp_path))
    found = read_table(to_csv(built), grid)
    for table in (built, found):
        assert score_text(number(table, "delta-lora"), 2) == "51.00 (1 of 2)"
        assert score_text(number(table, "lora"), 2) == "51.50 ± 0.71"


def test_where_one_run_has_cross_fitted_scores_one_without_them_is_left_out(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "table=table4", "scale=tiny", "method=lora,delta-lora", "task=glue/rte")
    both = {"accuracy": 60.0, "accuracy-last": 59.0, "accuracy-cross-fitted": 58.0}
    for cell, scores in zip(grid.cells, (both, {"accuracy": 61.0}), strict=True):
        write_run(tmp_path, cell, scores)
    table = build_table(grid, read_runs(tmp_path))
    assert table.judged("RTE") == "accuracy-cross-fitted"
    (problem,) = table.problems
    assert problem.endswith("run.json is left out: it lacks accuracy-last, accuracy-cross-fitted")


def test_a_face_says_how_much_of_the_data_it_is_of(tmp_path: Path) -> None:
    """Table 1 has all test inputs, Table 2 every third; what chooses settings has none."""
    first, second, chosen = (
        grid_of(tmp_path, f"table={name}", "scale=laptop") for name in ("table1", "table2", "tuning")
    )
    assert "on real data (at most 500 steps). Compare" in warning(first)
    assert "on real data (621 test inputs, spread over all; at most 500 steps). Compare" in warning(second)
    glue = warning(grid_of(tmp_path, "table=controls-glue", "scale=laptop"))
    assert "on real data (all or the first 16,000 training examples). Compare" in glue
    assert "on real data (182 development inputs, spread over all; at most 500 steps). Compare" in warning(chosen)
