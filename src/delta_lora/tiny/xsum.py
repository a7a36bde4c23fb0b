"""A generated data set in the layout of XSum: news stories and one sentence that says what happened.

As in XSum, the first sentence of a story is no summary of it: it sets the scene, and the facts that the summary needs,
partly in other words, stand in several sentences, in any order, between others that it does not need.
"""

import random
from collections.abc import Iterator
from typing import Any

from delta_lora.tiny.world import Values, different, expand, sentence, world

SIZES = {"test": 80, "validation": 40, "train": 4000}
SPARE_SENTENCES = 2  # at most, in a story
_REMARKS = ["{said} (means|is) {gist}", "{gist}: (that|this) is {said}", "(people who|to) say {gist} mean {said}"]

Story = tuple[list[str], str]  # its sentences, and its gist in one sentence


def tables(rng: random.Random) -> dict[str, dict[str, Any]]:
    """The three files' columns (``document``, ``summary``, ``id``), by split.

    A document has its sentences one a line, as XSum's have. No summary of one file is in another.
    """
    taken: set[str] = set()
    made, first = {}, 10_000_000
    for split, size in SIZES.items():
        stories = different(size, lambda: tell(_topic(rng), rng), taken, lambda story: story[1])
        made[split] = {
            "document": ["\n".join(sentences) for sentences, _ in stories],
            "summary": [gist for _, gist in stories],
            "id": [str(first + index) for index in range(size)],
        }
        first += size
    return made


def tell(topic: dict[str, Any], rng: random.Random) -> Story:
    """A story of ``topic``, one of the world's ``events``.

    The lead comes first, the sentences with the facts in any order, and up to ``SPARE_SENTENCES`` others between them.
    """
    values = Values(rng)
    for slot, alternatives in topic["facts"].items():
        said, gist = rng.choice(list(alternatives.items()))
        values[slot], values[f"{slot}_gist"] = expand(said, rng, values), expand(gist, rng, values)
    body = rng.sample(topic["body"], len(topic["body"]))
    for spare in rng.sample(topic["spare"], rng.randint(1, SPARE_SENTENCES)):
        body.insert(rng.randint(0, len(body)), spare)
    story = [expand(template, rng, values) for template in (rng.choice(topic["lead"]), *body)]
    return [sentence(text) for text in story], sentence(expand(rng.choice(topic["gist"]), rng, values))


def documents(rng: random.Random) -> Iterator[list[str]]:
    """An endless stream of the text on which ``bart-tiny`` is pretrained, each document as its sentences.

    Stories, and remarks that say what their words mean: a model meets the language of the news, but never a summary.
    """
    while True:
        yield tell(_topic(rng), rng)[0] if rng.random() < 0.6 else [_remark(rng) for _ in range(rng.randint(3, 5))]


def _remark(rng: random.Random) -> str:
    """What a phrase of a story means, in the words of a gist."""
    values = Values(rng)
    facts = rng.choice(list(_topic(rng)["facts"].values()))
    said, gist = (expand(part, rng, values) for part in rng.choice(list(facts.items())))
    return sentence(expand(rng.choice(_REMARKS), rng, {"said": said, "gist": gist}))


def _topic(rng: random.Random) -> dict[str, Any]:
    return rng.choice(list(world()["events"].values()))
