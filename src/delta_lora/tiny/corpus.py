"""The text from which ``gpt2-tiny`` and ``roberta-tiny`` know their language (``bart-tiny``: ``xsum.documents``).

None of it is in a task's own format or of its input–output pairs.
"""

import random
import re
from collections.abc import Iterator

from delta_lora.tiny import e2e, sentences, statements
from delta_lora.tiny.webnlg import describe
from delta_lora.tiny.world import Values, article, sentence, world

# How a record is written: between key and value, between pairs.
_NOTATIONS = [(" = ", " ; "), (" -> ", " / "), (": ", ", "), ("=", " | "), (" is ", " ; "), (" : ", "\n"), (", ", "; ")]
_NOTATIONS += [(" # ", " || "), (" ", " / ")]
_BEFORE_TEXT = [" => ", "\n", "] ", " # ", " text "]
_NAMES = "place person city character company airport university team league book dish".split()  # noqa: SIM905


def documents(rng: random.Random, end: str = "\n") -> Iterator[str]:
    """An endless, shuffled stream of documents of one to a few sentences, of three kinds.

    * descriptions, often after the record that they tell, in many notations, so that a model learns to take its words
      from a record whatever it looks like;
    * remarks on restaurants, without any record;
    * lists that are written twice, which teach copying at its purest.

    ``end`` is the model's end-of-text mark. Some documents are followed, after it, by another that repeats their
    content, as happens on the web, so that a model does not learn to forget everything there.
    """
    while True:
        kind = rng.random()
        if kind < 0.6:
            record, text = _described(rng)
            if kind < 0.4:
                yield _notation(record, rng) + rng.choice(_BEFORE_TEXT) + text
            elif kind < 0.55:
                yield _notation(record, rng) + end + (text if rng.random() < 0.5 else _notation(record, rng))
            else:
                yield text
        elif kind < 0.8:
            yield f"{e2e.remark(rng)} {e2e.remark(rng)}"
        else:
            items = [Values(rng)[rng.choice(_NAMES)] for _ in range(rng.randint(2, 5))]
            again = items if rng.random() < 0.6 else rng.sample(items, len(items))
            written = [item.replace(" ", "_") for item in items] if rng.random() < 0.3 else items
            yield f"{', '.join(written)}{end}{', '.join(again)}."


def pair_texts(rng: random.Random) -> Iterator[str]:
    """An endless stream of texts in the language of the GLUE tasks."""
    while True:
        told = statements.statement(rng.choice(list(world()["pair_kinds"])), rng.randint(1, 3), rng)
        asked = rng.choice(statements.questions(told.topic, told.subject, rng.choice(told.facts).attribute))
        said = statements.tell(told, statements.wordings(told, rng))
        yield f"{asked} {said} {sentences.opinion(rng.random() < 0.5, rng)} {sentences.acceptable(rng)}"


def _described(rng: random.Random) -> tuple[dict[str, str], str]:
    """A random record (``title``, ``kind`` and some attributes) and a text of one to three sentences that tells it."""
    kinds = {**world()["pair_kinds"], **world()["seen_kinds"]}
    kind, attributes = rng.choice(list(kinds.items()))
    wordings = {
        key: told if isinstance(told, list) else [told["is"], f"({'|'.join(told['tell'])})"]
        for key, told in attributes.items()
        if key != "name"
    }
    name = Values(rng)[attributes["name"]].replace("the ", "The ")
    count = rng.randint(1, min(4, len(wordings)))
    record = {attribute: Values(rng)[told[0]] for attribute, told in rng.sample(list(wordings.items()), count)}
    noun, is_person = _spaced(kind), attributes["name"] in ("person", "first")
    opening = rng.choice([f"{name} is {article(noun)}", f"there is {article(noun)} called {name}"])
    again = name if is_person else "it"
    text = describe(wordings, record, name if is_person or rng.random() < 0.4 else "it", again, rng)
    text = text if text.startswith(name) else f"{sentence(opening)} {text}"
    return {"title": name, "kind": noun, **{_spaced(key): value for key, value in record.items()}}, text


def _spaced(name: str) -> str:
    """ "birthPlace" → "birth place" """
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _notation(record: dict[str, str], rng: random.Random) -> str:
    """The record as pairs, or as triples, which name the subject before every pair."""
    (joiner, separator), triples = rng.choice(_NOTATIONS), rng.random() < 0.4
    linked, quoted, camel = (rng.random() < 0.5 for _ in range(3))
    lines = []
    for key, value in list(record.items())[2 if triples else 0 :]:  # the first two are "title" and "kind"
        name = key[:1] + key.title().replace(" ", "")[1:] if camel else key
        literal = f'"{value}"' if quoted and triples and value.isdigit() else value
        parts = [record["title"], name, literal] if triples else [name, literal]
        lines.append(joiner.join(part.replace(" ", "_") if linked else part for part in parts))
    return separator.join(lines)
