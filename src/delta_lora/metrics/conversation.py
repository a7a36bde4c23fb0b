"""A Java program that answers line by line and stays: started once, asked many times, gone when its owner is gone."""

import os
import selectors
import subprocess
from collections import deque
from collections.abc import Generator, Sequence
from threading import Thread

from delta_lora.errors import UserError
from delta_lora.metrics.java import TERMINATED, ended, java_process

SILENCE = 600
"""Seconds: a program that is asked and says nothing for so long will not answer any more."""


class Died(UserError):
    """The program ended in the middle of its answers.

    Args:
        error: what is told of it.
        again: whether another start may go better: it was terminated from outside.
    """

    def __init__(self, error: UserError, again: bool) -> None:
        super().__init__(str(error))
        self.again = again


class Conversation:
    """A running Java program that writes one line for each line that it reads.

    It ends when its standard input does. Only this process holds the other end, so it ends with it, however that ends.

    Args:
        name: What the program is called in error messages.
        arguments: Everything after ``java`` and the common options.
    """

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        self._process = java_process(arguments, bufsize=0)
        self._received = b""
        self._told: deque[bytes] = deque(maxlen=1)
        self._listener = Thread(target=self._listen, daemon=True)
        self._listener.start()

    def answers(self, lines: Sequence[str]) -> Generator[str, None, None]:
        """The answers to ``lines``, one after the other as they come; whoever stops before the last one ends it all.

        Raises:
            Died: the program ended before the last answer.
            UserError: it has said nothing for `SILENCE` seconds.
        """
        data = "".join(line + "\n" for line in lines).encode("utf-8", "replace")
        writer = Thread(target=self._write, args=(data,), daemon=True)
        writer.start()
        complete = False
        try:
            for _ in lines:
                yield self._line()
            complete = True
        finally:
            if not complete:
                self._process.kill()
            writer.join()
            if not complete:
                self.close()

    def is_ready(self) -> bool:
        """Whether it runs and has said nothing that it was not asked."""
        return self._process.returncode is None and not self._received and not self._readable(0)

    def close(self) -> None:
        """End it, as the end of its owner would, and wait until it is gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._wait()
        self._listener.join(timeout=1)
        self._release()

    def abandon(self) -> None:
        """In a forked process: let go of what belongs to the one that started it."""
        self._process.returncode = 0  # nothing is known of another process's child
        self._release()

    def _wait(self) -> int:
        try:
            return self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _release(self) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    def _line(self) -> str:
        while b"\n" not in self._received:
            if not self._readable(SILENCE):
                raise UserError(f"{self.name} (Java) has answered nothing for {SILENCE} s: nothing is scored")
            assert self._process.stdout is not None
            received = os.read(self._process.stdout.fileno(), 1 << 16)
            if not received:
                raise self._died()
            self._received += received
        line, _, self._received = self._received.partition(b"\n")
        return line.decode("utf-8", "replace")

    def _died(self) -> Died:
        code = self._wait()
        self._listener.join(timeout=1)
        told = b"".join(self._told).decode("utf-8", "replace")
        return Died(ended(self.name, code, told), again=code in TERMINATED)

    def _readable(self, seconds: float) -> bool:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            return bool(selector.select(seconds))

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._process.stdin.write(rest) :]
        except (OSError, ValueError):  # it has ended, which whoever reads its answers sees
            return

    def _listen(self) -> None:
        assert self._process.stderr is not None
        rest = b""
        while received := os.read(self._process.stderr.fileno(), 1 << 12):
            *lines, rest = (rest + received).split(b"\n")
            self._told.extend(line for line in [*lines, rest] if line.strip())
