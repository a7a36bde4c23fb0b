"""A terminal that lacks a character (log-in nodes with Latin-1 or ASCII) stops no script."""

import os
import subprocess
import sys

import pytest
from helpers import ROOT

SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_characters_that_the_terminal_lacks_are_replaced(script: str) -> None:
    arguments = ["--nope→"] if script == "prefetch.py" else ["--help"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), *arguments],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr and done.returncode in (0, 2), done.stderr[-2000:]
    assert (done.stdout + done.stderr).isascii()


def test_a_configuration_is_printed_with_them_replaced() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "train.py"), "results_dir='→'", "--cfg", "job"],
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0 and b"results_dir: ?" in done.stdout, done.stderr[-2000:]
