"""Settings that are folders: one function says what each means, and an error in one of them names the setting."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

from delta_lora.errors import UserError

# What the system says where a folder takes no files, or is none.
UNUSABLE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT, errno.ENOSPC,
    errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP,
}  # fmt: skip
_known: dict[str, Path] = {}


def place(setting: str, given: Any, start: Path | None = None) -> Path:
    """The absolute path of what a setting gives: ``~`` is the home folder, a relative path begins at ``start``.

    Args:
        setting: its name, which :func:`unusable` gives where the folder cannot be used.
        given: a path, or its text.
        start: None: the folder in which the command was given.

    Raises:
        UserError: ``~`` or ``~name`` of a user who has no home folder.
    """
    try:
        _known[setting] = (start or Path.cwd()) / Path(str(given)).expanduser()
    except RuntimeError as error:
        raise UserError(f"{setting}={given}: {error}; write the folder out") from None
    return _known[setting]


def variable(name: str, default: str | None = None) -> str | None:
    """An environment variable; an empty one is unset."""
    return os.environ.get(name) or default


def unusable(error: BaseException) -> str | None:
    """What to tell of an error of the file system in a folder of the user's settings; None for any other error."""
    if not isinstance(error, OSError) or error.errno not in {*UNUSABLE, errno.ENOENT} or error.filename is None:
        return None
    path = Path(os.fsdecode(error.filename)).absolute()
    caches = {"HF_HOME": Path(variable("HF_HOME", "~/.cache/huggingface") or "").expanduser()}
    places = {**caches, "TMPDIR": Path(tempfile.gettempdir()), **_known}
    within = [setting for setting, folder in places.items() if path.is_relative_to(folder) or path in folder.parents]
    if not within:
        return None
    setting = max(within, key=lambda name: len(places[name].parts))
    if error.errno == errno.ENOENT and places[setting].is_dir():
        return None  # a file is missing in a folder that can be used; where there is none, it could not be made (/proc)
    reason = "a file is in a folder's place" if error.errno in (errno.ENOTDIR, errno.EEXIST) else error.strerror
    return (
        f"{setting} is {places[setting]}, which cannot be used ({path}: {reason}); give {setting} a folder that can be "
        "written and has room"
    )
