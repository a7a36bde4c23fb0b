"""Standard output and error that never stop a program for a character that they cannot show."""

import sys
from typing import Protocol, cast


class _Reconfigurable(Protocol):
    def reconfigure(self, *, errors: str) -> None: ...


def replace_unprintable() -> None:
    """Let ``?`` stand on standard output and error for characters that their encoding lacks (``→`` in Latin-1).

    The first thing that each script does, before its help. Streams that something else has put in their place (a
    notebook, a test) stay as they are.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            cast(_Reconfigurable, stream).reconfigure(errors="replace")
