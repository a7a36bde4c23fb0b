"""What the fuzz test makes its inputs from: numbered cases, small whole inputs, and ways to break them."""

import csv
import io
import json
import math
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from delta_lora.suite.config.grid import GridCell

SECONDS = 20  # that a case may take; where Java scores, which loads its tables for seconds, more
AREAS = ["configs"] * 8 + ["records"] * 5 + ["data"] * 4 + ["scoring"] * 3


def cases(area: str, areas: Sequence[str] = AREAS) -> Iterator[tuple[int, random.Random]]:
    """The numbers of an area's cases, each with the source of everything that is random in it."""
    first, _, last = os.environ.get("FUZZ_CASES", "0-1999").partition("-")
    for number in range(int(first), int(last or first) + 1):
        if areas[number % len(areas)] == area:
            yield number, random.Random(number)


@contextmanager
def told(number: int, given: Callable[[], Any], seconds: int = SECONDS) -> Iterator[None]:
    """A case that fails or hangs says its number and its input."""

    def hang(*_: Any) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(seconds)
    try:
        yield
    except BaseException as error:
        raise AssertionError(f"case {number}: {type(error).__name__}: {error}\ninput: {given()!r:.3000}") from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# As they stand on a command line.
OVERRIDE_VALUES = [
    "", "null", "true", "false", "0", "1", "2", "-1", "3.5", "1e-9", "1e999", "-inf", "nan", "99999999999999999999",
    "9" * 400, "text", "'5'", "''", "' '", "???", "'£ 𝔘 日本'", "'a\u202eb'", "'\u2028'", "'a\tb'", "'\x00'",
    "[]", "[1]", "[a,b]", "[null]", "[[a]]", "{}", "{a:1}", "{a:{b:[c]}}", "{_target_:os.getcwd}",
    "{_target_:nowhere.X}", "${nowhere}", "${seed}", "${task.train}", "${oc.env:NOWHERE}", "${oc.decode:'['}", "${",
    "../../x", "/dev/null", "~/x", "official", "generated", "tiny", "mnli", "0123456789abcdef", "os.system",
    "delta_lora.tasks.e2e.E2E", "https://a:b@c/", "hf_" + "x" * 30, "classification", "a=b", "a,b",
    "range(3)", "[", "'", "\\", "$x", "%s", "fp32", "\ud800",
]  # fmt: skip

# Texts as a system might put them out, and as a tokenizer, a Java program or a format might mistake them.
TEXTS = [
    "", " ", "A pub.", "name : Zizzi | £20-25", "a\u2028b", "a\x85b", "a\x0bb", "a\x00b", "|||", "\ufeff",
    "SCORE ||| x",
    "日本料理 🍕", "e\u0301" * 20, "\u202eabc", "x" * 3000, "a " * 400, "&lt;b&gt;", "-1", "1e400", "nan", "٣",
    "1_0", "\t", "<|endoftext|>", "{}", "[SEP]", "\\", '"', "'", "U.S. p.m. Inc.", "…",
    "\u00a0", "\U000e0001", "%s %n", "a\rb",
]  # fmt: skip
JSON_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 10**400, 1.5, -1e308, math.nan, math.inf, "", "text", "\ud800", "${seed}", [],
    [1], {}, {"a": []},
    ["a"], "9" * 50, -0.0, 2**63, "../../x", "os.system", [[[]]], "nan",
]  # fmt: skip

CSV_ROWS = [
    ("mr", "ref"),
    ("name[The Vaults], eatType[pub]", 'A "pub", £20.'),
    ("name[Zizzi], area[]", "Zizzi\nis it."),
]
WEBNLG = """<?xml version="1.0" encoding="UTF-8"?><benchmark><entries>
<entry category="Airport" eid="Id1"><modifiedtripleset><mtriple>A_1 | city | "B, Ç"</mtriple></modifiedtripleset>
<lex comment="good" lid="Id1">A 1 serves B &amp; C.</lex><lex comment="bad" lid="Id2">No.</lex></entry>
<entry category="Artist" eid="Id2" size="1"><modifiedtripleset><mtriple>X | y | Z</mtriple></modifiedtripleset>
<lex comment="good" lid="Id1">X has y.</lex></entry></entries></benchmark>"""


def csv_bytes() -> bytes:
    """A file of the E2E release in small."""
    text = io.StringIO()
    csv.writer(text).writerows(CSV_ROWS)
    return text.getvalue().encode()


def broken_bytes(rng: random.Random, content: bytes) -> bytes:
    """The content cut off, with bytes changed, put in, taken out or doubled, or another content."""
    at, length = rng.randrange(len(content) + 1), rng.randint(1, 12)
    odd = rng.choice(
        [b"\x00", b"\xff\xfe", b"\xc3", b'"', b"{", b"<", b"&", b"\r", b"\n\n", b"1", b"9" * 30, rng.randbytes(8)]
    )
    how = rng.randrange(8)
    if how == 0:
        return content[:at]
    if how == 1:
        return content[:at] + odd + content[at:]
    if how == 2:
        return content[:at] + odd + content[at + len(odd) :]
    if how == 3:
        return content[:at] + content[at + length :]
    if how == 4:
        return content[:at] + content[at : at + 40] * 3 + content[at + 40 :]
    if how == 5:
        return rng.choice(
            [b"", b"\x00" * 64, b"null", b"[" * 100_000, rng.randbytes(200), b"\xff\xfe" + content, b"\x80\x04."]
        )
    if how == 6:
        return content[:at] + bytes(byte ^ 1 << rng.randrange(8) for byte in content[at : at + 1]) + content[at + 1 :]
    return content.decode("utf-8", "replace").encode(rng.choice(["utf-16", "utf-32", "utf-7", "utf-8-sig"]))


def broken_json(rng: random.Random, value: Any) -> Any:
    """The value with one place in it changed, taken out, or renamed."""
    changed = json.loads(json.dumps(value))
    place, key = changed, None
    for _ in range(rng.randint(1, 4)):
        keys = list(place) if isinstance(place, dict) else list(range(len(place))) if isinstance(place, list) else []
        if not keys:
            break
        parent, key = place, rng.choice(keys)
        place = parent[key]
    if key is None:
        return rng.choice(JSON_VALUES)
    if rng.random() < 0.25:
        del parent[key]
    else:
        parent[key] = rng.choice([*JSON_VALUES, [place], {"x": place}])
    return changed


def predictions_of(cell: GridCell) -> list[dict[str, Any]]:
    """Predictions of XSum, some lines apart from each other between the methods."""
    better = cell.config.method.name == "delta-lora"
    return [
        {
            "id": i,
            "input": f"Document {i}.",
            "prediction": f"It is {i if better else 0}.",
            "references": [f"It is {i}."],
        }
        for i in range(4)
    ]


def similarity() -> dict[str, Any]:
    """A run's ``similarity.json`` with two blocks."""
    found = {
        "cosine": 0.99,
        "weight_norm": 8.0,
        "update_norm": 0.5,
        "rank": 4,
        "entropy_rank": 3.5,
        "singular_values": [0.4, 0.2, 0.1, 0.05],
    }
    return {f"transformer.h.{i}.attn.c_attn.{part}_proj": found for i in range(2) for part in "qv"}
