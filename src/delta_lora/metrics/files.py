"""Hypotheses and references from files, in the formats of the official scorers."""

import json
from pathlib import Path

from delta_lora.errors import UserError


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file without their ends; a byte order mark and Windows line ends are tolerated.

    Raises:
        UserError: no such file, not UTF-8 (with the line), or empty.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"no file {path}; give the path of a text file") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give the path of a text file") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; convert the file to UTF-8"
        ) from error
    if not text:
        raise UserError(f"{path} is empty; give one line per test item")
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def read_e2e_references(path: Path, instances: int) -> list[list[str]]:
    """References of tuetschek/e2e-metrics: one a line, instances parted by an empty line.

    A file without an empty line has one reference per instance, unless there is just one instance.

    Args:
        path: The file.
        instances: How many hypotheses there are.

    Raises:
        UserError: as :func:`read_lines`, or an instance without a reference (with the line).
    """
    lines = [line.strip() for line in read_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise UserError(f"{path} has no reference; give one a line, instances parted by an empty line")
    if all(lines) and instances > 1:
        return [[line] for line in lines]
    references: list[list[str]] = [[]]
    for number, line in enumerate(lines, start=1):
        if line:
            references[-1].append(line)
        elif references[-1]:
            references.append([])
        else:
            raise UserError(
                f"{path}, line {number}: an instance without a reference; part instances by a single empty line"
            )
    return references


def read_webnlg_references(path: Path) -> tuple[list[list[str]], list[bool]]:
    """References and seen flags from JSON lines ``{"references": ["…"], "seen": true}``, one per test entry.

    Raises:
        UserError: as :func:`read_lines`, or a malformed line (with its number).
    """
    lines = read_lines(path)
    while lines and not lines[-1].strip():
        lines.pop()
    references, seen = [], []
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f'{where}: not JSON ({error}); give {{"references": […], "seen": true}}') from error
        if not isinstance(entry, dict):
            raise UserError(f'{where}: not an object; give {{"references": […], "seen": true}}')
        texts, flag = entry.get("references"), entry.get("seen")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise UserError(f'{where}: "references" must be a list of one or more strings, got {texts!r:.80}')
        if not isinstance(flag, bool):
            raise UserError(f'{where}: "seen" must be true or false, got {flag!r:.80}')
        references.append(texts)
        seen.append(flag)
    return references, seen


def read_labels(path: Path) -> list[float]:
    """One number a line.

    Raises:
        UserError: as :func:`read_lines`, or a line that is not a number (with its number).
    """
    return [_number(line, path, number) for number, line in enumerate(read_lines(path), start=1)]


def read_mnli_references(path: Path) -> tuple[list[float], list[bool] | None]:
    """One label a line, on every line or on none followed by a tab and ``matched`` or ``mismatched``.

    Raises:
        UserError: as :func:`read_labels`, or a set of another name.
    """
    labels, matched = [], []
    for number, line in enumerate(read_lines(path), start=1):
        label, tab, name = line.partition("\t")
        labels.append(_number(label, path, number))
        if tab:
            if name.strip() not in ("matched", "mismatched"):
                raise UserError(f"{path}, line {number}: set {name.strip()!r}; give matched or mismatched")
            matched.append(name.strip() == "matched")
    if matched and len(matched) != len(labels):
        raise UserError(
            f"{path}: {len(matched)} of {len(labels)} lines name their set; name it on every line or on none"
        )
    return labels, matched or None


def _number(text: str, path: Path, line: int) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"{path}, line {line}: {text!r:.80} is not a number; give one label a line") from error
