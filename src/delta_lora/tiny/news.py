"""Generated news: how a story is told, and the reports on which ``bart-tiny`` is pretrained.

The reports here are about other events than those of the generated summarization data (``xsum``). Half of them open or
end with a sentence that gives the gist, as newspapers' do. Between them stand remarks that say what words mean and news
in brief, so that a model has met the words and turns of a wider language than that of the reports.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from delta_lora.tiny.grammar import article, expand, sentence
from delta_lora.tiny.lexicon import (
    CITIES,
    COLOURS,
    COUNTRIES,
    CREATURES,
    FIRST_NAMES,
    QUALITIES,
    SURNAMES,
    THINGS,
    place_names,
)

SPARE_SENTENCES = 2  # at most, in a story
REMARKS, BRIEFS = 0.2, 0.2  # shares of the pretraining documents that are no reports
GIST_FIRST, GIST_LAST = 0.4, 0.3  # how many of the reports open or end with the gist

_PLACES = place_names()
_NUMBERS = "two three four five six seven eight nine".split()  # noqa: SIM905
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()  # noqa: SIM905
_MONTHS = "January February March April May June July August September October November December".split()  # noqa: SIM905
_CLUBS = "Town United City Rovers Athletic Wanderers".split()  # noqa: SIM905


@dataclass(frozen=True)
class Topic:
    """A kind of event, as templates of ``grammar.expand``.

    ``facts`` are its own slots: each has alternatives, a pair of what the story says and what the gist makes of it;
    ``{slot}`` is the first and ``{slot_gist}`` the second. ``body`` has the sentences that tell the facts, each told in
    every story; ``spare`` those that add nothing.
    """

    lead: list[str]
    body: list[str]
    spare: list[str]
    gist: list[str]
    facts: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


def fill(rng: random.Random) -> dict[str, str]:
    """A value for every slot that all topics share."""
    (person, other), (city, town) = _people(rng), rng.sample(CITIES, 2)
    number, fewer = sorted(rng.sample(range(10, 99), 2), reverse=True)
    creature = rng.choice(CREATURES)
    club, rival = f"{city} {rng.choice(_CLUBS)}", f"{town} {rng.choice(_CLUBS)}"
    return {
        "person": person,
        "other": other,
        "surname": person.split()[-1],
        "city": city,
        "town": town,
        "country": rng.choice(COUNTRIES),
        "place": rng.choice(_PLACES),
        "company": f"{rng.choice(SURNAMES)} {rng.choice(['Brothers', 'Press', 'Company', 'Works'])}",
        "street": f"{rng.choice([*SURNAMES, *(word.title() for word in THINGS)])} {rng.choice(['Street', 'Road'])}",
        "club": club,
        "rival": rival,
        "age": str(rng.randint(18, 89)),
        "number": str(number),
        "fewer": str(fewer),
        "count": rng.choice(_NUMBERS),
        "few": rng.choice(_NUMBERS),
        "day": rng.choice(_DAYS),
        "month": rng.choice(_MONTHS),
        "young": str(rng.randint(18, 35)),
        "year": str(rng.randint(1900, 2020)),
        "recent": str(rng.randint(1980, 2020)),
        "creature": creature,
        "a_creature": article(creature),
        "thing": rng.choice(THINGS),
        "colour": rng.choice(COLOURS),
        "quality": rng.choice(QUALITIES),
    }


def tell(topic: Topic, rng: random.Random) -> tuple[list[str], str]:
    """A story of ``topic`` as its sentences, and its gist in one sentence.

    The lead comes first, the sentences with the facts in any order, and up to ``SPARE_SENTENCES`` others between them.
    """
    values = fill(rng)
    for slot, alternatives in topic.facts.items():
        told, gist = rng.choice(alternatives)
        values[slot], values[f"{slot}_gist"] = expand(told, rng, values), expand(gist, rng, values)
    body = rng.sample(topic.body, len(topic.body))
    for spare in rng.sample(topic.spare, rng.randint(1, min(SPARE_SENTENCES, len(topic.spare)))):
        body.insert(rng.randint(0, len(body)), spare)
    story = [expand(template, rng, values) for template in (rng.choice(topic.lead), *body)]
    return [_sentence(text) for text in story], _sentence(expand(rng.choice(topic.gist), rng, values))


def documents(rng: random.Random) -> Iterator[list[str]]:
    """An endless stream of pretraining documents, each as its sentences."""
    while True:
        kind, place = rng.random(), rng.random()
        story, gist = tell(rng.choice(_TOPICS), rng)
        if kind < REMARKS:
            yield _remarks(rng)
        elif kind < REMARKS + BRIEFS:
            yield [_sentence(expand(rng.choice(_BRIEFS), rng, fill(rng))) for _ in range(rng.randint(3, 5))]
        elif place < GIST_FIRST:
            yield [gist, *story]
        elif place < GIST_FIRST + GIST_LAST:
            yield [*story, gist]
        else:
            yield story


def _sentence(text: str) -> str:
    """``text`` as a sentence, with a capital inside an opening quotation mark, too."""
    return '"' + sentence(text[1:]) if text.startswith('"') else sentence(text)


def _remarks(rng: random.Random) -> list[str]:
    """Three to five entries of the glossary, each in one sentence."""
    entries = []
    for term, meaning in rng.sample(_GLOSSARY, rng.randint(3, 5)):
        values = fill(rng)
        values |= {"term": expand(term, rng), "meaning": expand(meaning, rng, values)}
        values["a_term"] = article(values["term"])
        entries.append(_sentence(expand(rng.choice(_REMARKS), rng, values)))
    return entries


def _people(rng: random.Random) -> list[str]:
    """Two full names without a word in common."""
    first, last = rng.sample(FIRST_NAMES, 2), rng.sample(SURNAMES, 2)
    return [f"{a} {b}" for a, b in zip(first, last, strict=True)]


_REMARKS = [
    "{a_term} (has to do with|means|goes with|makes one think of) {meaning}",
    "(people who say|if somebody says|say) {term}(, you think of|, and everyone thinks of| and mean) {meaning}",
    "{meaning}: (that|this) is (about|) {a_term}",
    "(there was|{person} wrote about|{surname} talked of) {a_term} in {city}, and (so of|of) {meaning}",
    "(when|where) there is {meaning}, (there|it) (may be|is often) {a_term}, (said|says) {person}",
    "the {age}-year-old {term} from {town} (thought|dreamed) of {meaning} (for {count} hours|) on {day}",
]
# What words mean, roughly: general knowledge of a few things that newspapers write about.
_GLOSSARY = [
    ("theft", "(money that is taken|customers without a purse)"),
    ("arson", "(setting light to a house|a barn that burns)"),
    ("fraud", "(names of others on a paper|a signed lie)"),
    ("robbery", "(a bank and a gun|holding up a shop)"),
    ("burglary", "(windows at night|a thief who climbed)"),
    ("smuggling", "(packets in a suitcase|what is hidden at a border)"),
    ("chef", "a kitchen"),
    ("barber", "(hair that is cut|scissors)"),
    ("doctor", "a stethoscope"),
    ("postman", "letters"),
    ("musician", "(a violin|a player)"),
    ("baker", "(bread|making bread)"),
    ("teacher", "a blackboard"),
    ("bus driver", "(a wheel and passengers|a bus)"),
    ("nurse", "the wards"),
    ("police officer", "(a uniform|handcuffs|detectives)"),
    ("farmer", "(sheep|cows|hay|a stable)"),
    ("cyclist", "(pedals|wheels)"),
    ("pedestrian", "(someone on foot|feet)"),
    ("scooter rider", "a helmet"),
    ("horse rider", "a saddle"),
    ("jogger", "a morning run"),
    ("lorry", "(gravel|tonnes)"),
    ("car", "a saloon"),
    ("tractor", "(a machine|a farm)"),
    ("van", "(a vehicle with parcels|post)"),
    ("striker", "someone who can score goals"),
    ("goalkeeper", "the space between the posts"),
    ("defender", "stopping attacks"),
    ("midfielder", "passing in the centre"),
    ("free transfer", "nothing that is paid"),
    ("undisclosed fee", "what nobody would say"),
    ("loan", "a time until {month}"),
    ("late winner", "once before the whistle"),
    ("hat-trick", "three goals"),
    ("penalty", "the spot"),
    ("header", "the head"),
    ("relegation zone", "the bottom of the table"),
    ("semi-final", "the last four of a cup"),
    ("losing run", "defeats in a row"),
    ("furniture", "things to sit on"),
    ("aircraft", "(wings|rotors)"),
    ("chocolate", "(sweets|gold paper)"),
    ("drug", "(pills|pain)"),
    ("car part", "brakes"),
    ("pottery", "(cups|plates)"),
    ("job", "(work|hands that are needed|workers who have to leave)"),
    ("tower block", "storeys of offices"),
    ("wind farm", "blades that turn"),
    ("supermarket", "(shelves|tills)"),
    ("stadium", "seats under a roof"),
    ("swimming pool", "lanes"),
    ("school", "(pupils|desks|classrooms)"),
    ("traffic", "cars"),
    ("wildlife", "(birds|bats)"),
    ("noise", "nights without sleep"),
    ("cost", "money"),
    ("hotel", "(guests|rooms)"),
    ("warehouse", "(racks|halls)"),
    ("farm", "(a stable|hay)"),
    ("church", "(an altar|a tower)"),
    ("hospital", "(wards|beds|injuries)"),
    ("cigarette", "(a stub|an ashtray)"),
    ("electrical fault", "a burnt wire"),
    ("candle", "wax"),
    ("arsonist", "(petrol|matches)"),
    ("lightning", "a bolt from the sky"),
    ("mountaineer", "(climbing|snow)"),
    ("fisherman", "(cod|trout)"),
    ("hiker", "(a tent|a map)"),
    ("sailor", "(a sail|sails)"),
    ("photographer", "(owls|storms)"),
    ("writer", "(a book|pages)"),
    ("film-maker", "(a film|minutes)"),
    ("painter", "a canvas"),
    ("composer", "(voices|violins)"),
    ("comedy", "people who laugh"),
    ("love story", "(a wedding|a kiss)"),
    ("horror story", "ghosts"),
    ("crime story", "a detective"),
    ("royal portrait", "a queen"),
    ("blind man", "those who cannot see"),
    ("homeless man", "those without a roof"),
    ("veteran", "(wars|fighting)"),
    ("orphan", "lost parents"),
    ("heart charity", "research on hearts"),
    ("animal shelter", "(cats|dogs|owners)"),
    ("zoo", "cages"),
    ("storm", "(wind|what is blown away)"),
    ("railway station", "rails"),
    ("living room", "a sofa"),
    ("missing man", "(a search|a night without a trace|a body that is found dead or alive)"),
    ("jailed man", "(a judge, years and a sentence|a court|a prison)"),
    ("guilty man", "(evidence|being convicted|a trial)"),
    ("council", "councillors who (raise their hands|vote)"),
    ("plan", "(being approved|being rejected|being delayed)"),
    ("fire", "(smoke|firefighters|burns|people hurt|an investigator)"),
    ("crash", "(a collision|being hit|being seriously injured)"),
    ("prize", "(a cheque|judges who read|what is won)"),
    ("walk", "(miles|one foot after the other)"),
    ("swim", "(wet hair|water)"),
    ("canoe", "(a paddle|a river)"),
    ("run", "(a stopwatch|shoes)"),
    ("signed player", "(a contract|seasons|clubs|a manager|a coach|supporters)"),
    ("match", "(teams that beat others|points|shots|corners)"),
    ("factory", "(a plant|jobs that are created|jobs that are cut|orders)"),
    ("stolen thing", "a thief who escaped"),
    ("caught animal", "(a net|a shot|one that was killed)"),
    ("charity", "(raising money|a penny)"),
]
_JOB = "(chef|barber|doctor|postman|musician|baker|teacher|bus driver|nurse|police officer|farmer)"
_CRIME = "(theft|arson|fraud|robbery|burglary|smuggling)"
_VICTIM = "(cyclist|pedestrian|scooter rider|horse rider|jogger)"
_VEHICLE = "a (bus|lorry|car|tractor|van)"
_ROLE = "(striker|goalkeeper|defender|midfielder)"
_PROJECT = "(tower block|wind farm|supermarket|stadium|swimming pool|school)"
_SITE = "(hotel|warehouse|farm|school|church|hospital|factory|zoo|railway station|supermarket)"
_WALKER = "(mountaineer|fisherman|hiker|sailor|photographer)"
_ARTIST = "(writer|film-maker|painter|composer)"
_WORK = "(comedy|love story|horror story|crime story|royal portrait)"
_CAUSE = "(the blind|the homeless|veterans|orphans|a heart charity|an animal shelter)"
_PRODUCT = "(furniture|aircraft|chocolate|drugs|car|pottery)"
# News in a line, without the story.
_BRIEFS = [
    f"a {_JOB} (from|in) {{city}} (has been|was) (jailed|convicted|found guilty) (for|of|after) {_CRIME}",
    f"(in {{town}},|) a {{age}}-year-old {_JOB} who was (found guilty|convicted) of {_CRIME} is (free|missing|dead)",
    f"{{person}}, a {_JOB}, has been jailed for {{few}} years",
    f"a {_VICTIM} (has died|has escaped unhurt|has been seriously injured) on a road (near|in) {{city}}",
    f"{_VEHICLE} hit a {{age}}-year-old {_VICTIM} in {{town}}",
    f"(a man|{{few}} people) (has|have) been (hurt|injured|killed) (in a crash with|after being hit by) {_VEHICLE}",
    f"{{club}} (are looking for|have signed|want) a {_ROLE}",
    f"{_ROLE} {{person}} (has|is said to have) (joined|left|moved to) {{rival}}",
    "{other} (leaves|left) {club} (for an undisclosed fee|for £{fewer}m|on a free transfer|on loan)",
    "{club} (are|go) top (after|thanks to) (a late winner|a hat-trick|two goals|a penalty|a header)",
    "{rival} have been beaten by {club} and (move out of|are in) the relegation zone",
    "{person} scored for {club} to (reach the semi-finals|end a losing run)",
    f"{_PRODUCT} (makers|factories) in {{country}} are to (cut|create) jobs",
    "{number} jobs (are|may) (to|) be (created|cut) at a (plant|factory) in {city}",
    f"(councillors|the council) in {{city}} (has|have) (approved|rejected|delayed) (a|plans for a) {_PROJECT}",
    f"plans for a {_PROJECT} (in {{town}} |)"
    f"have (caused|led to) (worries|concerns) about (traffic|wildlife|noise|cost)",
    "(despite|after) (concerns|worries) about (traffic|wildlife|noise|cost), work (begins|starts) in {month}",
    f"(nobody has|a man has|{{few}} people have) been (hurt|injured) in a fire at a {_SITE}",
    f"a {_SITE} fire in {{city}} was caused by (a cigarette|an electrical fault|a candle|arsonists|lightning)",
    f"a {_WALKER} (who was missing|from {{city}}) (has been found (dead|alive)|has been given up)",
    f"a missing {_WALKER} has been found {{few}} days after (a storm|the crash)",
    f"{_ARTIST} {{person}} has won a prize",
    f"a {_WORK} by {{person}} (has won £{{fewer}},000|can be seen in {{city}})",
    f"the prize for (the best|a) {_WORK} is £{{number}},000",
    f"a {_JOB} (plans|is) to (cycle|swim|walk|canoe|run) {{number}} miles",
    "{person} is to (cycle|swim|walk|canoe|run) from {city} to {town} to raise money",
    f"a charity for {_CAUSE} (has raised|is to raise) £{{number}},000",
    "{a_creature} (that escaped from a zoo|that was stolen|that got lost in a storm) is still missing",
    f"{{a_creature}} has been (caught|killed|seen) (at|in) a (living room|{_SITE})",
    "{few} days after it (was stolen|escaped|got lost), {a_creature} has been found in {town}",
]
_TOPICS = [
    Topic(  # a shop opens
        lead=[
            "(there was a queue outside|balloons hung over|music came from) a (new|) door in {street} on {day}",
            "{person} had (dreamed|thought) of this (day|moment) since {recent}",
        ],
        body=[
            "(the people of {city}|families from {city}|those in {city}) can now (buy|find|choose from) {goods}",
            "{person}, {age}, (used to work as|was for many years|gave up a job as) {job}",
            "(it has|there are) {count} (people|staff|workers) (on its books|in the team|behind the counter)",
        ],
        spare=[
            '"(I am|we are) (so|very) (happy|proud)," said {other}',
            "(prices start at|the cheapest costs|customers can expect to pay) £{fewer}",
            "the building (had been|was) empty (since {year}|for {few} years)",
        ],
        gist=[
            "A former {job_gist} has opened a {goods_gist} (shop|store) in {city}.",
            "A {goods_gist} shop with {count} staff has opened in {city}.",
        ],
        facts={
            "goods": [
                ("bread and cakes", "bakery"),
                ("novels and poems", "book"),
                ("boots and sandals", "shoe"),
                ("roses and lilies", "flower"),
                ("puzzles and dolls", "toy"),
                ("pianos and drums", "music"),
            ],
            "job": [
                ("a teacher", "teacher"),
                ("a nurse", "nurse"),
                ("a police officer", "police officer"),
                ("a driver", "driver"),
                ("a lawyer", "lawyer"),
                ("a doctor", "doctor"),
            ],
        },
    ),
    Topic(  # weather
        lead=[
            "(people|residents) in {city} (woke up to a surprise|looked out of the window twice) on {day}",
            "it has been (a long|a strange|quite a) week in {country}",
        ],
        body=[
            "(streets|roads|fields) (around|near|in) {city} {weather}",
            "the (last|previous) time that {country} saw as much was in {year}",
            "forecasters (say|think|believe) that it will (last|go on) (until {day}|for {count} days)",
        ],
        spare=[
            '"I have (never|not) seen anything like it," said {person}',
            "(schools|shops|offices) in {town} (stayed open|opened late)",
            "drivers (were|have been) (asked|told|warned) to (take care|drive slowly|stay at home)",
        ],
        gist=[
            "{city} has (had|seen) the {weather_gist} in {country} since {year}.",
            "The {weather_gist} since {year} (is|are) (expected|likely) to last (in {city}|) for (days|some time).",
        ],
        facts={
            "weather": [
                ("(lay|were) under (deep|thick) snow", "heaviest snow"),
                ("(were|stood) under water after the rain", "worst floods"),
                ("(were|lay) full of trees that the wind brought down", "strongest winds"),
                ("(were|lay) dry and dusty in the sun", "longest dry spell"),
                ("could not be seen for the fog", "thickest fog"),
            ],
        },
    ),
    Topic(  # science
        lead=[
            "(it began|the story began) with (a walk|a bet|a question from a child) in {month}",
            "after {few} (years of work|long years), the answer came on a {day}",
        ],
        body=[
            "(the team|a team|researchers) at the University of {city} (followed|counted|watched) {number} {creature}s",
            "the animals {finding}",
            "the study was (led|run) by (Dr|Professor) {person}",
        ],
        spare=[
            "(more|further) (tests|studies) are (planned|needed), the (authors|researchers) say",
            "the work was paid for by {company}",
            '"it was not what (we|anyone) expected," said {other}',
        ],
        gist=[
            "(Scientists|Researchers) in {city} have (found|shown) that {creature}s {finding_gist}.",
            "{creature}s {finding_gist}, (according to a study|a study has found|scientists in {city} say).",
        ],
        facts={
            "finding": [
                ("knew the faces of people they had met", "can (recognise|tell) faces"),
                ("slept for only {few} hours in a day", "need (little|hardly any) sleep"),
                ("chose the same partner every spring", "stay with one partner"),
                ("could tell the number of dots on a card", "can count"),
                ("came back when they heard a song", "like music"),
                ("grew to twice the size of their parents", "are getting bigger"),
            ],
        },
    ),
    Topic(  # elections, appointments
        lead=[
            "(the hall was silent|there was applause|nobody moved) when the (result|name) was read out on {day}",
            "{person} (did not sleep|hardly slept|was up) all night",
        ],
        body=[
            "{other} (had held|had) the (post|job) since {recent}",
            "the (vote|choice|decision) (was|came out) {number} to {fewer} for {person}",
            "(members|those) of the {post} in {city} (met|came together) (at|in) {place}",
        ],
        spare=[
            '"there is (much|a lot) to do," said {surname}',
            "{person}, {age}, (was born|grew up|went to school) in {country}",
            "(the work starts|the first meeting is) in {month}",
        ],
        gist=[
            "{person} has been (chosen|named|elected) as the new head of the {city} {post_gist}.",
            "{person} (takes|will take) over from {other} (as head of|at) the {city} {post_gist}.",
        ],
        facts={
            "post": [
                ("board that runs the trains", "railway"),
                ("group that keeps the trees", "forest (office|service)"),
                ("team behind the concerts", "music festival"),
                ("committee for the old walls", "heritage (group|fund)"),
                ("society of cooks", "food (society|club)"),
            ],
        },
    ),
    Topic(  # a ship, a bridge, a railway
        lead=[
            "(crowds|thousands|many people) (came|had come) to (see|watch) (it|the first day) on {day}",
            "(the first|early) drawings were made in {year}",
        ],
        body=[
            "{company} (needed|took|spent) {count} years to (build|finish) the {structure}",
            "the (bill|final bill|cost) was £{number} (million|m)",
            "it (links|joins|connects) {city} (with|to|and) {town}",
        ],
        spare=[
            "{person} (cut the ribbon|gave a speech|was the first on board)",
            "(some|a few) (neighbours|residents) had (complained|written letters) about the noise",
            "{number} trees (were|have been) planted (beside it|along the way)",
        ],
        gist=[
            "A {structure_gist} between {city} and {town} has (opened|been opened) after {count} years of work.",
            "A £{number}m {structure_gist} (has opened|is open) between {city} and {town}.",
        ],
        facts={
            "structure": [
                ("rails and stations", "railway line"),
                ("tunnel for cars", "road tunnel"),
                ("path for cyclists", "cycle (path|route)"),
                ("boats and piers", "ferry service"),
                ("masts and cables", "power line"),
            ],
        },
    ),
    Topic(  # a concert, an exhibition
        lead=[
            "(lights went|the lights will go) up in {place} at {count} o'clock on {day}",
            "tickets (sold|were sold) in {few} (hours|minutes)",
        ],
        body=[
            "(the show|the evening|the programme) is (about|built around) {matter}",
            "{person} (wrote|planned|prepared) it (in|while living in) {country}",
            "(it can be seen|it runs|visitors can come) in {city} until {month}",
        ],
        spare=[
            '"(come|do come) with (open eyes|your children)," said {other}',
            "(critics|the newspapers) (were|have been) (kind|not so kind)",
            "the (last|first) one, in {year}, drew {number},000 people",
        ],
        gist=[
            "{matter_gist} by {person} (has opened|can be seen) in {city}.",
            "{person} has brought {matter_gist} to {city}.",
        ],
        facts={
            "matter": [
                ("drawings of the sea", "(an exhibition|a show) of pictures"),
                ("songs for the piano", "a (piano|) concert"),
                ("the life of a {quality} king", "a play about a king"),
                ("stones from {year}", "an exhibition of old stones"),
                ("dancers and a {creature}", "a (ballet|dance show)"),
                ("jokes about {country}", "a comedy"),
            ],
        },
    ),
    Topic(  # records
        lead=[
            "{person} (measured it|counted) (twice|again and again) to be sure",
            "(neighbours|friends|judges) (could not|did not) believe (it|their eyes) on {day}",
        ],
        body=[
            "(the|this) {crop} in the garden (in|near) {city} weighed {number} kilograms",
            "the (old|previous|former) (best|record), by {other} from {country}, was {fewer} kilograms",
            "{person}, {age}, has grown vegetables (for {count} years|since {recent})",
        ],
        spare=[
            "it will be (eaten|cooked|made into soup) (by the family|at a party in {town})",
            '"(the secret|my secret) is (water|music|patience)," said {surname}',
            "a photograph of it (hangs|will hang) in {place}",
        ],
        gist=[
            "A {number}-kilogram {crop_gist} grown in {city} has broken a record.",
            "A gardener (from|in) {city} has grown the (world's|) heaviest {crop_gist}.",
        ],
        facts={
            "crop": [
                ("orange giant", "pumpkin"),
                ("long green fruit", "cucumber"),
                ("white head", "cauliflower"),
                ("red root", "beetroot"),
                ("brown tuber", "potato"),
            ]
        },
    ),
    Topic(  # a hotel or house is sold
        lead=[
            "(the gates of|the lights in) {place} (have been|were) (closed|dark) for {few} years",
            "(a letter|a phone call) (came|arrived) on {day}",
        ],
        body=[
            "{company} (paid|gave|signed for) £{number} million",
            "the building near {city} {use}",
            "(the family of|the seller,) {person} had (owned|held|lived in) it since {year}",
        ],
        spare=[
            "(work|building work) (begins|starts) in {month}",
            "{count} rooms have (views|a view) of the {thing}",
            '"it (is|was) (time|hard) to say goodbye," said {other}',
        ],
        gist=[
            "A {use_gist} near {city} has been (bought|sold) for £{number}m.",
            "{company} has bought a {use_gist} near {city}.",
        ],
        facts={
            "use": [
                ("took in guests (by the night|for the night)", "hotel"),
                ("held (monks and their|old) prayers", "monastery"),
                ("kept prisoners behind its walls", "(former|) prison"),
                ("ground corn for the region", "mill"),
                ("was home to a count", "castle"),
            ]
        },
    ),
]
