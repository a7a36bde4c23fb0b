"""Awkward inputs for the metrics, made from the parity files so that nothing more has to be stored."""

import json

from helpers import DATA

PARITY = DATA / "parity"

# What replaces a hypothesis: nothing, one word, entities, quotes, blanks, digits, other scripts, repetition …
ODD_HYPOTHESES = [
    "",
    "Pub",
    "   ",
    "£20-25, £30; less than £20... more than £30!?",
    '"Zizzi" &amp; co, &quot;good&quot; &lt;b&gt; Café',
    "The\tEagle  is   a\u00a0pub .",
    "“Cocum” isn’t ‘cheap’ — it’s £20–25…",
    "ÉLITE CAFÉ SICILIA IS A CAFÉ",
    "a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a",
    "1,000.5 3-4 4.5 .5 5. ,5 5, 3.-4 U.S. p.m. Inc.",
    "e-mail: x@y.com http://z.co/a_b #tag $5 100% (a) [b] {c} a/b a|b ||| a+b=c ~^`",
    "family-friendly -- coffee-shop -",
    "...",
    "日本料理 Ελληνικά кафе 🍕 pizza ﬁne İstanbul",
    "<skipped> cannot gonna can't won't it's 'tis",
    "the Inc.",
]
ODD_REFERENCES = [["Pub"], ["Cheap.", "Café"], ["..."], ["“Cocum” isn’t cheap.", "£20"], ["a ||| b", "a a a"]]


def e2e_lines() -> tuple[list[str], list[list[str]]]:
    """The 630 instances of e2e_last_reference, every second one made odd."""
    hypotheses = (PARITY / "e2e_last_reference.hyp").read_text(encoding="utf-8").splitlines()
    blocks = (PARITY / "e2e_last_reference.ref").read_text(encoding="utf-8").strip().split("\n\n")
    references = [block.split("\n") for block in blocks]
    for i in range(0, len(hypotheses), 2):
        odd = ODD_HYPOTHESES[i // 2 % len(ODD_HYPOTHESES)]
        hypotheses[i] = odd if i % 3 else f"{odd} {hypotheses[i]} {odd}".strip()
    for i in range(0, len(references), 7):
        references[i] = ODD_REFERENCES[i // 7 % len(ODD_REFERENCES)]
    hypotheses[-1] = hypotheses[-2] = ""
    return hypotheses, references


def webnlg_entries() -> tuple[list[str], list[list[str]], list[bool]]:
    """The 466 entries of webnlg_every_fourth, every second one made odd; some with more than six references."""
    hypotheses = (PARITY / "webnlg_every_fourth.hyp").read_text(encoding="utf-8").splitlines()
    lines = (PARITY / "webnlg_every_fourth.ref.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    references = [entry["references"] for entry in entries]
    for i in range(0, len(hypotheses), 2):
        odd = ODD_HYPOTHESES[i // 2 % len(ODD_HYPOTHESES)]
        words = hypotheses[i].split()
        hypotheses[i] = odd if i % 3 else f"{odd} {' '.join(words[len(words) // 2 :] + words[: len(words) // 2])}"
    for i in range(0, len(references), 9):
        references[i] = [*references[i], *ODD_REFERENCES[i // 9 % len(ODD_REFERENCES)], *hypotheses[i + 1 : i + 6]]
    references[5] = [""]
    return hypotheses, references, [entry["seen"] for entry in entries]
