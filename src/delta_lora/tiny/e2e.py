"""A generated data set in the layout of the E2E NLG Challenge: restaurant records and texts.

A meaning representation (MR) is an ordered choice of the challenge's eight slots. A reference is made in three steps,
as people who describe a restaurant seem to do it: choose what the first sentence tells (a plan), how the other slots
are gathered into further sentences (aggregation), and the words of each (synonyms). Like the real references, a
few leave a slot out.
"""

import csv
import io
import random
from collections.abc import Iterable

from delta_lora.tiny.grammar import article, expand, join, sentence
from delta_lora.tiny.lexicon import CAFES, CUISINES, place_names

TRAIN_PAIRS = 3200
DEV_MRS = 40
TEST_MRS = 80
DROPPED_SLOT = 0.06  # share of the references that leave one slot out

Record = dict[str, str]

_PRICES = {
    "cheap": ("cheap", "(cheap|low) prices"),
    "moderate": ("moderately priced", "(moderate|average|reasonable) prices"),
    "high": ("expensive", "(high|expensive) prices"),
    "less than £20": ("cheap", "prices (of|) less than £20"),
    "£20-25": ("moderately priced", "(a price range of £20-25|prices between £20 and £25)"),
    "more than £30": ("expensive", "prices (of more than|above|over) £30"),
}
_RATINGS = {
    "low": "(a low customer rating|low ratings from customers|poor ratings)",
    "average": "(an average customer rating|average ratings)",
    "high": "(a high customer rating|high ratings from customers|excellent ratings)",
    "1 out of 5": "(a customer rating of 1 out of 5|a rating of 1 out of 5)",
    "3 out of 5": "(a customer rating of 3 out of 5|a rating of 3 out of 5)",
    "5 out of 5": "(a customer rating of 5 out of 5|a rating of 5 out of 5)",
}
_AREAS = {
    "riverside": "(by the riverside|in the riverside area|at the riverside)",
    "city centre": "(in the city centre|in the centre of the city)",
}
_FAMILY = {
    "yes": "(family friendly|child friendly|good for families)",
    "no": "(not family friendly|not for children|for adults only)",
}
_SUBJECT = "(it|it|this place|the venue)"
_VALUES = {
    "eatType": ["pub", "restaurant", "coffee shop"],
    "food": CUISINES,
    "priceRange": list(_PRICES),
    "customer rating": list(_RATINGS),
    "area": list(_AREAS),
    "familyFriendly": list(_FAMILY),
}
_PRESENT = {  # how often a slot stands in an MR
    "eatType": 0.8,
    "food": 0.75,
    "priceRange": 0.6,
    "customer rating": 0.6,
    "area": 0.6,
    "familyFriendly": 0.5,
    "near": 0.5,
}


def files(rng: random.Random) -> dict[str, bytes]:
    """The three CSV files of the release (``mr``, ``ref``), as path → content.

    Every MR of the development and test files is a combination of slots and values that the training file has not,
    and a third of the test MRs are about a restaurant whose name it has not either.
    """
    names = place_names()
    rng.shuffle(names)
    seen, unseen = names[:40], names[40:80]
    nearby = [f"Café {name}" for name in CAFES] + names[80:92]
    used: set[frozenset[tuple[str, str]]] = set()

    def fresh(pool: list[str]) -> Record:
        while True:
            record = _record(rng, rng.choice(pool), nearby)
            if (key := frozenset(record.items())) not in used:
                used.add(key)
                return record

    train: list[tuple[Record, str]] = []
    while len(train) < TRAIN_PAIRS:
        record = fresh(seen)
        train += [(record, text) for text in references(record, rng.randint(1, 4), rng)]
    del train[TRAIN_PAIRS:]
    dev = [fresh(seen) for _ in range(DEV_MRS)]
    test = [fresh(unseen if index % 3 == 0 else seen) for index in range(TEST_MRS)]
    return {
        "trainset.csv": _csv(train),
        "devset.csv": _csv((mr, text) for mr in dev for text in references(mr, rng.randint(2, 4), rng)),
        "testset_w_refs.csv": _csv((mr, text) for mr in test for text in references(mr, rng.randint(3, 8), rng)),
    }


def references(record: Record, count: int, rng: random.Random) -> list[str]:
    """``count`` different reference texts of one MR (fewer where the MR has too few wordings)."""
    texts: list[str] = []
    for _ in range(10 * count):
        if len(texts) == count:
            break
        told = dict(record)
        optional = [slot for slot in told if slot not in ("name", "eatType")]
        if len(optional) > 2 and rng.random() < DROPPED_SLOT:
            del told[rng.choice(optional)]
        if (text := _text(told, rng)) not in texts:
            texts.append(text)
    return texts


def _record(rng: random.Random, name: str, nearby: list[str]) -> Record:
    """A random MR of at least three slots, in the release's slot order."""
    while True:
        slots = [slot for slot, share in _PRESENT.items() if rng.random() < share]
        if len(slots) >= 2:
            break
    record = {"name": name}
    record.update({s: rng.choice([n for n in nearby if n != name] if s == "near" else _VALUES[s]) for s in slots})
    return record


def _text(record: Record, rng: random.Random) -> str:
    """One reference: a plan for the first sentence, the rest gathered into one or two sentences more."""
    told = dict(record)
    name, kind = told.pop("name"), told.pop("eatType", "")
    price = told.get("priceRange", "")
    noun = kind or rng.choice(["place", "restaurant"])
    adjectives: list[str] = []
    if "£" not in price and price and rng.random() < 0.4:
        adjectives.append(_PRICES[told.pop("priceRange")][0])
    if told.get("familyFriendly") == "yes" and rng.random() < 0.4:
        adjectives.append("family friendly")
        del told["familyFriendly"]
    food = told.pop("food", "")
    if food and rng.random() < 0.3:
        adjectives.append(food)
        food = ""
    what = " ".join([*adjectives, noun])
    serving = f" (serving|that serves|offering) {food} food" if food else ""
    values = {"name": name, "what": what, "a_what": article(what)}
    where = _where(told) if rng.random() < 0.7 else ""
    plans = [
        f"{{name}} is {{a_what}}{serving} {where}",
        f"there is {{a_what}} (called|named) {{name}}{serving} {where}",
    ]
    if where:
        plans += [
            f"{where}, (there is|you can find|you will find) {{a_what}} (called|named) {{name}}{serving}",
            f"{{name}} is {{a_what}} {where}{serving}",
            f"(located|situated) {where}, {{name}} is {{a_what}}{serving}",
        ]
    if food and not adjectives:
        plans += [f"{{name}} is {{a_what}} {where}. It (serves|offers) {food} food"]
    opening = expand(rng.choice(plans), rng, values)
    return " ".join(sentence(text) for text in [opening, *_further(told, rng)])


def _where(told: Record) -> str:
    """Template of the location phrase; takes the slots that it tells out of ``told``."""
    area = _AREAS[told.pop("area")] if "area" in told else ""
    near = f"(near|close to|next to) {told.pop('near')}" if "near" in told else ""
    return f"{area} {near}".strip()


def _further(told: Record, rng: random.Random) -> list[str]:
    """Sentences (without a capital or a full stop) that tell the slots that the first sentence left."""
    has: list[str] = []
    if "priceRange" in told:
        has.append(expand(_PRICES[told["priceRange"]][1], rng))
    if "customer rating" in told:
        has.append(expand(_RATINGS[told["customer rating"]], rng))
    rng.shuffle(has)
    family = expand(_FAMILY[told["familyFriendly"]], rng) if "familyFriendly" in told else ""
    where = expand("(located|found) " + place, rng) if (place := _where(told)) else ""
    states = [state for state in (family, where) if state]
    rng.shuffle(states)
    if has and states and rng.random() < 0.4:
        merged = expand(f"{_SUBJECT} (is {join(states)} and has|has {join(has)} and is)", rng)
        return [f"{merged} {join(has) if merged.endswith('has') else join(states)}"]
    sentences = [expand(f"{_SUBJECT} (has|offers|comes with)", rng) + f" {join(has)}"] if has else []
    if states:
        sentences.insert(rng.randint(0, len(sentences)), expand(_SUBJECT, rng) + f" is {join(states)}")
    return sentences


def _csv(rows: Iterable[tuple[Record, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["mr", "ref"])
    for record, reference in rows:
        writer.writerow([", ".join(f"{slot}[{value}]" for slot, value in record.items()), reference])
    return text.getvalue().encode("utf-8")
