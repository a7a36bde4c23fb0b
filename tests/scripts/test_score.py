"""``scripts/score.py``: formats, JSON, and one clear line for each kind of wrong input."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import helpers
import pytest
from helpers import ROOT
from helpers.metrics_odd_inputs import PARITY

from delta_lora.metrics import files

SCRIPT = ROOT / "scripts" / "score.py"
EXPECTED = json.loads((PARITY / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return helpers.script("score")


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return str(path)


def test_e2e_in_another_locale_without_a_system_java(tmp_path: Path) -> None:
    """As on a bare machine: no PATH, no locale, Java options that would change the encoding, unreadable home."""
    environment = {
        "PATH": "",
        "LC_ALL": "C",
        "JAVA_TOOL_OPTIONS": "-Dfile.encoding=ISO-8859-1 -Duser.language=tr",
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    files = [str(PARITY / "e2e_odd.hyp"), str(PARITY / "e2e_odd.ref")]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "e2e", *files], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    result = json.loads(done.stdout)
    assert result.pop("official") == EXPECTED["e2e_odd"]
    assert list(result) == ["BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr"]
    assert result["BLEU"] == pytest.approx(53.62, abs=0.005)
    assert result["CIDEr"] == pytest.approx(2.3345, abs=0.00005)


def test_errors_are_one_line_and_exit_code_2() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "e2e", "nowhere.txt", "nowhere.ref"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: no file nowhere.txt; give the path of a text file\n"
    assert done.stdout == ""


def test_webnlg_equals_the_official_scorer(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a byte order mark and Windows line ends, which change nothing."""
    paths = []
    for name in ("webnlg_every_fourth.hyp", "webnlg_every_fourth.ref.jsonl"):
        text = (PARITY / name).read_text(encoding="utf-8")
        paths.append(write(tmp_path, name, "\ufeff" + text.replace("\n", "\r\n")))
    assert script.main(["webnlg", *paths]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result.pop("official") == EXPECTED["webnlg_every_fourth"]
    assert list(result) == [f"{metric}-{subset}" for metric in ("BLEU", "METEOR", "TER") for subset in "SUA"]
    assert result["BLEU-S"] == pytest.approx(46.97, abs=0.005)


def test_xsum_and_glue(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summaries = write(tmp_path, "summaries", "a cat sat\n\n")
    assert script.main(["xsum", summaries, write(tmp_path, "refs", "a cat sat\na dog\n")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["Rouge-1"] == 50
    assert result["official"] == {"rouge1": 50, "rouge2": 50, "rougeL": 50, "rougeLsum": 50}

    labels = write(tmp_path, "labels", "1\n0\n2\n1\n")
    references = write(tmp_path, "both", "1\tmatched\n0\tmatched\n1\tmismatched\n1\tmismatched\n")
    assert script.main(["glue/mnli", labels, references]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["accuracy"], result["accuracy-matched"], result["accuracy-mismatched"]) == (75, 100, 50)
    assert result["official"]["accuracy"] == 0.75

    similarities = write(tmp_path, "similarities", "1.5\n2.5\n3.25\n")
    assert script.main(["glue/stsb", similarities, similarities]) == 0
    assert json.loads(capsys.readouterr().out)["pearson"] == pytest.approx(100)


def test_e2e_references_are_parted_by_empty_lines(tmp_path: Path) -> None:
    path = Path(write(tmp_path, "refs", "\ufeffa \r\nb\r\n\r\nc\r\n\r\n\r\n"))
    assert files.read_e2e_references(path, 2) == [["a", "b"], ["c"]]


def test_e2e_references_without_empty_lines_are_one_each(tmp_path: Path) -> None:
    path = Path(write(tmp_path, "refs", "a\nb\nc\n"))
    assert files.read_e2e_references(path, 3) == [["a"], ["b"], ["c"]]
    assert files.read_e2e_references(path, 1) == [["a", "b", "c"]]


def test_the_released_csv_is_read_as_instances(tmp_path: Path) -> None:
    content = '"mr","ref"\r\n"name[A]","One, two."\r\n"name[B]","Three."\r\n"name[A]","Say ""four""."\r\n'
    path = Path(write(tmp_path, "testset_w_refs.csv", content))
    assert files.read_e2e_references(path, 2) == [["One, two.", 'Say "four".'], ["Three."]]


def test_the_real_csv_has_630_instances(real_data: Path) -> None:
    references = files.read_e2e_references(real_data / "e2e" / "testset_w_refs.csv", 630)
    assert (len(references), sum(map(len, references))) == (630, 4693)


def test_empty_hypotheses_are_items(tmp_path: Path) -> None:
    assert files.read_lines(Path(write(tmp_path, "hyp", "\na\n\n\n"))) == ["", "a", "", ""]
    assert files.read_lines(Path(write(tmp_path, "hyp", "\na"))) == ["", "a"]


WEBNLG_LINE = '{"references": ["x"], "seen": true}'


@pytest.mark.parametrize(
    ("task", "hypotheses", "references", "message"),
    [
        ("e2e", "a\nb\n", "x\ny\n\nz\n\nw\n", "hyp has 2 hypotheses (an empty line is one) for the 3 instances"),
        ("e2e", "a\nb\n", "x\n\n\n\ny\n", "ref, line 3: an instance without a reference"),
        ("e2e", "a\n", "\n\n", "ref has no reference"),
        ("e2e", "", "x\n", "hyp is empty"),
        ("e2e", b"a\nb\xff\n", "x\n", "hyp, line 2: byte 0xff is not UTF-8"),
        ("webnlg", "a\n", "x\n", "ref, line 1: not JSON"),
        ("webnlg", "a\nb\n", f"{WEBNLG_LINE}\n[1]\n", "ref, line 2: not an object"),
        ("webnlg", "a\nb\n", f"{WEBNLG_LINE}\n\n{WEBNLG_LINE}\n", "ref, line 2: not JSON"),
        ("webnlg", "a\n", '{"references": [], "seen": true}\n', 'line 1: "references" must be a list'),
        ("webnlg", "a\n", '{"references": "x", "seen": true}\n', 'line 1: "references" must be a list'),
        ("webnlg", "a\n", '{"references": ["x"]}\n', 'line 1: "seen" must be true or false, got None'),
        ("webnlg", "a\n", f"{WEBNLG_LINE}\n{WEBNLG_LINE}\n", "1 hypotheses (an empty line is one) for the 2"),
        ("webnlg", "a\n", "[" * 100000, "ref, line 1: not JSON"),
        ("xsum", "a\nb\n", "x\n", "2 hypotheses (an empty line is one) for the 1 instances"),
        ("glue/cola", "1\nyes\n", "1\n0\n", "hyp, line 2: 'yes' is not a number"),
        ("glue/cola", "1\n2\n", "1\n0\n", "prediction 2 is 2.0: the labels of cola are 0, 1"),
        ("glue/rte", "1\n", "1\n0\n", "1 hypotheses (an empty line is one) for the 2 instances"),
        ("glue/mnli", "1\n1\n", "1\tmatched\n0\n", "ref: 1 of 2 lines name their set"),
        ("glue/mnli", "1\n", "1\tother\n", "ref, line 1: set 'other'; give matched or mismatched"),
        ("webnlg", "a\n", '{"references": ["x", " "], "seen": true}\n', "ref, line 1: reference 2 is empty"),
        ("xsum", "a\nb\n", "x\n\n", "ref, line 2: an empty reference"),
        ("e2e", "a\nb\n", '"mr","ref"\n"name[A]",""\n', "ref, line 2: expected a text in each of the columns"),
        ("e2e", "a\nb\n", '"mr","ref"\n', "ref has no reference"),
        ("e2e", "a\nb\n", "mr,ref,fixed\nx,y,z\n", "ref is CSV ('mr,ref,fixed'); give a text file"),
        ("e2e", "a\nb\n", "MR\nname[A]\n", "ref is CSV ('MR')"),
        ("e2e", "a\n", '<?xml version="1.0"?>\n<benchmark>\n', "ref is XML"),
        ("e2e", "a\n", f"{WEBNLG_LINE}\n", "ref is JSON"),
        ("e2e", '"mr","ref"\n"x","y"\n', "x\n\ny\n", "hyp is CSV"),
        ("xsum", "a\n", "[\n", "ref is JSON"),
        ("webnlg", "{}\n", f"{WEBNLG_LINE}\n", "hyp is JSON"),
        ("glue", "1\n", "1\n", "unknown task 'glue': choose one of e2e, webnlg, xsum, glue/mnli"),
    ],
)
def test_wrong_input_is_one_clear_line(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    task: str,
    hypotheses: str | bytes,
    references: str,
    message: str,
) -> None:
    paths = [write(tmp_path, "hyp", hypotheses), write(tmp_path, "ref", references)]
    assert script.main([task, *paths]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_missing_arguments_and_folders_are_one_line_too(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["e2e"]) == 2
    assert "required: HYPOTHESES, REFERENCES; usage:" in capsys.readouterr().err
    assert script.main(["e2e", str(tmp_path), str(tmp_path)]) == 2
    assert "Is a directory" in capsys.readouterr().err
