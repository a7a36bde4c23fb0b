"""Single sentences: opinions on films, and plain English sentences with the ways in which they can go wrong."""

import random

from delta_lora.tiny.world import article, expand, words

_PLAIN = ["the {aspect} is (so|very|quite|truly|) {word}", "{a_word} {aspect}", "the {aspect} (really|always|) {verb}"]
_NEGATED = ["the {aspect} is (not|never|hardly) {word}", "the film (lacks|needs) {a_word} {aspect}"]
_NEGATED += ["(not|hardly) {a_word} {aspect}"]
_TURNS = ["{first}, but {last}", "although {first}, {last}", "{first}, and yet {last}", "{last}, although {first}"]


def opinion(good: bool, rng: random.Random) -> str:
    """A remark on a film that is favourable or not as a whole; one in four is negated, one in five has two sides."""
    kind = rng.random()
    if kind < 0.2:
        return rng.choice(_TURNS).format(first=_clause(not good, rng), last=_clause(good, rng))
    if kind < 0.35:
        return f"{_clause(good, rng)} and {_clause(good, rng)}"
    return _clause(good, rng)


def acceptable(rng: random.Random) -> str:
    """A grammatical sentence: a subject, sometimes with a place after it, a verb in some tense, often an object."""
    return _write(_sentence(rng))


def unacceptable(rng: random.Random) -> str:
    """The like with mistakes, mostly two: a word in the wrong number, one that lacks, two in the wrong order."""
    told = _sentence(rng)
    numbers, determiners = _numbers(), words("singular plural")
    at_fault = {
        "number": numbers.keys(),
        "missing": {"a", "this", "every", *words("preposition")} | numbers.keys() - set(determiners),
        "order": {"the", *determiners, *words("preposition quality")},
    }
    for mistake in rng.sample(list(at_fault), rng.choice([1, 2, 2])):
        places = [index for index, word in enumerate(told[:-1]) if word in at_fault[mistake]]
        here = rng.choice(places or [0])
        if mistake == "number" and places:
            told[here] = numbers[told[here]]
        elif mistake == "missing" and places:
            del told[here]
        else:
            told[here : here + 2] = told[here + 1], told[here]
    return _write(told)


def _clause(good: bool, rng: random.Random) -> str:
    negated = rng.random() < 0.3
    names = ("good", "pleases") if good != negated else ("bad", "fails")
    aspect, word, verb = (rng.choice(words(name)) for name in ("aspect", *names))
    values = {"aspect": aspect, "word": word, "a_word": article(word), "verb": verb}
    return expand(rng.choice(_NEGATED if negated else _PLAIN), rng, values)


def _sentence(rng: random.Random) -> list[str]:
    plural, acts = rng.random() < 0.5, rng.random() < 0.6
    stem, past = rng.choice(words("act" if acts else "stay")).split("/")
    simple, ing = (f"{stem}s", stem), f"{stem}ing"
    one, many, *main = rng.choice([simple, simple, ("has", "have", past), ("is", "are", ing), ("was", "were", ing)])
    told = _noun_phrase("agent", plural, rng)
    told += _place(rng) if rng.random() < 0.3 else []  # between the subject and its verb
    told += [many if plural else one, *main]
    told += _noun_phrase("object", rng.random() < 0.4, rng) if acts else []
    return told + (_place(rng) if rng.random() < 0.4 else [])


def _noun_phrase(nouns: str, plural: bool, rng: random.Random) -> list[str]:
    determiner = rng.choice(["the", *words("plural" if plural else "singular")])
    quality = [rng.choice([word for word in words("quality") if word[0] not in "aeiou"])] * (rng.random() < 0.4)
    return [determiner, *quality, rng.choice(words(nouns)) + "s" * plural]


def _place(rng: random.Random) -> list[str]:
    return [rng.choice(words("preposition")), "the", rng.choice(words("site"))]


def _numbers() -> dict[str, str]:
    """Word → the like in the other number: determiners and verbs."""
    stems = [verb.split("/")[0] for verb in words("stay act")]
    pairs = [("is", "are"), ("has", "have"), ("was", "were"), *((f"{stem}s", stem) for stem in stems)]
    pairs += zip(words("singular"), words("plural"), strict=True)
    return {word: other for pair in pairs for word, other in (pair, pair[::-1])}


def _write(told: list[str]) -> str:
    return " ".join(told).capitalize() + "."
