"""The text on which the miniature models are pretrained: other text of the tasks' language.

Three kinds of document, none of them in a task's own format or of its input–output pairs:

* descriptions of hotels, museums, parks, shops, films, rivers and people, often after the record that they tell, in
  many notations, so that a model learns to take its words from a record whatever it looks like;
* reviews of restaurants and remarks about towns, with the words and phrases of the tasks but without any record;
* lists that are written twice, which teach copying at its purest.
"""

import random
from collections.abc import Iterator

from delta_lora.tiny.grammar import article, expand, join, sentence
from delta_lora.tiny.lexicon import (
    CAFES,
    CITIES,
    COLOURS,
    COUNTRIES,
    CREATURES,
    CUISINES,
    FIRST_NAMES,
    QUALITIES,
    SURNAMES,
    THINGS,
    place_names,
)

_PLACES = place_names()
_NOTATIONS = [  # before the record, between key and value, between pairs, between words
    ("", " = ", " ; ", " "),
    ("", " -> ", " / ", " "),
    ("[", ": ", ", ", " "),
    ("", "=", " | ", " "),
    ("", " : ", "\n", " "),
    ("data ", " is ", " ; ", " "),
    ("", ": ", " ; ", "_"),
    ("", " = ", " | ", "_"),
]
# The same as triples, which name the subject before every pair: between its three parts, between triples.
_TRIPLE_NOTATIONS = [(" -> ", " / "), (", ", "; "), (" = ", " ; "), (" # ", " || "), (" : ", "\n"), (" ", " / ")]
_BEFORE_TEXT = [" => ", "\n", "] ", " # ", " text "]
# What a kind of thing has: attribute → what a record shows of it, and verb phrases that tell it.
_DOMAINS: dict[str, dict[str, tuple[str, str]]] = {
    "hotel": {
        "city": ("{city}", "is (located|found|situated|) in {value}"),
        "near": ("{place}", "is (near|close to|next to) {value}"),
        "rooms": ("{number}", "has {value} rooms"),
        "rating": ("{small} out of 9", "has a rating of {value}"),
        "price": ("£{number}", "has (prices of|prices above|prices less than|prices over|a price of) {value}"),
        "owner": ("{person}", "(is owned by|belongs to) {value}"),
    },
    "museum": {
        "city": ("{city}", "is (located|found|) in {value}"),
        "opened": ("{year}", "(opened|was opened) in {value}"),
        "collection": ("{thing}s", "(is known for its|has a) collection of {value}"),
        "director": ("{person}", "(is led by|has the director) {value}"),
        "area": ("(city centre|riverside area|old town)", "is (located|found|) in the {value}"),
        "price": ("£{number}", "has a (ticket price|price) of {value}"),
    },
    "park": {
        "town": ("{city}", "(is located|is found|can be found) in {value}"),
        "open to": ("(families|children|adults|students)", "is (good for|open to) {value}"),
        "animal": ("{creature}s", "is known for its {value}"),
        "near": ("{place}", "is (close to|near|next to) {value}"),
    },
    "shop": {
        "sells": ("{colour} {thing}s", "(sells|offers) {value}"),
        "prices": ("(cheap|low|moderate|high|average)", "has {value} prices"),
        "founder": ("{person}", "was founded by {value}"),
        "founded": ("{year}", "was founded in {value}"),
        "city": ("{city}", "is (in|located in) {value}"),
    },
    "film": {
        "director": ("{person}", "was (directed|made) by {value}"),
        "year": ("{year}", "(was released|came out) in {value}"),
        "country": ("{country}", "(comes from|was made in) {value}"),
        "rating": ("(low|high|average)", "has a rating that is {value}"),
        "about": ("{colour} {creature}", "is about a {value}"),
    },
    "person": {
        "birth place": ("{city}", "was born in {value}"),
        "birth year": ("{year}", "was born in {value}"),
        "job": ("(teacher|baker|painter|sailor|doctor)", "(works as|is) a {value}"),
        "friend": ("{person}", "(is a friend of|knows) {value}"),
        "nationality": ("{country}", "comes from {value}"),
    },
    "river": {
        "length": ("{number} kilometres", "is {value} long"),
        "country": ("{country}", "(flows through|is found in) {value}"),
        "city": ("{city}", "flows through {value}"),
        "discovered by": ("{person}", "was discovered by {value}"),
    },
    "ship": {
        "builder": ("{company}", "was (built|made) by {value}"),
        "operator": ("{company}", "is operated by {value}"),
        "captain": ("{person}", "is (led|commanded) by {value}"),
        "launch year": ("{year}", "was (launched|completed) in {value}"),
        "length": ("{number}", "has a (total length|length) of {value}"),
        "crew size": ("{number}", "has {value} crew members"),
    },
    "song": {
        "writer": ("{person}", "was (written|created) by {value}"),
        "publisher": ("{company}", "(is|was) published by {value}"),
        "label": ("{company}", "has the label {value}"),
        "first played": ("{year}", "was first (played|seen|heard) in {value}"),
        "instrument": ("{thing}", "is played on the {value}"),
        "other name": ("{name}", "is (also known as|also called) {value}"),
    },
    "school": {
        "principal": ("{person}", "has the principal {value}"),
        "location": ("{city}", "is (located|found|) in {value}"),
        "founding year": ("{year}", "was (established|founded) in {value}"),
        "number of teachers": ("{number}", "has {value} teachers"),
        "office": ("{city}", "(has|holds) an office in {value}"),
    },
    "bridge": {
        "designer": ("{person}", "was designed by (the designer|) {value}"),
        "architect": ("{person}", "has the architect {value}"),
        "material": ("(stone|bronze|marble|wood|glass)", "(is made of|contains) {value}"),
        "completion year": ("{year}", "was completed in {value}"),
        "total area": ("{number}", "has a total area of {value}"),
        "owner": ("{company}", "is owned by {value}"),
    },
    "player": {
        "team": ("{city} {creature}s", "(plays|played) for {value}"),
        "trainer": ("{person}", "is (trained|managed) by {value}"),
        "active year": ("{year}", "was active in {value}"),
        "top speed": ("{number}", "has a top speed of {value}"),
        "successor": ("{person}", "was followed by {value}"),
        "league": ("{country} League", "plays in the {value}"),
    },
}
_PEOPLE = ("person", "player")
_NAMES = [
    "{place}",
    "{person}",
    "{city}",
    "{name}",
    "{company}",
    "{city} {surname} Airport",
    "University of {city}",
    "{city} {creature}s",
    "{country} League",
    "The {quality} {thing}",
    "{quality} (Soup|Pie|Cake|Stew)",
]
_REVIEWS = [
    "(we|I|{first}) (ate|had lunch|had dinner) at {place} (last night|yesterday|in {city})",
    "the {food} food (was|is) (very good|cheap|excellent|poor|too expensive)",
    "{place} is (a family friendly|an expensive|a cheap|a moderately priced) {venue}",
    "(my|our) friend {first} (likes|loves) the {venue} by the riverside",
    "there is a {venue} in the city centre where {first} works",
    "(it|the place) is (not for children|good for families|for adults only|not family friendly)",
    "you can find a {food} {venue} (near|next to|close to) Café {cafe}",
    "customers give it (poor|average|excellent) ratings",
    "(prices are|the price range is) (low|high|moderate|between £20 and £25|more than £30|less than £20)",
    "{first} {surname} (serves|offers) {food} food in {city}",
    "a {quality} {creature} (lives|sleeps) in the {thing} of {place}",
]


def documents(rng: random.Random, end: str = "\n") -> Iterator[str]:
    """An endless, shuffled stream of pretraining documents of one to a few sentences.

    ``end`` is the model's end-of-text mark. Some documents are followed, after it, by another that repeats their
    content, as happens on the web, so that a model does not learn to forget everything there.
    """
    while True:
        kind = rng.random()
        if kind < 0.45:
            record, text = describe(rng)
            yield text if kind < 0.05 else _notation(record, rng, rng.choice(_BEFORE_TEXT)) + text
        elif kind < 0.6:
            record, text = describe(rng)
            yield _notation(record, rng, end) + (text if rng.random() < 0.5 else _notation(record, rng))
        elif kind < 0.8:
            yield " ".join(sentence(expand(rng.choice(_REVIEWS), rng, fill(rng))) for _ in range(rng.randint(2, 4)))
        else:
            yield _list_twice(rng, end)


def fill(rng: random.Random) -> dict[str, str]:
    """A value for every slot of the templates here."""
    return {
        "city": rng.choice(CITIES),
        "country": rng.choice(COUNTRIES),
        "place": rng.choice(_PLACES),
        "person": f"{rng.choice(FIRST_NAMES)} {rng.choice(SURNAMES)}",
        "first": rng.choice(FIRST_NAMES),
        "surname": rng.choice(SURNAMES),
        "number": str(rng.randint(10, 99)),
        "small": str(rng.randint(1, 9)),
        "company": f"{rng.choice(SURNAMES)} {rng.choice(['Brothers', 'Press', 'Company', 'Works'])}",
        "name": f"{rng.choice(QUALITIES + COLOURS)} {rng.choice(CREATURES)}".title(),
        "year": str(rng.randint(1900, 2020)),
        "thing": rng.choice(THINGS),
        "creature": rng.choice(CREATURES),
        "colour": rng.choice(COLOURS),
        "quality": rng.choice(QUALITIES),
        "food": rng.choice(CUISINES),
        "cafe": rng.choice(CAFES),
        "venue": rng.choice(["pub", "restaurant", "coffee shop", "place"]),
    }


def describe(rng: random.Random) -> tuple[dict[str, str], str]:
    """A random record (``title``, ``kind`` and some attributes) and a text of one to three sentences that tells it."""
    kind = rng.choice(list(_DOMAINS))
    values = fill(rng)
    name = f"{rng.choice(FIRST_NAMES)} {rng.choice(SURNAMES)}" if kind in _PEOPLE else rng.choice(_PLACES)
    record = {"title": name, "kind": kind}
    told = []
    for attribute in rng.sample(list(_DOMAINS[kind]), rng.randint(1, 4)):
        value, phrase = _DOMAINS[kind][attribute]
        record[attribute] = expand(value, rng, values)
        told.append(expand(phrase, rng, {"value": record[attribute]}))
    rng.shuffle(told)
    if kind in _PEOPLE or rng.random() < 0.3:
        sentences, pronoun = [], name if kind in _PEOPLE else rng.choice([name, "it"])
    else:
        opening = rng.choice([f"{name} is {article(kind)}", f"there is {article(kind)} called {name}"])
        sentences, pronoun = [f"{opening} that {told.pop()}" if rng.random() < 0.4 else opening], "it"
    while told:
        size = rng.randint(1, 2)
        sentences.append(f"{pronoun} {join(told[:size])}")
        told = told[size:]
    return record, " ".join(sentence(text) for text in sentences)


def _notation(record: dict[str, str], rng: random.Random, after: str = "") -> str:
    if rng.random() < 0.4:
        return _triples(record, rng) + after
    before, joiner, separator, space = rng.choice(_NOTATIONS)
    pairs = [f"{key}{joiner}{value.replace(' ', space)}" for key, value in record.items()]
    return before + separator.join(pairs) + after


def _triples(record: dict[str, str], rng: random.Random) -> str:
    joiner, separator = rng.choice(_TRIPLE_NOTATIONS)
    linked, quoted, camel = (rng.random() < 0.5 for _ in range(3))
    subject, told = record["title"], [key for key in record if key not in ("title", "kind")]
    triples = []
    for key in told:
        value = f'"{record[key]}"' if quoted and record[key].isdigit() else record[key]
        name = key.title().replace(" ", "") if camel else key
        parts = (subject, name[:1].lower() + name[1:], value)
        triples.append(joiner.join(part.replace(" ", "_") if linked else part for part in parts))
    return separator.join(triples)


def _list_twice(rng: random.Random, end: str) -> str:
    items = [expand(rng.choice(_NAMES), rng, fill(rng)) for _ in range(rng.randint(2, 5))]
    if rng.random() < 0.3:
        linked = ", ".join(item.replace(" ", "_") for item in items)
        return f"{linked}{end}{', '.join(items)}."
    again = items if rng.random() < 0.5 else rng.sample(items, len(items))
    return f"{', '.join(items)}{rng.choice([end, end, '. (again) '])}{', '.join(again)}."
