"""The one exception that means "the input was wrong", as opposed to "the program was"."""


class UserError(ValueError):
    """Bad input: a configuration, a data file, a prediction file.

    Its message is one line that says what was given, what is allowed and what to do. The scripts print it as
    ``error: …`` and exit with code 2; library users meet it as a ``ValueError``.
    """
