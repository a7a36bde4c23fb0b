"""The words that the generated data sets and the pretraining text share."""


def _words(text: str) -> list[str]:
    return text.split()


COLOURS = _words("red blue green golden silver white black purple copper crimson amber scarlet")
QUALITIES = _words("old little royal happy quiet hungry lucky broken wild gentle clever rusty sunny hidden proud lazy")
CREATURES = _words("fox lion eagle swan heron otter badger falcon raven stag dolphin turtle panther sparrow")
THINGS = _words(
    "lantern anchor bridge mill garden tower castle fountain barrel kettle violin compass feather crown arrow "
    "candle harbour orchard meadow willow"
)
FIRST_NAMES = _words(
    "Alice Bruno Clara David Elena Frank Grace Hugo Irene James Karin Louis Maria Nadia Oscar Paula Ralph Sofia "
    "Thomas Vera Walter Yvonne Andrew Beatrice Carlos Diana Edward Fiona George Helen"
)
SURNAMES = _words(
    "Adams Brown Carter Dixon Evans Fisher Grant Harris Irving Jordan Keller Lawson Morgan Norton Owens Palmer "
    "Quinn Russell Stewart Turner Vaughan Walker Young Zimmer Bennett Cooper Dawson Ellis Foster Gardner"
)
CITIES = _words(
    "London Paris Madrid Berlin Vienna Dublin Lisbon Oslo Prague Athens Boston Chicago Dallas Denver Toronto "
    "Sydney Cairo Tokyo Delhi Milan Geneva Warsaw Helsinki Bristol Oxford Leeds Zurich Hamburg Seville Porto"
)
COUNTRIES = _words(
    "England France Spain Germany Austria Ireland Portugal Norway Greece Canada Australia Egypt Japan India Italy "
    "Poland Finland Scotland Wales Mexico Brazil Peru Chile Sweden"
)
CUISINES = _words("Italian French Chinese Indian Japanese English Spanish Mexican")
CAFES = _words("Adriatic Rouge Sicilia Brazil Lumière Victoria Milano Orient")


def place_names() -> list[str]:
    """Every two-word place name of the lexicon ("The Golden Fox", "Old Anchor Inn" …), in a fixed order."""
    first = [word.title() for word in COLOURS + QUALITIES]
    second = [word.title() for word in CREATURES + THINGS]
    return [f"The {a} {b}" for a in first for b in second]
