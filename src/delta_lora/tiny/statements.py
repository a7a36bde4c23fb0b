"""Statements: a subject and a few facts, in several wordings, denied, or asked for.

The generated GLUE tasks and the embeddings of ``roberta-tiny`` are made of them. Two statements can agree, add, leave
out or contradict facts, in the same words or in others.
"""

import random
from dataclasses import dataclass, replace

from delta_lora.tiny.world import Values, join, sentence, world

TRAINING_TOPICS = ["person", "hotel", "film", "ship"]
OTHER_TOPICS = ["school", "song"]  # MNLI's mismatched half


@dataclass(frozen=True)
class Fact:
    """One attribute's value; ``negated``: it is said not to be so."""

    attribute: str
    value: str
    negated: bool = False


@dataclass(frozen=True)
class Statement:
    """A subject and the facts that are told of it, in order."""

    topic: str  # one of the world's ``pair_kinds``
    subject: str
    facts: tuple[Fact, ...]


def statement(topic: str, size: int, rng: random.Random) -> Statement:
    """A random statement of ``size`` facts."""
    told = Statement(topic, subject(topic, rng), ())
    return replace(told, facts=tuple(fact(topic, name, rng) for name in rng.sample(_attributes(topic), size)))


def subject(topic: str, rng: random.Random, other_than: str = "") -> str:
    """A name of a thing of the topic."""
    while (name := Values(rng)[world()["pair_kinds"][topic]["name"]]) == other_than:
        pass
    return name


def fact(topic: str, attribute: str, rng: random.Random, other_than: str = "") -> Fact:
    """A random fact of one attribute, with another value than ``other_than``."""
    while (value := Values(rng)[world()["pair_kinds"][topic][attribute]["is"]]) == other_than:
        pass
    return Fact(attribute, value)


def missing(told: Statement, rng: random.Random) -> Fact:
    """A random fact of an attribute that the statement does not tell."""
    known = {item.attribute for item in told.facts}
    return fact(told.topic, rng.choice([name for name in _attributes(told.topic) if name not in known]), rng)


def wordings(told: Statement, rng: random.Random, unlike: dict[str, str] | None = None) -> dict[str, str]:
    """A verb phrase for each fact, by attribute, with ``_`` for its value; never that of ``unlike``."""
    known, avoided, names = world()["pair_kinds"][told.topic], unlike or {}, [item.attribute for item in told.facts]
    return {name: rng.choice([way for way in known[name]["tell"] if way != avoided.get(name)]) for name in names}


def tell(told: Statement, chosen: dict[str, str]) -> str:
    """The statement as one sentence, each fact in its chosen wording."""
    phrases = []
    for item in told.facts:
        phrase = chosen[item.attribute]
        phrases.append((_negate(phrase) if item.negated else phrase).replace("_", item.value))
    return sentence(f"{told.subject} {join(phrases)}")


def questions(topic: str, name: str, attribute: str) -> list[str]:
    """The questions for one attribute of the subject ``name``."""
    return [f"{asked.replace('_', name)}?" for asked in world()["pair_kinds"][topic][attribute]["ask"]]


def _attributes(topic: str) -> list[str]:
    return [name for name in world()["pair_kinds"][topic] if name != "name"]


def _negate(phrase: str) -> str:
    """ "lives in _" → "does not live in _", "is a _" → "is not a _" """
    verb, rest = phrase.split(" ", 1)
    if verb in ("is", "was"):
        return f"{verb} not {rest}"
    return f"does not {'have' if verb == 'has' else verb.removesuffix('s')} {rest}"
