"""Small facts about people, hotels, films and ships: several wordings of each, its negation, and questions about it.

The generated GLUE tasks and the pretraining text of ``roberta-tiny`` are made of them. A statement is a subject and a
few facts; two statements can then agree, add, leave out or contradict facts, in the same words or in others.
"""

import random
from dataclasses import dataclass

from delta_lora.tiny.grammar import join, sentence
from delta_lora.tiny.lexicon import CITIES, COLOURS, COUNTRIES, CREATURES, CUISINES, FIRST_NAMES, QUALITIES, THINGS


def _words(text: str) -> list[str]:
    return text.split()


_CITIES, _NAMES, _COUNTRIES = CITIES[:20], FIRST_NAMES[:20], COUNTRIES[:12]
_ANIMALS = [word for word in CREATURES if word[0] not in "aeiou"]
_JOBS = _words("teacher baker painter sailor doctor nurse farmer singer lawyer pilot tailor writer")
_DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
_MONTHS = _words("January March April May June July August October November")
_YEARS = _words("1954 1961 1968 1972 1977 1983 1986 1990 1995 1999 2003 2008")
_NUMBERS = _words("20 25 30 35 40 45 50 60 65 70 80 90")
_CARGO = _words("wine tea corn coal salt wool rice sugar timber copper")
_INSTRUMENTS = _words("piano violin flute guitar trumpet drum harp cello")


@dataclass(frozen=True)
class Attribute:
    """What can be said of a subject: the values it may have, verb phrases that say it, questions that ask for it."""

    values: list[str]
    wordings: tuple[str, ...]
    questions: tuple[str, ...]


_HOME = Attribute(
    _CITIES,
    ("lives in {}", "is at home in {}", "has a house in {}"),
    ("Where does {} live?", "In which city is {} at home?", "In which town does {} have a house?"),
)
_PLACE = Attribute(
    _CITIES,
    ("is located in {}", "stands in {}", "is found in {}"),
    ("Where is {} located?", "In which city is {} found?", "In which town does {} stand?"),
)
_OWNER = Attribute(
    _NAMES,
    ("belongs to {}", "is owned by {}", "is the property of {}"),
    ("Who is the owner of {}?", "To whom does {} belong?", "Who owns {}?"),
)
_YEAR = Attribute(
    _YEARS,
    ("dates from {}", "was made in {}", "is from the year {}"),
    ("When was {} made?", "In which year was {} made?", "From which year is {}?"),
)
_COLOUR = Attribute(
    COLOURS,
    ("is painted {}", "has {} walls", "shows the colour {}"),
    ("What colour is {} painted?", "Which colour does {} have?", "What is the colour of {}?"),
)

TOPICS: dict[str, dict[str, Attribute]] = {
    "person": {
        "home": _HOME,
        "job": Attribute(
            _JOBS,
            ("works as a {}", "is a {}", "has a job as a {}"),
            ("What is the job of {}?", "What does {} work as?", "Which job does {} have?"),
        ),
        "pet": Attribute(
            _ANIMALS,
            ("keeps a {}", "has a {} as a pet", "is the owner of a {}"),
            ("Which animal does {} keep?", "What pet does {} have?", "Which animal has {} as its owner?"),
        ),
        "food": Attribute(
            CUISINES,
            ("likes {} food", "is fond of {} dishes", "enjoys {} cooking"),
            ("What food does {} like?", "Which dishes is {} fond of?", "Which cooking does {} enjoy?"),
        ),
        "arrival": Attribute(
            _DAYS,
            ("arrives on {}", "gets here on {}", "is expected on {}"),
            ("When does {} arrive?", "On which day is {} expected?", "On which day does {} get here?"),
        ),
    },
    "hotel": {
        "city": _PLACE,
        "colour": _COLOUR,
        "price": Attribute(
            _NUMBERS,
            ("costs {} euros a night", "has rooms for {} euros", "asks {} euros for a room"),
            ("How much does {} cost?", "How many euros does {} ask for a room?", "What does a room of {} cost?"),
        ),
        "owner": _OWNER,
        "season": Attribute(
            _MONTHS,
            ("opens in {}", "is open from {}", "welcomes guests from {}"),
            ("When does {} open?", "In which month does {} open?", "From which month is {} open?"),
        ),
    },
    "film": {
        "director": Attribute(
            _NAMES,
            ("was directed by {}", "is a work of {}", "has {} as its director"),
            ("Who directed {}?", "Who is the director of {}?", "Whose work is {}?"),
        ),
        "hero": Attribute(
            _ANIMALS,
            ("tells of a {}", "is about a {}", "shows the life of a {}"),
            ("Which animal is {} about?", "Of which animal does {} tell?", "The life of which animal does {} show?"),
        ),
        "country": Attribute(
            _COUNTRIES,
            ("comes from {}", "was shot in {}", "has its origin in {}"),
            ("Where does {} come from?", "In which country was {} shot?", "What is the country of {}?"),
        ),
        "year": _YEAR,
    },
    "ship": {
        "cargo": Attribute(
            _CARGO,
            ("brings {}", "is loaded with {}", "has {} on board"),
            ("What does {} bring?", "What is {} loaded with?", "What does {} have on board?"),
        ),
        "port": Attribute(
            _CITIES,
            ("sails to {}", "is bound for {}", "heads for {}"),
            ("Where does {} sail?", "For which port is {} bound?", "Which port does {} head for?"),
        ),
        "captain": Attribute(
            _NAMES,
            ("is led by {}", "has {} as its captain", "takes orders from {}"),
            ("Who leads {}?", "Who is the captain of {}?", "From whom does {} take orders?"),
        ),
        "year": _YEAR,
    },
    "school": {
        "city": _PLACE,
        "colour": _COLOUR,
        "pupils": Attribute(
            _NUMBERS,
            ("has {} pupils", "is visited by {} children", "trains {} children"),
            ("How many pupils does {} have?", "How many children visit {}?", "How many children does {} train?"),
        ),
        "head": Attribute(
            _NAMES,
            ("is led by {}", "has {} as its head", "takes orders from {}"),
            ("Who leads {}?", "Who is the head of {}?", "From whom does {} take orders?"),
        ),
    },
    "song": {
        "writer": Attribute(
            _NAMES,
            ("was written by {}", "is a work of {}", "has {} as its writer"),
            ("Who wrote {}?", "Who is the writer of {}?", "Whose work is {}?"),
        ),
        "instrument": Attribute(
            _INSTRUMENTS,
            ("is played on the {}", "was made for the {}", "starts with the {}"),
            ("On what is {} played?", "For which instrument was {} made?", "With what does {} start?"),
        ),
        "country": Attribute(
            _COUNTRIES,
            ("comes from {}", "is known in {}", "has its origin in {}"),
            ("Where does {} come from?", "Where is {} known?", "What is the country of {}?"),
        ),
        "year": _YEAR,
    },
}
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

    topic: str
    subject: str
    facts: tuple[Fact, ...]


def subject(topic: str, rng: random.Random, other_than: str = "") -> str:
    """A name: a person's first name, or "the", a quality or colour, and an animal or a thing."""
    while True:
        if topic == "person":
            name = rng.choice(_NAMES)
        else:
            name = f"the {rng.choice(QUALITIES if topic in ('film', 'song') else COLOURS)} "
            name += rng.choice(THINGS[:14] if topic in ("ship", "school") else _ANIMALS)
        if name != other_than:
            return name


def statement(topic: str, size: int, rng: random.Random) -> Statement:
    """A random statement of ``size`` facts."""
    chosen = rng.sample(list(TOPICS[topic]), size)
    return Statement(topic, subject(topic, rng), tuple(fact(topic, name, rng) for name in chosen))


def fact(topic: str, attribute: str, rng: random.Random, other_than: str = "") -> Fact:
    """A random fact of one attribute, with another value than ``other_than``."""
    return Fact(attribute, rng.choice([v for v in TOPICS[topic][attribute].values if v != other_than]))


def missing(told: Statement, rng: random.Random) -> Fact:
    """A random fact of an attribute that the statement does not tell."""
    untold = [name for name in TOPICS[told.topic] if name not in {f.attribute for f in told.facts}]
    return fact(told.topic, rng.choice(untold), rng)


def wordings(told: Statement, rng: random.Random, unlike: dict[str, int] | None = None) -> dict[str, int]:
    """Which wording each fact gets, by attribute; never that of ``unlike``, where it has the attribute."""
    choice = {}
    for item in told.facts:
        count = len(TOPICS[told.topic][item.attribute].wordings)
        choice[item.attribute] = rng.choice([i for i in range(count) if (unlike or {}).get(item.attribute) != i])
    return choice


def tell(told: Statement, chosen: dict[str, int]) -> str:
    """The statement as one sentence, each fact in its chosen wording."""
    phrases = []
    for item in told.facts:
        phrase = TOPICS[told.topic][item.attribute].wordings[chosen[item.attribute]]
        phrases.append((_negate(phrase) if item.negated else phrase).format(item.value))
    return sentence(f"{told.subject} {join(phrases)}")


def ask(topic: str, name: str, attribute: str, which: int) -> str:
    """A question for one attribute of the subject ``name``."""
    return TOPICS[topic][attribute].questions[which].format(name)


def _negate(phrase: str) -> str:
    """ "lives in {}" → "does not live in {}", "is a {}" → "is not a {}" """
    verb, rest = phrase.split(" ", 1)
    if verb in ("is", "was"):
        return f"{verb} not {rest}"
    return f"does not {'have' if verb == 'has' else verb.removesuffix('s')} {rest}"
