"""A generated data set in the layout of the WebNLG Challenge 2017: sets of RDF triples and their texts.

The ten categories of the challenge's training set are seen; the test file adds five categories that no training file
has (``webnlg_facts``).
"""

import random
import xml.etree.ElementTree as ElementTree

from delta_lora.tiny.grammar import expand, join, sentence
from delta_lora.tiny.lexicon import (
    CITIES,
    COLOURS,
    COUNTRIES,
    CREATURES,
    FIRST_NAMES,
    QUALITIES,
    SURNAMES,
    THINGS,
    place_names,
)
from delta_lora.tiny.webnlg_facts import SEEN, UNSEEN

TRAIN_PAIRS = 3200
DEV_ENTRIES = 40
SEEN_ENTRIES, UNSEEN_ENTRIES = 60, 40  # of the test file
MOST_TRIPLES = 4

Triple = tuple[str, str, str]

_PLACES = place_names()


def files(rng: random.Random) -> dict[str, bytes]:
    """The XML files of the challenge that readers use, as path → content.

    Training files are sorted into folders by number of triples. No triple set of the development and test files is in
    a training file.
    """
    used: set[frozenset[Triple]] = set()

    def fresh(category: str, size: int) -> list[Triple]:
        while True:
            triples = _triples(category, size, rng)
            if (key := frozenset(triples)) not in used:
                used.add(key)
                return triples

    def entries(categories: list[str], count: int) -> list[tuple[str, list[Triple], list[str]]]:
        made = []
        for index in range(count):
            triples = fresh(category := categories[index % len(categories)], rng.randint(1, MOST_TRIPLES))
            made.append((category, triples, texts(category, triples, rng.randint(2, 4), rng)))
        return made

    contents: dict[str, bytes] = {}
    train: list[tuple[str, list[Triple], list[str]]] = []
    pairs = 0
    while pairs < TRAIN_PAIRS:
        (entry,) = entries([rng.choice(list(SEEN))], 1)
        del entry[2][TRAIN_PAIRS - pairs :]
        pairs += len(entry[2])
        train.append(entry)
    for split, made in (("train", train), ("dev", entries(list(SEEN), DEV_ENTRIES))):
        groups: dict[tuple[int, str], list[tuple[str, list[Triple], list[str]]]] = {}
        for entry in made:
            groups.setdefault((len(entry[1]), entry[0]), []).append(entry)
        for (size, category), group in groups.items():
            contents[f"{split}/{size}triples/{size}triples_{category}_{split}_challenge.xml"] = _xml(group)
    test = entries(list(SEEN), SEEN_ENTRIES) + entries(list(UNSEEN), UNSEEN_ENTRIES)
    contents["test/testdata_with_lex.xml"] = _xml(test)
    return contents


def texts(category: str, triples: list[Triple], count: int, rng: random.Random) -> list[str]:
    """Up to ``count`` different texts that tell ``triples``."""
    found: list[str] = []
    for _ in range(5 * count):
        if len(found) < count and (text := _text(category, triples, rng)) not in found:
            found.append(text)
    return found


def _triples(category: str, size: int, rng: random.Random) -> list[Triple]:
    """A subject of ``category`` with up to ``size`` of its properties."""
    kind, properties = {**SEEN, **UNSEEN}[category]
    subject = _entity(kind, rng)
    chosen = rng.sample(list(properties), min(size, len(properties)))
    return [(subject, name, _entity(properties[name][0], rng)) for name in chosen]


def _text(category: str, triples: list[Triple], rng: random.Random) -> str:
    kind, properties = {**SEEN, **UNSEEN}[category]
    told = [expand(properties[name][1], rng, {"o": _words(value)}) for _, name, value in triples]
    rng.shuffle(told)
    name = _words(triples[0][0])
    sentences: list[str] = []
    while told:
        size = rng.randint(1, 2)
        subject = name if not sentences or kind == "person" else "it"
        sentences.append(sentence(f"{subject} {join(told[:size])}"))
        told = told[size:]
    return " ".join(sentences)


def _entity(kind: str, rng: random.Random) -> str:
    """A random entity as the triples write it: names with underscores, literals in quotation marks."""
    quality, creature, thing = (rng.choice(words).title() for words in (QUALITIES + COLOURS, CREATURES, THINGS))
    city, surname = rng.choice(CITIES), rng.choice(SURNAMES)
    if kind in ("number", "year"):
        return f'"{rng.randint(1900, 2020) if kind == "year" else rng.randint(10, 99)}"'
    name = {
        "airport": f"{city} {surname} Airport",
        "book": f"The {quality} {thing}",
        "character": f"{quality} {creature}",
        "city": city,
        "company": f"{surname} {rng.choice(['Brothers', 'Press', 'Company'])}",
        "country": rng.choice(COUNTRIES),
        "dish": f"{quality} {rng.choice(['Soup', 'Pie', 'Cake', 'Stew'])}",
        "ingredient": rng.choice(["rice", "butter", "fish", "beef", "sugar", "tomato"]),
        "league": f"{rng.choice(COUNTRIES)} League",
        "material": rng.choice(["stone", "bronze", "marble", "wood", "glass"]),
        "mission": f"{creature} {rng.randint(1, 9)}",
        "person": f"{rng.choice(FIRST_NAMES)} {surname}",
        "place": rng.choice(_PLACES),
        "team": f"{city} {creature}s",
        "thing": thing.lower(),
        "university": f"University of {city}",
    }[kind]
    return name.replace(" ", "_")


def _words(value: str) -> str:
    return value.strip('"').replace("_", " ")


def _xml(entries: list[tuple[str, list[Triple], list[str]]]) -> bytes:
    root = ElementTree.Element("benchmark")
    parent = ElementTree.SubElement(root, "entries")
    for number, (category, triples, lexicalisations) in enumerate(entries, 1):
        entry = ElementTree.SubElement(
            parent, "entry", category=category, eid=f"Id{number}", size=str(len(triples))
        )  # fmt: skip
        for kind, tag in (("originaltripleset", "otriple"), ("modifiedtripleset", "mtriple")):
            triple_set = ElementTree.SubElement(entry, kind)
            for triple in triples:
                ElementTree.SubElement(triple_set, tag).text = " | ".join(triple)
        for index, text in enumerate(lexicalisations, 1):
            ElementTree.SubElement(entry, "lex", comment="good", lid=f"Id{index}").text = text
    ElementTree.indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="utf-8") + b"\n"
