"""Figure 3 and the curves: from the records alone, as they say; the same records give the same files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT
from helpers.table_records import COUNTS, grid_of, write_run
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from delta_lora.errors import UserError
from delta_lora.files import write_whole
from delta_lora.suite.config.grid import GridCell, compose_grid
from delta_lora.suite.pages.figure_page import rank_texts, render_figure3
from delta_lora.suite.pages.plots import draw_curves, draw_similarity, draw_spectra, image, look
from delta_lora.suite.pages.render import find_table, write_table
from delta_lora.suite.pages.view import table_view
from delta_lora.suite.records.records import run_folder
from delta_lora.suite.tables.csv_file import read_table, seeds_in
from delta_lora.suite.tables.figure3 import Figure3, read_csv
from delta_lora.suite.tables.figure3_claims import check_similarity
from delta_lora.suite.tables.gain import Gain

E2E = ["BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr"]
TINY = ["scale=tiny"]
BLOCKS = 6
COSINES = {"lora": 0.9, "ft-qv": 0.8, "delta-lora": 0.6, "lora-scaled": 0.5}
RANKS = {"lora": 4, "ft-qv": 64, "delta-lora": 8, "lora-scaled": 4}

pytestmark = [pytest.mark.usefixtures("cells_once"), pytest.mark.xdist_group("tables")]  # composed once


def similarity(method: str, shift: float = 0.0) -> dict[str, dict[str, Any]]:
    """What a run of ``method`` measures: the cosine falls from block to block."""
    values = np.linspace(5.0, 1.0, RANKS[method])
    return {
        f"transformer.h.{block}.attn.c_attn.{name}_proj": {
            "cosine": COSINES[method] - 0.01 * block + shift,
            "weight_norm": 10.0,
            "update_norm": float(np.linalg.norm(values)),
            "rank": RANKS[method],
            "entropy_rank": 0.75 * RANKS[method],
            "singular_values": values.tolist(),
        }
        for block in range(BLOCKS)
        for name in "vq"
    }


def write_similar(results: Path, cell: GridCell, found: Any) -> None:
    write_whole(run_folder(results, cell.key) / "similarity.json", json.dumps(found))
    write_run(results, cell, dict.fromkeys(E2E, 50.0))


def overrides(results: Path, table: str, *extra: str) -> list[str]:
    return [f"table={table}", *TINY, *extra, f"results_dir={results}", f"cache_dir={results / 'cache'}"]


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Finished runs of all four methods with three seeds."""
    asked = overrides(tmp_path, "figure3", "seed=1,2,3")
    for cell in grid_of(tmp_path, *asked).cells:
        write_similar(tmp_path, cell, similarity(cell.config.method.name, 0.001 * cell.config.seed))
    return asked


def figure(asked: list[str]) -> Figure3:
    return render_figure3(asked)[0]


def test_the_csv_has_a_row_for_each_matrix_of_each_run(runs: list[str], tmp_path: Path) -> None:
    render_figure3(runs)
    frame = read_csv((tmp_path / "tiny" / "figure3.csv").read_text(encoding="utf-8"))
    assert len(frame) == 4 * 3 * 2 * BLOCKS
    row = frame[(frame.method == "delta-lora") & (frame.seed == 2) & (frame.block == 5) & (frame.projection == "q")]
    assert float(row.cosine.item()) == pytest.approx(0.6 - 0.05 + 0.002)
    assert (row["rank"].item(), row.rank_limit.item()) == (8, "8")
    assert len(row.singular_values.item()) == 8
    assert set(frame[frame.method == "lora"].rank_limit) == {"4"}
    # by hand: of the eight values 5, 31/7, …, 1, LoRA's rank 4 leaves the last four
    squares = np.linspace(5.0, 1.0, 8) ** 2
    assert float(row.stable_rank.item()) == pytest.approx(squares.sum() / 25, rel=1e-5)
    assert float(row.beyond.item()) == pytest.approx(squares[4:].sum() / squares.sum(), rel=1e-5)
    assert set(frame[frame.method == "lora"].beyond) == {0.0}


def test_the_page_says_how_many_singular_values_matter(runs: list[str], tmp_path: Path) -> None:
    render_figure3(runs)
    page = (tmp_path / "tiny" / "figure3.md").read_text(encoding="utf-8")
    heads = next(line for line in page.splitlines() if line.startswith("| Method |"))
    assert heads.endswith("| Stable rank | Entropy rank | Energy beyond r |")
    squares = np.linspace(5.0, 1.0, 8) ** 2
    shown = f"| 8 | 8 | {squares.sum() / 25:.2f} | 6.00 | {100 * squares[4:].sum() / squares.sum():.1f}% |"
    assert next(line for line in page.splitlines() if line.startswith("| Delta-LoRA")).endswith(shown)


def test_methods_are_compared_on_the_seeds_that_all_have(runs: list[str], tmp_path: Path) -> None:
    render_figure3(runs)
    text = (tmp_path / "tiny" / "figure3.csv").read_text(encoding="utf-8")
    frame = read_csv(text)
    assert seeds_in(text) == [1, 2, 3], "so a page that is made again is of the same seeds"
    means = {tuple(line[:2]) for line in rank_texts(frame[(frame.method == "lora") | (frame.seed < 3)]).lines}
    assert ("LoRA (repr.)", f"{0.9 - 0.025 + 0.0015:.4f}") in means, "seeds 1 and 2, as the others, without 3"
    for drawn in (draw_similarity, draw_spectra):
        panel = drawn(frame[(frame.method == "lora") | (frame.seed == 2)]).axes[-1]
        assert not panel.collections, "one seed has no range"
    apart = frame[((frame.method == "lora") & (frame.seed == 1)) | ((frame.method != "lora") & (frame.seed == 2))]
    assert len(rank_texts(apart).lines) == 4, "no seed is shared: each as it is"


def test_the_figure_has_one_learning_rate_and_lora_at_delta_loras_scale() -> None:
    cells = compose_grid(["table=figure3", "scale=paper"]).cells
    methods = {cell.config.method.name: cell.config.method for cell in cells}
    assert {method.learning_rate for method in methods.values()} == {2e-4}
    assert methods["lora-scaled"].alpha == 3 * methods["delta-lora"].alpha == 96
    assert methods["lora-scaled"].dropout == methods["delta-lora"].dropout == 0


def test_both_sentences_are_held_against_the_blocks(runs: list[str]) -> None:
    found, claims, _ = render_figure3(runs)
    assert [claim.verdict.text(comparable=False) for claim in claims] == ["holds here (provisional)"] * 2
    assert claims[0].shares[0].above == Gain((50.0,) * 3, 0.0, BLOCKS)
    assert claims[0].shares[0].blocks == BLOCKS
    assert found.problems == []


def test_half_of_the_blocks_decide_nothing_and_none_of_them_decides_against(tmp_path: Path) -> None:
    asked = overrides(tmp_path, "figure3", "seed=1,2,3")
    for cell in grid_of(tmp_path, *asked).cells:
        measured = similarity(cell.config.method.name)
        if cell.config.method.name == "delta-lora":  # above the others in the later blocks of W_q, in all of W_v
            for module, values in measured.items():
                if "v_proj" in module or int(module.split(".")[2]) >= 3:
                    values["cosine"] = 0.99
        write_similar(tmp_path, cell, measured)
    lowest = check_similarity(figure(asked))[1]
    assert [share.verdict.outcome for share in lowest.shares] == ["undecided", "fails"]
    assert lowest.verdict.outcome == "fails"
    (tmp_path / "tiny" / "figure3.md").unlink()  # a page of more runs is kept
    one = check_similarity(figure(overrides(tmp_path, "figure3")))[1]
    assert one.verdict.text(comparable=False) == "1 run: difference, item interval"


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (None, "it has no similarity.json"),
        ({}, "no matrix in it"),
        ([], "cannot be read"),
        ({"transformer.h.0.attn.c_attn.q_proj": {"cosine": 1.0}}, "cannot be read"),
        ({"lm_head": similarity("lora").popitem()[1]}, "no block's"),
        ({**similarity("lora"), **{"transformer.h.0.attn.c_attn.q_proj": None}}, "cannot be read"),
    ],
)
def test_a_record_that_does_not_say_is_named_and_left_out(tmp_path: Path, found: Any, problem: str) -> None:
    asked = overrides(tmp_path, "figure3")
    for cell in grid_of(tmp_path, *asked).cells:
        if cell.config.method.name != "lora":
            write_similar(tmp_path, cell, similarity(cell.config.method.name))
        elif found is None:
            write_run(tmp_path, cell, dict.fromkeys(E2E, 50.0))
        else:
            write_similar(tmp_path, cell, found)
    left = figure(asked)
    (only,) = left.problems
    assert problem in only and "lora, seed 1" in only
    assert "delete that folder and train it again: python scripts/train.py -m table=figure3" in only
    assert set(left.frame["method"]) == {"ft-qv", "delta-lora", "lora-scaled"}
    assert [claim.verdict.outcome for claim in check_similarity(left)] == ["not run", "not run"]
    assert problem.split()[-1] in (tmp_path / "tiny" / "figure3.md").read_text(encoding="utf-8").replace("\\", "")


def test_without_a_run_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no finished run of Figure 3 .*train\.py -m table=figure3"):
        render_figure3(overrides(tmp_path, "figure3"))
    assert not (tmp_path / "tiny").exists()


def test_a_figure_of_more_runs_is_kept_unless_forced(runs: list[str], tmp_path: Path) -> None:
    page = tmp_path / "tiny" / "figure3.md"
    page.parent.mkdir()
    page.write_text("**From** Scale: tiny · Runs: 13 of 13 · Seed: 1", encoding="utf-8")
    with pytest.raises(UserError, match=r"figure3.md is made from 13 runs and there are 12 now, so it is kept"):
        render_figure3(runs)
    assert [path.name for path in page.parent.iterdir()] == ["figure3.md"]
    render_figure3(runs, force=True)
    assert "Runs: 12 of 12" in page.read_text(encoding="utf-8")


def test_equal_records_give_equal_files(runs: list[str]) -> None:
    first = {path.name: path.read_bytes() for path in render_figure3(runs)[2]}
    again = {path.name: path.read_bytes() for path in render_figure3(runs)[2]}
    assert first == again
    assert set(first) >= {"figure3.png", "figure3.svg", "figure3-updates.png", "figure3-updates.svg"}
    assert b"<dc:date>" not in first["figure3.svg"]
    assert first["figure3.png"].startswith(b"\x89PNG")


@pytest.mark.parametrize(("table", "setting"), [("table7", "update_ratio"), ("table8", "start_steps")])
def test_a_sweep_has_curves_and_a_shape(tmp_path: Path, table: str, setting: str) -> None:
    asked = overrides(tmp_path, table, "seed=1,2")
    for cell in grid_of(tmp_path, *asked).cells:
        value = float(cell.config.method[setting])
        texts = [{"id": i, "prediction": "a pub", "references": ["a pub"]} for i in range(2)]
        write_run(tmp_path, cell, dict.fromkeys(E2E, 40.0 + value / 2 + cell.config.seed), texts, counts=COUNTS)
    folder = tmp_path / "tiny"
    found = find_table(grid_of(tmp_path, *asked))
    paths = write_table(found, table_view(found), folder)
    assert {path.suffix for path in paths} == {".md", ".csv", ".tex", ".png", ".svg"}
    page = (folder / f"{table}.md").read_text(encoding="utf-8")
    shape = page.split("## Shape")[1]
    line = next(line for line in shape.splitlines() if line.startswith("| BLEU"))
    last, best = ("λ = 5", "λ = 2") if table == "table7" else ("K = 80", "K = 900")
    assert last in line and best in line
    assert ("+0.49" if table == "table7" else "+0.91") in line  # by hand, from the paper's BLEU column
    assert "±" in page.split("## Shape")[0]


def test_a_sweeps_curve_has_a_band_over_seeds_and_every_seed_as_a_dot(tmp_path: Path) -> None:
    def drawn(*seeds: int) -> tuple[int, list[float]]:
        """How many dots, and the heights of the band at λ = 0."""
        asked = overrides(tmp_path, "table7", f"seed={','.join(map(str, seeds))}")
        for cell in grid_of(tmp_path, *asked).cells:
            write_run(tmp_path, cell, dict.fromkeys(E2E, 50.0 + cell.config.seed))
        axes = draw_curves(find_table(grid_of(tmp_path, *asked))).axes[0]
        dots = [np.ma.count(kind.get_offsets()[:, 0]) for kind in axes.collections if len(kind.get_offsets()) > 1]
        bands = [
            path.vertices
            for kind in axes.collections
            if kind.get_label() == "95 % over seeds"
            for path in kind.get_paths()
        ]
        return sum(dots), sorted({round(float(y), 2) for x, y in bands[0] if x == 0}) if bands else []

    assert drawn(1, 2) == (12, []), "two seeds have no band"
    count, heights = drawn(1, 2, 3)
    assert count == 18
    half = 4.303 / 3**0.5  # t of 2 degrees of freedom, standard deviation 1
    assert heights == [round(52 - half, 2), round(52 + half, 2)]


def test_a_curve_joins_means_over_the_seeds_that_all_rows_have(tmp_path: Path) -> None:
    """A row with one seed more would else move the line by that seed alone."""

    def drawn(missing: set[tuple[float, int]]) -> tuple[dict[str, list[float]], int]:
        """The named lines' heights by their names, and how many dots there are."""
        results = tmp_path / str(len(missing))
        asked = overrides(results, "table7", "seed=1,2")
        for cell in grid_of(results, *asked).cells:
            if (cell.config.method.update_ratio, cell.config.seed) not in missing:
                write_run(results, cell, dict.fromkeys(E2E, 50.0 + 10 * cell.config.seed))
        axes = draw_curves(find_table(grid_of(results, *asked))).axes[0]
        lines = {str(line.get_label()): list(line.get_ydata()) for line in axes.get_lines()}
        return lines, sum(len(kind.get_offsets()) for kind in axes.collections)

    assert drawn(set()) == ({"ours": [65.0] * 6}, 12)
    assert drawn({(0.0, 2), (3.0, 2)}) == ({"ours, seeds of all rows": [60.0] * 6}, 10)
    assert drawn({(0.0, 2), (3.0, 1), (5.0, 1)}) == ({}, 9), "no seed is shared: dots alone"


def inside(figure: Figure) -> bool:
    """Whether nothing is drawn beyond the picture, as PNG and as SVG."""
    for suffix in ("png", "svg"):
        image(figure, suffix)
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        if drawn.x0 < 0 or drawn.y0 < 0 or drawn.x1 > width or drawn.y1 > height:
            return False
    return True


def committed(name: str, scale: str = "tiny") -> str:
    return (ROOT / f"results/{scale}/{name}.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("scale", ["paper", "tiny"])
def test_no_curve_is_drawn_beyond_the_picture(scale: str) -> None:
    """As the committed figures have it: legends, titles and labels of the axes too."""
    for name, label in (("table7", "λ"), ("table8", "K: ours (the paper’s below)")):
        figure = draw_curves(read_table(committed(name), compose_grid([f"table={name}", f"scale={scale}"])))
        assert inside(figure)
        assert figure.axes[0].get_xlabel() == label


def lines_of(axes: Axes) -> dict[str, tuple[Any, ...]]:
    """Every named line's looks."""
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    return {str(line.get_label()): (line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}


@pytest.mark.parametrize("methods", [3, 9])
def test_every_method_has_a_line_of_its_own_in_both_figures(methods: int) -> None:
    frame = read_csv(committed("figure3"))
    one = frame[frame["method"] == "lora"]
    names = [f"Method {number}" for number in range(methods)]
    frame = pd.concat([one.assign(label=name, cosine=one["cosine"] - 0.01 * i) for i, name in enumerate(names)])
    for draw in (draw_similarity, draw_spectra):
        figure = draw(frame)
        assert inside(figure)
        for axes in figure.axes:
            looks = lines_of(axes)
            assert list(looks) == names
            assert len(set(looks.values())) == methods
        legend = figure.axes[1].get_legend() or figure.legends[0]
        assert [text.get_text() for text in legend.get_texts()] == names


def test_no_two_of_many_lines_look_alike() -> None:
    assert len({tuple(look(place).values()) for place in range(200)}) == 200


def test_every_column_of_a_sweep_is_drawn() -> None:
    grid = compose_grid(["table=table7", "scale=tiny"])
    table = read_table(committed("table7"), grid)
    seven = [f"Metric {number}" for number in range(7)]
    rows = [
        replace(row, scores=dict.fromkeys(seven, row.scores["BLEU"]), printed=dict.fromkeys(seven, row.printed["BLEU"]))
        for row in table.rows
    ]
    figure = draw_curves(replace(table, spec=replace(table.spec, metrics=seven), rows=rows))
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == seven
    assert inside(figure)
