"""Single sentences: opinions on films, and plain English sentences with the ways in which they can go wrong."""

import random

from delta_lora.tiny.grammar import article, expand
from delta_lora.tiny.lexicon import QUALITIES


def _words(text: str) -> list[str]:
    return text.split()


_ASPECTS = _words("plot story cast script music acting ending dialogue hero camera humour pace")
_GOOD = _words(
    "charming clever brilliant funny moving fresh lovely superb warm witty gripping honest delightful strong bright "
    "wonderful elegant lively tender rich"
)
_BAD = _words(
    "dull boring weak stale silly clumsy tired flat shallow awful messy cold lifeless bland poor annoying hollow "
    "tedious dreadful crude"
)
_PLEASES = _words("delights shines charms convinces amuses works succeeds sparkles")
_FAILS = _words("bores annoys disappoints drags fails tires confuses collapses")
_PLAIN = ["the {aspect} is (so|very|quite|truly|) {word}", "{a_word} {aspect}", "the {aspect} (really|always|) {verb}"]
_NEGATED = [
    "the {aspect} is (not|never|hardly) {word}",
    "the film (lacks|needs) {a_word} {aspect}",
    "(not|hardly) {a_word} {aspect}",
]
_TURNS = ["{first}, but {last}", "although {first}, {last}", "{first}, and yet {last}", "{last}, although {first}"]


def opinion(good: bool, rng: random.Random) -> str:
    """A remark on a film that is favourable or not as a whole; one in four is negated, one in five has two sides."""
    kind = rng.random()
    if kind < 0.2:
        return rng.choice(_TURNS).format(first=_clause(not good, rng), last=_clause(good, rng))
    if kind < 0.35:
        return f"{_clause(good, rng)} and {_clause(good, rng)}"
    return _clause(good, rng)


def _clause(good: bool, rng: random.Random) -> str:
    negated = rng.random() < 0.3
    looks_good = good != negated
    word = rng.choice(_GOOD if looks_good else _BAD)
    values = {
        "aspect": rng.choice(_ASPECTS),
        "word": word,
        "a_word": article(word),
        "verb": rng.choice(_PLEASES if looks_good else _FAILS),
    }
    return expand(rng.choice(_NEGATED if negated else _PLAIN), rng, values)


_NOUNS = _words("dog cat bird boy girl farmer teacher baker king queen sailor doctor friend horse pilot singer")
_OBJECTS = _words("book letter lamp table chair ball boat picture window basket hat coin")
_PLACES = _words("garden house river bridge forest tower market harbour meadow station")
_PREPOSITIONS = _words("near behind in under beside")
_STAY = [("sleep", "slept"), ("wait", "waited"), ("laugh", "laughed"), ("work", "worked"), ("sing", "sung")]
_ACT = [("see", "seen"), ("find", "found"), ("want", "wanted"), ("draw", "drawn"), ("clean", "cleaned")]
_SINGULAR, _PLURAL = ["the", "a", "this", "every", "that"], ["the", "these", "many", "some", "those"]

Words = list[tuple[str, str]]  # a word and its part: det, adj, noun, prep, verb, aux, main


def acceptable(rng: random.Random) -> str:
    """A grammatical sentence: a subject, sometimes with a place after it, a verb in some tense, often an object."""
    return _write(_sentence(rng)[0])


def unacceptable(rng: random.Random) -> str:
    """The like with mistakes, mostly two: agreement, a determiner, a verb form, a word that lacks, or a wrong order."""
    words, plural = _sentence(rng)
    made: list[str] = []
    for _ in range(rng.choice([1, 2, 2])):
        made.append(_spoil(words, plural, made, rng))
    return _write(words)


def _spoil(words: Words, plural: bool, made: list[str], rng: random.Random) -> str:
    """Make a mistake in place, of another kind than those ``made`` already; returns its kind."""
    parts = {part for _, part in words}
    droppable = [i for i, (word, part) in enumerate(words) if part in ("prep", "verb") or word in ("a", "this")]
    movable = [i for i in range(len(words) - 1) if words[i][1] in ("det", "adj", "prep")]
    kinds = ["agreement", "agreement"] * bool(parts & {"verb", "aux"}) + ["order", "order"] * bool(movable)
    kinds += ["determiner"] * ("det" in parts) + ["form"] * ("main" in parts) + ["missing", "missing"] * bool(droppable)
    kind = rng.choice([kind for kind in kinds if kind not in made])
    if kind == "agreement":
        at = _first(words, ("verb", "aux"))
        word = words[at][0]
        swapped = {"is": "are", "are": "is", "has": "have", "have": "has", "was": "were", "were": "was"}
        word = swapped.get(word) or (f"{word}s" if plural else word.removesuffix("s"))
        words[at] = (word, "verb")
    elif kind == "determiner":
        at = _first(words, ("det",))
        words[at] = (rng.choice((_SINGULAR if plural else _PLURAL)[1:]), "det")
    elif kind == "form":
        at = _first(words, ("main",))
        stem = next(stem for stem, past in _STAY + _ACT if words[at][0] in (stem, past, f"{stem}ing"))
        words[at] = (f"{stem}s", "main")
    elif kind == "missing":
        del words[rng.choice(droppable)]
    else:
        at = rng.choice(movable)
        words[at], words[at + 1] = words[at + 1], words[at]
    return kind


def _sentence(rng: random.Random) -> tuple[Words, bool]:
    plural = rng.random() < 0.5
    words = _noun_phrase(_NOUNS, plural, rng)
    if rng.random() < 0.3:
        words += _place(rng)  # between the subject and its verb
    acts = rng.random() < 0.6
    stem, past = rng.choice(_ACT if acts else _STAY)
    tense = rng.random()
    if tense < 0.5:
        words.append((stem if plural else f"{stem}s", "verb"))
    elif tense < 0.7:
        words += [("have" if plural else "has", "aux"), (past, "main")]
    elif tense < 0.85:
        words += [("are" if plural else "is", "aux"), (f"{stem}ing", "main")]
    else:
        words += [("were" if plural else "was", "aux"), (f"{stem}ing", "main")]
    if acts:
        words += _noun_phrase(_OBJECTS, rng.random() < 0.4, rng)
    if rng.random() < 0.4:
        words += _place(rng)
    return words, plural


def _noun_phrase(nouns: list[str], plural: bool, rng: random.Random) -> Words:
    words = [(rng.choice(_PLURAL if plural else _SINGULAR), "det")]
    if rng.random() < 0.4:
        words.append((rng.choice([quality for quality in QUALITIES if quality[0] not in "aeiou"]), "adj"))
    noun = rng.choice(nouns)
    return [*words, (f"{noun}s" if plural else noun, "noun")]


def _place(rng: random.Random) -> Words:
    return [(rng.choice(_PREPOSITIONS), "prep"), ("the", "det"), (rng.choice(_PLACES), "noun")]


def _first(words: Words, parts: tuple[str, ...]) -> int:
    return next(i for i, (_, part) in enumerate(words) if part in parts)


def _write(words: Words) -> str:
    text = " ".join(word for word, _ in words)
    return text[:1].upper() + text[1:] + "."
