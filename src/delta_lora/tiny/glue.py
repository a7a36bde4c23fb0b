"""Generated data sets in the layouts and the label kinds of the eight GLUE tasks.

The pair tasks compare statements (``statements``): the same facts in other words, or with a fact changed, denied, left
out or added. What differs keeps its words more often than what agrees, so that counting common words does not solve
them. A small share of the labels is wrong, as in the real sets, so no model reaches 100.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from delta_lora.tiny import sentences, statements
from delta_lora.tiny.statements import OTHER_TOPICS, TRAINING_TOPICS, Statement
from delta_lora.tiny.world import different

NOISE = 0.04  # share of wrong labels
REWORDED = {True: 0.5, False: 0.3}  # how often what agrees, and what differs, is said in other words
Row = tuple[Any, ...]  # the sentences, then the label


class Task(NamedTuple):
    """How one GLUE task is made: a row of it, the columns of its sentences, rows of training and of each validation."""

    draw: Callable[[random.Random, list[str]], Row]
    columns: tuple[str, ...]
    train: int
    validation: int


def tables(task: str, rng: random.Random) -> dict[str, dict[str, Any]]:
    """The columns of one task ("mnli" …), by split: its sentences, ``label`` and ``idx`` (int32).

    The label is a whole number, for STS-B a decimal one. No row of a validation split stands in training, whatever its
    label.
    """
    draw, columns, train, validation = TASKS[task]
    splits = {"train": (train, TRAINING_TOPICS), "validation": (validation, TRAINING_TOPICS)}
    if task == "mnli":
        matched = splits.pop("validation")
        splits |= {"validation_matched": matched, "validation_mismatched": (validation, OTHER_TOPICS)}
    seen: set[Row] = set()
    made: dict[str, dict[str, Any]] = {}
    for split, (size, topics) in splits.items():
        rows = different(size, partial(draw, rng, topics), seen, lambda row: row[:-1])
        made[split] = dict(zip((*columns, "label"), map(list, zip(*rows, strict=True)), strict=True))
        made[split]["idx"] = np.arange(size, dtype=np.int32)
    return made


def _cola(rng: random.Random, topics: list[str]) -> Row:
    """Acceptable (1, 60 %), or with a mistake or two."""
    good = rng.random() < 0.6
    return (sentences.acceptable(rng) if good else sentences.unacceptable(rng)), _noisy(int(good), 2, rng)


def _sst2(rng: random.Random, topics: list[str]) -> Row:
    """A favourable opinion (1) or not; some are negated or have two sides."""
    good = rng.random() < 0.53
    return sentences.opinion(good, rng), _noisy(int(good), 2, rng)


def _mrpc(rng: random.Random, topics: list[str]) -> Row:
    """The same facts (1, two thirds), or one or two of them changed, or the subject."""
    told = _statement(topics, (1, 2), rng)
    same = rng.random() < 0.67
    other = told if same else _changed(told, rng)
    other = replace(other, facts=tuple(rng.sample(other.facts, len(other.facts))))
    return *_pair(told, other, same, rng), _noisy(int(same), 2, rng)


def _rte(rng: random.Random, topics: list[str]) -> Row:
    """Entailment (0) or not (1): the second tells one of the first's facts, or it is changed, or nothing is known."""
    told = _statement(topics, (1, 3), rng)
    kind = rng.choice(["entailment", "entailment", "contradiction", "neutral"])
    return *_inference(told, kind, rng), _noisy(int(kind != "entailment"), 2, rng)


def _mnli(rng: random.Random, topics: list[str]) -> Row:
    """Entailment (0), neutral (1) or contradiction (2)."""
    kinds = ["entailment", "neutral", "contradiction"]
    kind = rng.choice(kinds)
    return *_inference(_statement(topics, (1, 2), rng), kind, rng), _noisy(kinds.index(kind), 3, rng)


def _qnli(rng: random.Random, topics: list[str]) -> Row:
    """The sentence answers the question (0), or is of another subject, another attribute, or both (1)."""
    told = _statement(topics, (1, 2), rng)
    topic, name, asked = told.topic, told.subject, rng.choice(told.facts).attribute
    answers = rng.random() < 0.5
    if not answers:
        topic, name, asked = _elsewhere(told, asked, topics, rng)
    question = rng.choice(statements.questions(topic, name, asked))
    return question, statements.tell(told, statements.wordings(told, rng)), _noisy(int(not answers), 2, rng)


def _qqp(rng: random.Random, topics: list[str]) -> Row:
    """Two questions that ask the same (1, 37 %), or of another subject, another attribute, or both."""
    told = _statement(topics, (1, 1), rng)
    topic, name, attribute = told.topic, told.subject, told.facts[0].attribute
    same = rng.random() < 0.37
    reworded = same or rng.random() < REWORDED[False]
    which, other = rng.sample(range(3), 2)
    again = (topic, name, attribute) if same else _elsewhere(told, attribute, topics, rng)
    first = statements.questions(topic, name, attribute)[which]
    return first, statements.questions(*again)[other if reworded else which], _noisy(int(same), 2, rng)


def _elsewhere(told: Statement, attribute: str, topics: list[str], rng: random.Random) -> tuple[str, str, str]:
    """Topic, subject and attribute of which one or all are not those of ``told`` and ``attribute``."""
    kind = rng.random()
    if kind < 0.45:
        other = _statement(topics, (1, 1), rng)
        return other.topic, statements.subject(other.topic, rng, other_than=told.subject), other.facts[0].attribute
    if kind < 0.8:
        return told.topic, statements.subject(told.topic, rng, other_than=told.subject), attribute
    return told.topic, told.subject, statements.missing(told, rng).attribute


def _stsb(rng: random.Random, topics: list[str]) -> Row:
    """From 0 to 5: two points for each of two facts that agree, one for the subject, and some scatter."""
    told = _statement(topics, (2, 2), rng)
    agree = rng.randint(0, 2)
    facts = list(told.facts)
    for index in rng.sample(range(2), 2 - agree):
        facts[index] = statements.fact(told.topic, facts[index].attribute, rng, other_than=facts[index].value)
    other, score = replace(told, facts=tuple(facts)), 1.0 + 2 * agree
    if rng.random() < 0.2:
        other, score = _statement(topics, (2, 2), rng), 0.0  # of something else altogether
    elif rng.random() < 0.3:
        other, score = replace(other, subject=statements.subject(told.topic, rng, other_than=told.subject)), score - 1
    score = min(5.0, max(0.0, score + rng.gauss(0, 0.35)))
    other = replace(other, facts=tuple(rng.sample(other.facts, len(other.facts))))
    return *_pair(told, other, False, rng), round(score * 5) / 5


def _statement(topics: list[str], sizes: tuple[int, int], rng: random.Random) -> Statement:
    return statements.statement(rng.choice(topics), rng.randint(*sizes), rng)


def _inference(told: Statement, kind: str, rng: random.Random) -> tuple[str, str]:
    """A premise and a hypothesis of one fact. A premise may deny a fact, and a hypothesis then denies it, too."""
    index = rng.randrange(len(told.facts))
    item = told.facts[index]
    if rng.random() < 0.15:
        item = replace(item, negated=True)
        told = replace(told, facts=(*told.facts[:index], item, *told.facts[index + 1 :]))
    if kind == "neutral":
        item = replace(statements.missing(told, rng), negated=rng.random() < 0.15)
    elif kind == "contradiction" and (item.negated or rng.random() < 0.3):
        item = replace(item, negated=not item.negated)
    elif kind == "contradiction":
        item = statements.fact(told.topic, item.attribute, rng, other_than=item.value)
    return _pair(told, replace(told, facts=(item,)), kind == "entailment", rng)


def _changed(told: Statement, rng: random.Random) -> Statement:
    """Other values of all facts or of one, another fact in its place, or another subject."""
    kind, facts = rng.random(), list(told.facts)
    if kind < 0.25:
        return replace(told, subject=statements.subject(told.topic, rng, other_than=told.subject))
    for index in range(len(facts)) if kind < 0.6 else [rng.randrange(len(facts))]:
        facts[index] = statements.fact(told.topic, facts[index].attribute, rng, other_than=facts[index].value)
        if kind > 0.85:
            facts[index] = statements.missing(told, rng)
    return replace(told, facts=tuple(facts))


def _pair(told: Statement, other: Statement, agrees: bool, rng: random.Random) -> tuple[str, str]:
    """Both as sentences, the facts of the second in other words or in the same."""
    chosen = statements.wordings(told, rng)
    again = statements.wordings(other, rng, unlike=chosen)
    kept = {a: chosen[a] for a in again if a in chosen and rng.random() > REWORDED[agrees]}
    return statements.tell(told, chosen), statements.tell(other, again | kept)


def _noisy(label: int, labels: int, rng: random.Random) -> int:
    """``label``, or now and then another one."""
    return (label + rng.randrange(1, labels)) % labels if rng.random() < NOISE else label


TASKS = {
    "mnli": Task(_mnli, ("premise", "hypothesis"), 2000, 200),
    "sst2": Task(_sst2, ("sentence",), 2000, 300),
    "mrpc": Task(_mrpc, ("sentence1", "sentence2"), 1600, 300),
    "cola": Task(_cola, ("sentence",), 2400, 300),
    "qnli": Task(_qnli, ("question", "sentence"), 1600, 300),
    "qqp": Task(_qqp, ("question1", "question2"), 1600, 300),
    "rte": Task(_rte, ("sentence1", "sentence2"), 1600, 277),
    "stsb": Task(_stsb, ("sentence1", "sentence2"), 1600, 300),
}
