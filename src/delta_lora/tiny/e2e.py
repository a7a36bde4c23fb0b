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

from delta_lora.tiny.world import Values, article, different, expand, join, sentence, words, world

TRAIN_PAIRS, DEV_MRS, TEST_MRS = 3200, 40, 80
DROPPED_SLOT = 0.06  # share of the references that leave one slot out

Record = dict[str, str]

_PRESENT = {  # how often a slot stands in an MR, in the release's order
    "eatType": 0.8, "food": 0.75, "priceRange": 0.6, "customer rating": 0.6, "area": 0.6,
    "familyFriendly": 0.5, "near": 0.5,
}  # fmt: skip
_SUBJECT = "(it|it|this place|the venue)"


def files(rng: random.Random) -> dict[str, bytes]:
    """The three CSV files of the release (``mr``, ``ref``), as path → content.

    Every MR of the development and test files is a combination of slots and values that the training file has not,
    and a third of the test MRs are about a restaurant whose name it has not either.
    """
    names = different(92, lambda: Values(rng)["place"], set(), str)
    seen, unseen = names[:40], names[40:80]
    nearby = [f"Café {name}" for name in words("cafe")] + names[80:]
    used: set[frozenset[tuple[str, str]]] = set()

    def fresh(pool: list[str]) -> Record:
        return different(1, lambda: _record(rng, rng.choice(pool), nearby), used, lambda mr: frozenset(mr.items()))[0]

    def told(records: Iterable[Record], least: int, most: int) -> list[tuple[Record, str]]:
        return [(record, text) for record in records for text in references(record, rng.randint(least, most), rng)]

    train: list[tuple[Record, str]] = []
    while len(train) < TRAIN_PAIRS:
        train += told([fresh(seen)], 1, 4)
    dev = [fresh(seen) for _ in range(DEV_MRS)]
    test = [fresh(unseen if index % 3 == 0 else seen) for index in range(TEST_MRS)]
    rows = {"trainset": train[:TRAIN_PAIRS], "devset": told(dev, 2, 4), "testset_w_refs": told(test, 3, 8)}
    return {f"{name}.csv": _csv(split) for name, split in rows.items()}


def references(record: Record, count: int, rng: random.Random) -> list[str]:
    """``count`` different reference texts of one MR (fewer where the MR has too few wordings)."""
    texts: dict[str, None] = {}
    for _ in range(10 * count):
        told = dict(record)
        optional = [slot for slot in told if slot not in ("name", "eatType")]
        if len(optional) > 2 and rng.random() < DROPPED_SLOT:
            del told[rng.choice(optional)]
        texts[_text(told, rng)] = None
    return list(texts)[:count]


def remark(rng: random.Random) -> str:
    """What a text says of some restaurant, without its MR."""
    near = [f"Café {rng.choice(words('cafe'))}", Values(rng)["place"]]
    return _text(_record(rng, Values(rng)["place"], near), rng)


def _record(rng: random.Random, name: str, nearby: list[str]) -> Record:
    """A random MR of at least three slots, in the release's slot order."""
    slots: list[str] = []
    while len(slots) < 2:
        slots = [slot for slot, share in _PRESENT.items() if rng.random() < share]
    values = {"eatType": ["pub", "restaurant", "coffee shop"], "food": words("cuisine"), **world()["restaurant"]}
    values["near"] = [other for other in nearby if other != name]
    return {"name": name, **{slot: rng.choice(list(values[slot])) for slot in slots}}


def _text(record: Record, rng: random.Random) -> str:
    """One reference: a plan for the first sentence, the rest gathered into one or two sentences more."""
    told, ways = dict(record), world()["restaurant"]
    name, what, food = told.pop("name"), told.pop("eatType", "place"), told.pop("food", "")
    if food and rng.random() < 0.3:
        what, food = f"{food} {what}", ""
    for slot in ("familyFriendly", "priceRange"):
        if told.get(slot) in ways["adjectives"] and rng.random() < 0.4:
            what = f"{ways['adjectives'][told.pop(slot)]} {what}"
    serving = f" (serving|that serves|offering) {food} food" if food else ""
    area = ways["area"][told.pop("area")] if "area" in told else ""
    near = f"(near|close to|next to) {told.pop('near')}" if "near" in told else ""
    where = f"{area} {near}".strip()
    plans = [f"{{name}} is {{a_what}}{serving}", f"there is {{a_what}} (called|named) {{name}}{serving}"]
    if where and rng.random() < 0.7:
        plans = [
            *(f"{plan} {where}" for plan in plans),
            f"{where}, (there is|you can find|you will find) {{a_what}} (called|named) {{name}}{serving}",
            f"{{name}} is {{a_what}} {where}{serving}",
            f"(located|situated) {where}, {{name}} is {{a_what}}{serving}",
        ]
        where = ""
    opening = expand(rng.choice(plans), rng, {"name": name, "a_what": article(what)})
    return " ".join(sentence(text) for text in [opening, *_further(told, where, rng)])


def _further(told: Record, where: str, rng: random.Random) -> list[str]:
    """Sentences (without a capital or a full stop) that tell the slots that the first sentence left."""
    known = {slot: world()["restaurant"][slot][value] for slot, value in told.items()}
    has = [known[slot] for slot in ("priceRange", "customer rating") if slot in known]
    states = [known["familyFriendly"]] if "familyFriendly" in known else []
    states += [f"(located|found) {where}"] if where else []
    rng.shuffle(has)
    rng.shuffle(states)
    if has and states and rng.random() < 0.4:
        merged = rng.choice([f"is {join(states)} and has {join(has)}", f"has {join(has)} and is {join(states)}"])
        return [expand(f"{_SUBJECT} {merged}", rng)]
    further = [f"{_SUBJECT} (has|offers|comes with) {join(has)}"] if has else []
    further += [f"{_SUBJECT} is {join(states)}"] if states else []
    return [expand(text, rng) for text in rng.sample(further, len(further))]


def _csv(rows: Iterable[tuple[Record, str]]) -> bytes:
    text = io.StringIO()
    told = [(", ".join(f"{slot}[{value}]" for slot, value in mr.items()), ref) for mr, ref in rows]
    csv.writer(text, lineterminator="\n").writerows([("mr", "ref"), *told])
    return text.getvalue().encode("utf-8")
