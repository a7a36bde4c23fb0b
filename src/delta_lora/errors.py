"""The exceptions that are told in one line: the input was wrong, or a run had to stop."""


class UserError(ValueError):
    """Bad input: a configuration, a data file, a prediction file.

    Its message is one line that says what was given, what is allowed and what to do. The scripts print it as
    ``error: …`` and exit with code 2; library users meet it as a ``ValueError``.
    """


class RunError(RuntimeError):
    """A run that had to stop although its input is well-formed: it diverged, or the disk is full.

    Its message is one line that says what happened, what is kept and how to go on. The scripts exit with code 1.
    """

    exit_code = 1


class Interrupted(RunError):
    """Ctrl-C, or the signal that a queue sends before it takes the machine away."""

    exit_code = 130
