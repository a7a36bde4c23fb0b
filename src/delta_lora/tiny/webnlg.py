"""A generated data set in the layout of the WebNLG Challenge 2017: sets of RDF triples and their texts.

The ten categories of the challenge's training set are seen; the test file adds five categories that no training file
has.
"""

import random
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from typing import Any

from delta_lora.tiny.world import Values, different, expand, join, sentence, world

TRAIN_PAIRS, DEV_ENTRIES = 3200, 40
SEEN_ENTRIES, UNSEEN_ENTRIES = 60, 40  # of the test file
MOST_TRIPLES = 4

Triple = tuple[str, str, str]
Entry = tuple[str, list[Triple], list[str]]  # category, triples, texts


def files(rng: random.Random) -> dict[str, bytes]:
    """The XML files of the challenge that readers use, as path → content.

    Training files are sorted into folders by number of triples. No triple set of the development and test files is in
    a training file.
    """
    seen, unseen = list(world()["seen_kinds"]), list(world()["unseen_kinds"])
    used: set[frozenset[Triple]] = set()

    def entry(category: str) -> Entry:
        size = rng.randint(1, MOST_TRIPLES)
        triples = different(1, lambda: _triples(category, size, rng), used, frozenset)[0]
        return category, triples, texts(category, triples, rng.randint(2, 4), rng)

    train: list[Entry] = []
    while (missing := TRAIN_PAIRS - sum(len(told) for _, _, told in train)) > 0:
        category, triples, told = entry(rng.choice(seen))
        train.append((category, triples, told[:missing]))
    dev = [entry(seen[index % len(seen)]) for index in range(DEV_ENTRIES)]
    files: dict[str, list[Entry]] = defaultdict(list)
    for split, made in (("train", train), ("dev", dev)):
        for category, triples, told in made:
            size = f"{len(triples)}triples"
            files[f"{split}/{size}/{size}_{category}_{split}_challenge.xml"].append((category, triples, told))
    tested = [seen[index % len(seen)] for index in range(SEEN_ENTRIES)]
    tested += [unseen[index % len(unseen)] for index in range(UNSEEN_ENTRIES)]
    files["test/testdata_with_lex.xml"] = [entry(category) for category in tested]
    return {path: _xml(entries) for path, entries in files.items()}


def texts(category: str, triples: list[Triple], count: int, rng: random.Random) -> list[str]:
    """Up to ``count`` different texts that tell ``triples``."""
    kind = _kind(category)
    name, is_person = _plain(triples[0][0]), kind["name"] == "person"
    record = {attribute: _plain(value) for _, attribute, value in triples}
    found = dict.fromkeys(describe(kind, record, name, name if is_person else "it", rng) for _ in range(3 * count))
    return list(found)[:count]


def describe(kind: dict[str, Any], record: dict[str, str], name: str, again: str, rng: random.Random) -> str:
    """One to four sentences that tell the attributes of ``record`` in any order; ``again`` is the later subject."""
    told = [expand(kind[attribute][1].replace("_", value), rng) for attribute, value in record.items()]
    rng.shuffle(told)
    made: list[str] = []
    while told:
        size = rng.randint(1, 2)
        made.append(sentence(f"{again if made else name} {join(told[:size])}"))
        told = told[size:]
    return " ".join(made)


def _triples(category: str, size: int, rng: random.Random) -> list[Triple]:
    """A subject of ``category`` with up to ``size`` of its attributes."""
    kind = _kind(category)
    subject, attributes = _entity(kind["name"], rng), [name for name in kind if name != "name"]
    return [(subject, name, _entity(kind[name][0], rng)) for name in rng.sample(attributes, min(size, len(attributes)))]


def _kind(category: str) -> dict[str, Any]:
    return {**world()["seen_kinds"], **world()["unseen_kinds"]}[category]


def _entity(slot: str, rng: random.Random) -> str:
    """A random value as the triples write it: names with underscores, literals in quotation marks."""
    value = Values(rng)[slot]
    return f'"{value}"' if value.isdigit() else value.replace(" ", "_")


def _plain(value: str) -> str:
    return value.strip('"').replace("_", " ")


def _xml(entries: list[Entry]) -> bytes:
    root = ElementTree.Element("benchmark")
    parent = ElementTree.SubElement(root, "entries")
    for number, (category, triples, told) in enumerate(entries, 1):
        entry = ElementTree.SubElement(parent, "entry", category=category, eid=f"Id{number}", size=str(len(triples)))
        for kind, tag in (("originaltripleset", "otriple"), ("modifiedtripleset", "mtriple")):
            triple_set = ElementTree.SubElement(entry, kind)
            for triple in triples:
                ElementTree.SubElement(triple_set, tag).text = " | ".join(triple)
        for index, text in enumerate(told, 1):
            ElementTree.SubElement(entry, "lex", comment="good", lid=f"Id{index}").text = text
    ElementTree.indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="utf-8") + b"\n"
