"""Hypotheses and references from files, in the formats of the official scorers."""

import csv
import json
from pathlib import Path

from delta_lora.errors import UserError

# Columns of the releases (E2E, cleaned E2E, XSum): a line of these alone is the header of a CSV.
_COLUMNS = {"mr", "ref", "fixed", "orig_mr", "id", "document", "summary", "references", "text", "target"}


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


def read_texts(path: Path) -> list[str]:
    """The lines of a file that has one text a line; a text may be empty.

    Raises:
        UserError: as :func:`read_lines`, or the file is CSV, JSON or XML.
    """
    lines = read_lines(path)
    _refuse_other_formats(lines, path)
    return lines


def read_summaries(path: Path) -> list[str]:
    """One reference summary a line.

    Raises:
        UserError: as :func:`read_texts`, or an empty line (with its number).
    """
    lines = read_texts(path)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise UserError(f"{path}, line {number}: an empty reference; give one reference a line")
    return lines


def read_e2e_references(path: Path, instances: int) -> list[list[str]]:
    """References of tuetschek/e2e-metrics: one a line, instances parted by an empty line.

    The release's own ``testset_w_refs.csv`` (columns mr, ref) is read as well: an instance is a distinct MR, in the
    order of the file. A file of lines without an empty one has one reference per instance, unless there is just one
    instance.

    Args:
        path: The file.
        instances: How many hypotheses there are.

    Raises:
        UserError: as :func:`read_texts`, or an instance without a reference (with the line).
    """
    lines = [line.strip() for line in read_lines(path)]
    if _first_row(lines) == ["mr", "ref"]:
        return _released_references(lines, path)
    _refuse_other_formats(lines, path)
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
        if not all(text.strip() for text in texts):
            raise UserError(f"{where}: reference {[bool(text.strip()) for text in texts].index(False) + 1} is empty")
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


def _first_row(lines: list[str]) -> list[str]:
    return [field.strip() for field in next(csv.reader(lines[:1]), [])]


def _refuse_other_formats(lines: list[str], path: Path) -> None:
    first = next((line.strip() for line in lines if line.strip()), "")
    row = {field.lower() for field in _first_row([first])}
    kind = ""
    if first.startswith(("<?xml", "<benchmark")):
        kind = "XML"
    elif first.startswith(("{", "[")) and _is_json(first):
        kind = "JSON"
    elif row == {"mr"} or (len(row) > 1 and row <= _COLUMNS):
        kind = "CSV"
    if kind:
        raise UserError(f"{path} is {kind} ({first!r:.60}); give a text file with one text a line")


def _is_json(line: str) -> bool:
    if line in ("{", "["):
        return True
    try:
        return isinstance(json.loads(line), dict | list)
    except (ValueError, RecursionError):
        return False


def _released_references(lines: list[str], path: Path) -> list[list[str]]:
    references: dict[str, list[str]] = {}
    reader = csv.reader((line + "\n" for line in lines), strict=True)
    try:
        next(reader)
        for row in reader:
            if len(row) != 2 or not all(field.strip() for field in row):
                raise UserError(f"{path}, line {reader.line_num}: expected a text in each of the columns mr, ref")
            references.setdefault(row[0], []).append(row[1])
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not CSV ({error})") from error
    if not references:
        raise UserError(f"{path} has no reference; give a row with mr and ref for each")
    return list(references.values())


def _number(text: str, path: Path, line: int) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"{path}, line {line}: {text!r:.80} is not a number; give one label a line") from error
