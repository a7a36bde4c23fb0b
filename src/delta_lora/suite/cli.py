"""How the scripts meet their user: Hydra's command line, one clear line for wrong input, exit codes."""

import logging
import os
import sys
import traceback
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from typing import Any

import hydra
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig

from delta_lora.errors import Interrupted, RunError, UserError, redacted
from delta_lora.places import unusable
from delta_lora.streams import replace_unprintable
from delta_lora.suite import sweep
from delta_lora.suite.config.compose import CONFIGS, MISAPPLIED, MISTAKES, choices, in_sweep, left_out, misapplied

log = logging.getLogger(__name__)
TUNING = "tuning"  # begins the names of tables by which settings are chosen


def one_line(error: BaseException) -> str:
    """An error's text on one line, without Hydra's hint about stack traces."""
    missing = str(error.missing_cfg_file) if isinstance(error, MissingConfigException) else ""
    if missing.startswith("hydra/launcher/submitit"):
        return "hydra/launcher=slurm needs submitit, which is not installed; pip install -e .[slurm]"
    if isinstance(error, MissingConfigException) and missing and error.options is not None:
        ours = not missing.startswith("hydra/")
        group, _, choice = missing.partition("/") if ours else missing.rpartition("/")
        return f"{group}={choice} is not a choice; choose one of {', '.join(choices(group) if ours else error.options)}"
    if isinstance(error, OverrideParseException):
        return redacted(misread(error))
    lines = [line.strip() for line in str(error).splitlines() if "HYDRA_FULL_ERROR" not in line]
    return redacted(" ".join(line for line in lines if line))


def misread(error: OverrideParseException) -> str:
    """What to tell of an override that Hydra's grammar does not take, and how it is quoted, for the shell too."""
    given = str(error.override)
    name, sign, value = given.partition("=")
    if not sign:
        return f"the override {given} has no =; give KEY=VALUE"
    quoted = value.strip("'\"").replace("\\", "\\\\").replace('"', '\\"')
    reason = str(error).split("\nSee ")[0].splitlines()[-1 if "Error parsing" in str(error) else 0]
    return (
        f"the override {given} cannot be read ({reason.strip()}): = , : quotes and brackets in a value are Hydra's own "
        f"syntax; quote a text that has them, for the shell too: '{name}=\"{quoted}\"'"
    )


def told(error: Exception) -> Exception:
    """The error itself, or where a folder of the user's settings cannot be used, one that says which in one line."""
    line = unusable(error)
    return error if line is None else UserError(line)


def hydra_main(function: Callable[[DictConfig], Any]) -> int:
    """Run ``function`` with each configuration that the command line composes: one, or with ``-m`` a sweep of them.

    In a sweep a failing job does not stop the others; the failures are listed at the end.

    Returns:
        The exit code: 0; 2 after a mistake in the configuration, the data or the command line (one line on standard
        error); 1 where a job of a sweep failed otherwise. In a single run other exceptions pass through.
    """

    errors: list[Exception] = []
    composed: list[DictConfig] = []

    def job(config: DictConfig) -> Any:
        composed.append(config)
        replace_unprintable()  # in a process of a launcher, too
        try:
            return function(config)
        except Exception as raised:
            error = told(raised)
            if not in_sweep():
                errors.append(error)  # raised here, Hydra would print lines of its own
            elif isinstance(error, Interrupted):
                raise
            elif isinstance(error, (RunError, *MISTAKES)):
                sweep.note_failure(one_line(error), mistake=not isinstance(error, RunError))
            else:
                log.error("this cell failed; the sweep goes on\n%s", redacted(traceback.format_exc()))
                sweep.note_failure(f"{type(error).__name__}: {one_line(error)}", mistake=False)

    def run() -> None:
        try:
            hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")(job)()
        except (RuntimeError, *MISAPPLIED) as error:
            if isinstance(error, RuntimeError) and (known := sweep.queue_error(error)) is not None:
                raise known from None
            if composed or isinstance(error, (RunError, *MISTAKES)) or not isinstance(error, MISAPPLIED):
                raise
            raise misapplied(error) from error
        for caught in errors:
            raise caught

    replace_unprintable()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing and exiting with 1
    if "LOCAL_RANK" in os.environ:
        return together(run)
    code = guard(run)
    failed = sweep.failures()
    for message in dict.fromkeys(failure["error"] for failure in failed):
        jobs = [failure["overrides"] for failure in failed if failure["error"] == message]
        print(f"error: {message} [{'; '.join(jobs)}]", file=sys.stderr)
    if failed:
        print(
            f"{len(failed)} of the sweep's cells failed; the same command runs only those again",
            file=sys.stderr,
        )
        return max(code, 2 if all(failure["mistake"] for failure in failed) else 1)
    return code


def guard(function: Callable[[], Any]) -> int:
    """Call ``function``; print a user's mistake, or why a run had to stop, as one line and return the exit code."""
    try:
        function()
        return 0
    except (RunError, KeyboardInterrupt, *MISTAKES) as error:  # first: that a choice is missing is an OSError, too
        known: BaseException = error
    except OSError as error:
        known = told(error)
        if known is error:
            raise
    line, code = explained(known)
    print(line, file=sys.stderr)
    return code


def words_main(page: str | None, metavar: str, function: Callable[[list[str]], Any]) -> int:
    """:func:`guard` for a script whose arguments are words and overrides; ``--help`` prints its ``page``."""
    replace_unprintable()
    parser = ArgumentParser(description=page, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("arguments", nargs="*", metavar=metavar)
    given: list[str] = parser.parse_args().arguments
    return guard(lambda: function(given))


def together(function: Callable[[], Any]) -> int:
    """:func:`guard` in one of several processes (``torchrun``): one tells what went wrong, all end with its code."""
    from delta_lora.suite.machine import ranks

    try:
        ranks.start()
        function()
        ranks.stop()
    except (RunError, KeyboardInterrupt, *MISTAKES) as error:
        return ranks.fail(*explained(error))
    except Exception as error:
        known = told(error)
        return ranks.fail(*(explained(known) if known is not error else (traceback.format_exc(), 1)))
    return 0


def explained(error: BaseException) -> tuple[str, int]:
    """One line for an error that needs no traceback, and the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the same command goes on from what is finished", Interrupted.exit_code
    return f"error: {one_line(error)}", error.exit_code if isinstance(error, RunError) else 2


def per_table(arguments: list[str]) -> list[list[str]]:
    """One list of overrides per table asked for: ``table1 table5 scale=tiny`` → two; ``all``: the scale's.

    Tables by which settings are chosen (``tuning…``) are no results: ``all`` leaves them out, ``chosen`` is them.
    """
    known = [name for name in choices("table") if name not in left_out(arguments)]
    groups = {
        "all": [name for name in known if not name.startswith(TUNING)],
        "chosen": [name for name in known if name.startswith(TUNING)],
    }
    words = [word for word in arguments if "=" not in word]
    names = dict.fromkeys(name for word in words for name in groups.get(word, [word]))
    overrides = [word for word in arguments if "=" in word]
    return [[f"table={name}", *overrides] for name in names] or [overrides]
