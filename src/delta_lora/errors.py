"""The exceptions that are told in one line: the input was wrong, or a run had to stop. None of them tells a secret."""

import os
import re

# Environment variables whose value is a secret, and the forms that secrets have in addresses.
_SECRET_VARIABLE = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD)$")
_SHORTEST_SECRET = 8
_IN_TEXT = (
    re.compile(r"(?<=://)[^/?#\s@]+(?=@)"),  # https://user:password@host
    re.compile(r"(?i)(?<=[?&])([\w.-]*(?:token|key|secret|signature|password)[\w.-]*=)[^&#\s'\"]+"),
    re.compile(r"\bhf_[A-Za-z0-9]{16,}"),
)


def secrets_in(text: str) -> list[str]:
    """The passwords and tokens in a text: in an address, of the hub's form, or a variable's (HF_TOKEN)."""
    found = [match[0] for pattern in _IN_TEXT for match in pattern.finditer(text)]
    values = (value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name))
    return found + [value for value in values if len(value) >= _SHORTEST_SECRET and value in text]


def redacted(text: str) -> str:
    """The text with ``…`` in the place of each of its secrets."""
    for secret in sorted(secrets_in(text), key=len, reverse=True):
        text = text.replace(secret, "…")
    return text


class UserError(ValueError):
    """Bad input: a configuration, a data file, a prediction file.

    Its message is one line that says what was given, what is allowed and what to do. The scripts print it as
    ``error: …`` and exit with code 2; library users meet it as a ``ValueError``.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


class RunError(RuntimeError):
    """A run that had to stop although its input is well-formed: it diverged, or the disk is full.

    Its message is one line that says what happened, what is kept and how to go on. The scripts exit with code 1.
    """

    exit_code = 1


class Interrupted(RunError):
    """Ctrl-C, or the signal that a queue sends before it takes the machine away."""

    exit_code = 130
