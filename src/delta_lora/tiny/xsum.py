"""A generated data set in the layout of XSum: news stories and one sentence that says what happened.

As in XSum, the first sentence of a story is no summary of it: it sets the scene, and the facts that the summary needs,
partly in other words, stand in several sentences, in any order, between others that it does not need.
"""

import io
import random

import pyarrow
import pyarrow.parquet

from delta_lora.tiny.news import Topic, tell

TRAIN_PAIRS = 4000
VALIDATION_PAIRS = 40
TEST_PAIRS = 80


def files(rng: random.Random) -> dict[str, bytes]:
    """The three parquet files (``document``, ``summary``, ``id``), as path → content.

    A document has its sentences one a line, as XSum's have. No summary of one file is in another.
    """
    taken: set[str] = set()

    def pairs(count: int) -> list[tuple[str, str]]:
        made: dict[str, str] = {}
        while len(made) < count:
            story, summary = tell(rng.choice(_TOPICS), rng)
            if summary not in taken:
                made["\n".join(story)] = summary
        taken.update(made.values())
        return list(made.items())

    sizes = {"test": TEST_PAIRS, "validation": VALIDATION_PAIRS, "train": TRAIN_PAIRS}
    contents, first = {}, 10_000_000
    for split, size in sizes.items():
        contents[f"{split}-00000-of-00001.parquet"] = _parquet(pairs(size), first)
        first += size
    return contents


def _parquet(pairs: list[tuple[str, str]], first: int) -> bytes:
    """One file; ``id`` counts from ``first``. The settings that decide its bytes are all fixed."""
    columns = {
        "document": [document for document, _ in pairs],
        "summary": [summary for _, summary in pairs],
        "id": [str(first + index) for index in range(len(pairs))],
    }
    schema = pyarrow.schema([(name, pyarrow.string()) for name in columns])
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table(columns, schema=schema),
        buffer,
        row_group_size=len(pairs),
        version="2.6",
        data_page_version="1.0",
        use_dictionary=False,
        compression="none",
        write_statistics=False,
        store_schema=False,
    )
    return buffer.getvalue()


_TOPICS = [
    Topic(  # a court
        lead=[
            "{person} (looked at the floor|said nothing|stood still) as the (hearing|case) ended on {day}",
            "after a trial of {count} days(| and many questions), (everybody|all) stood up in court",
        ],
        body=[
            "the {age}-year-old {deed}, (prosecutors|lawyers) (said|told the court)",
            "the judge (chose|decided on|set) a (sentence|term) of {few} years",
            "(colleagues|those) who knew {surname} as {job} (were|said they were) shocked",
            "(officers|detectives) in {city} (found|had found|collected|had collected) the (evidence|clues)",
        ],
        spare=[
            "(an|the) appeal is (planned|possible)",
            "the case had been (delayed|put off) (twice|since {month})",
            '"this was (a sad|an unusual) story," said {other}',
        ],
        gist=[
            "A {job_gist} (from|in) {city} has been jailed for {few} years for {deed_gist}.",
            "A {city} {job_gist} (who was|) (convicted|found guilty) of {deed_gist} has been jailed for {few} years.",
        ],
        facts={
            "deed": [
                ("took money that belonged to (guests|customers)", "theft"),
                ("set light to a (barn|warehouse)", "arson"),
                ("signed with the names of others", "fraud"),
                ("held up a bank with a toy gun", "robbery"),
                ("climbed through windows at night", "burglary"),
                ("hid packets in a suitcase", "smuggling"),
            ],
            "job": [
                ("a man of the kitchen", "chef"),
                ("someone who cut hair", "barber"),
                ("the one with the stethoscope", "doctor"),
                ("the one who brought letters", "postman"),
                ("a player of the violin", "musician"),
                ("a maker of bread", "baker"),
            ],
        },
    ),
    Topic(  # a road accident
        lead=[
            "people in {street} heard (a bang|brakes|a shout) (shortly|just|) before {count} o'clock on {day}",
            "{street} (was quiet|stayed closed) (on|until) {day}",
        ],
        body=[
            "{person}, {age}, {mode} (when the collision happened|at the time)",
            "the (driver|person at the wheel) of {vehicle} was (not hurt|unhurt|questioned)",
            "(doctors|the hospital|the family) (said|confirmed) that {state}",
            "(police|officers) in {city} (asked|are asking) for (photographs|witnesses|information)",
        ],
        spare=[
            "(flowers|candles) (lay|were left) at the (kerb|corner)",
            '"(it is|this has been) a dangerous (corner|road)," said {other}',
            "(the lights|the signs) there (had been|were) (broken|out) for {few} days",
        ],
        gist=[
            "A {age}-year-old {mode_gist} {state_gist} after being hit by {vehicle_gist} in {city}.",
            "A {mode_gist} {state_gist} in a crash (with|involving) {vehicle_gist} in {city}.",
        ],
        facts={
            "mode": [
                ("was pushing the pedals uphill", "cyclist"),
                ("was (out|there) on foot", "pedestrian"),
                ("wore a helmet and sat on a scooter", "scooter rider"),
                ("was in the saddle of a {colour} horse", "horse rider"),
                ("was out for (a|the) morning run", "jogger"),
            ],
            "vehicle": [
                ("the number {number} to {town}", "a bus"),
                ("the {colour} one with {number} tonnes of gravel", "a lorry"),
                ("the small {colour} saloon", "a car"),
                ("the machine from a farm", "a tractor"),
                ("the vehicle with post", "a van"),
            ],
            "state": [
                ("nothing more could be done", "has died"),
                ("the injuries will take months to heal", "has been seriously injured"),
                ("it was no more than a bruise", "has escaped (almost|) unhurt"),
            ],
        },
    ),
    Topic(  # a transfer
        lead=[
            "{person} (smiled|waved) and (held up|showed) a {colour} shirt on {day}",
            "(a plane|a taxi) brought {person} to the (ground|stadium) on {day}",
        ],
        body=[
            "(manager|coach) {other} had (wanted|looked for) (somebody|a player) {role}",
            "the (papers|contract) (run|runs|will keep the player) at {club} for {few} (seasons|years)",
            "(supporters|fans) of {rival} (will|may) (miss|remember) the {young}-year-old",
            "(the two sides|the clubs) {fee}",
        ],
        spare=[
            "{surname} (has|already has) {number} (caps|games) for {country}",
            '"(it was|this is) an easy choice," (said the player|{surname} said)',
            "the (first|next) (match|game) is (on|next) {day}",
        ],
        gist=[
            "{club} have signed {role_gist} {person} from {rival} {fee_gist}.",
            "{role_gist} {person} has (joined|moved to) {club} from {rival} {fee_gist}.",
        ],
        facts={
            "role": [
                ("who (can|could) score", "striker"),
                ("for the space between the posts", "goalkeeper"),
                ("to stop the attacks of others", "defender"),
                ("to (pass|run) in the centre of the field", "midfielder"),
            ],
            "fee": [
                ("would not say what was paid", "for an undisclosed fee"),
                ("spoke of £{fewer} million", "for £{fewer}m"),
                ("agreed that nothing was to be paid", "on a free transfer"),
                ("agreed on a time until {month}", "on loan"),
            ],
        },
    ),
    Topic(  # a match
        lead=[
            "(rain fell|the sun shone|it was cold) on the (crowd|stands) of {number},000 (at|in) {place} on {day}",
            "(nobody|few) (left|went home) early on {day}",
        ],
        body=[
            "{person} (was the name on the scoresheet|did the damage) {goals}",
            "{rival} had {fewer} (shots|corners) (without luck|and no luck), and {club} (took|had) the points",
            "{table}, (after|with) {few} games to (play|go)",
        ],
        spare=[
            "a (penalty|red card) was (given|taken back) in minute {number}",
            '"we (were|have been) (brave|patient)," said (captain|manager) {other}',
            "the (two|teams) meet again in {month}",
        ],
        gist=[
            "{person} scored {goals_gist} as {club} beat {rival} to {table_gist}.",
            "{club} (beat|have beaten) {rival} to {table_gist} thanks to {goals_gist} (from|by) {person}.",
        ],
        facts={
            "goals": [
                ("once, just before the whistle", "a late winner"),
                ("three times in all", "a hat-trick"),
                ("(in|after) the first half and again in the second", "two goals"),
                ("from the spot", "a penalty"),
                ("with a header", "a header"),
            ],
            "table": [
                ("nobody stands above them now", "go top"),
                ("they are no longer in the bottom three", "move out of the relegation zone"),
                ("the last four of the cup await", "reach the semi-finals"),
                ("it ends {few} defeats in a row", "end a losing run"),
            ],
        },
    ),
    Topic(  # jobs
        lead=[
            "(staff|workers) were called (together|to the canteen) (at|before) {count} o'clock on {day}",
            "{other} (had worked there since|started there in) {recent}",
        ],
        body=[
            "{company} (told them|said) that {change}",
            "the (site|plant) in {city} (makes|has always made) {product}",
            "(the number|the figure) (given|named) (was|is) {number}",
            "(orders|sales) (in|from) {country} (were|are) the (reason|cause)",
        ],
        spare=[
            "(unions|the union) (asked|have asked) for talks",
            '"we (knew|heard) (something|it) on the radio," said {person}',
            "the (firm|business) was founded in {town}",
        ],
        gist=[
            "{number} jobs are to be {change_gist} at a {product_gist} (factory|plant) in {city}.",
            "{number} jobs at a {product_gist} (factory|plant) in {city} are to be {change_gist}.",
        ],
        facts={
            "change": [("some would have to leave by {month}", "cut"), ("more hands are needed by {month}", "created")],
            "product": [
                ("things to sit on", "furniture"),
                ("wings and rotors", "aircraft"),
                ("sweets in gold paper", "chocolate"),
                ("pills against pain", "drugs"),
                ("wheels and brakes", "car"),
                ("cups and plates", "pottery"),
            ],
        },
    ),
    Topic(  # plans before a council
        lead=[
            "(the meeting|the debate) (on {day}|) went on until (midnight|the lights went out)",
            "{number} (letters|emails) had (come in|arrived) before the meeting on {day}",
        ],
        body=[
            "{company} (wanted|had asked) to (put up|build) {project}",
            "councillors in {city} {vote}",
            "{reason}, (according to|said) {person}",
            "{place} (stands|has stood) on the (land|site) (until now|since {year})",
        ],
        spare=[
            "(some|many) (people|residents) of {street} (clapped|left the room)",
            "the (last|first) drawings were shown in {month}",
            '"(I|we) have lived here (since {recent}|for {few} years)," said {other}',
        ],
        gist=[
            "Plans for a {project_gist} in {city} have been {vote_gist} {reason_gist}.",
            "(Councillors in {city} have|{city} council has) {vote_gist} plans for a {project_gist} {reason_gist}.",
        ],
        facts={
            "project": [
                ("{number} storeys of offices", "tower block"),
                ("rows of blades that turn in the wind", "wind farm"),
                ("shelves and {number} tills", "supermarket"),
                ("a roof over {number},000 seats", "stadium"),
                ("a pool with {few} lanes", "swimming pool"),
                ("desks for {number} pupils", "school"),
            ],
            "vote": [
                ("raised their hands in favour, {number} to {fewer}", "approved"),
                ("said no, {number} to {fewer}", "rejected"),
                ("will look at it again in {month}", "delayed"),
            ],
            "reason": [
                ("cars (are|were) the (main|great) question", "(despite|after) (concerns|worries) about traffic"),
                (
                    "it (is|was) all about the (birds and trees|bats)",
                    "(despite|after) (concerns|worries) about wildlife",
                ),
                (
                    "(sleep|quiet nights) (mattered|mattered to them) most",
                    "(despite|after) (concerns|worries) about noise",
                ),
                ("money (was|is) the (main|great) question", "(despite|after) (concerns|worries) about (the|) cost"),
            ],
        },
    ),
    Topic(  # a fire
        lead=[
            "smoke could be seen (for|from) {few} miles (away|) on {day}",
            "(a call|the first call) came (at|before|after) {count} o'clock on {day}",
        ],
        body=[
            "{number} firefighters (from|sent by) {town} (were|stayed) there (all night|until {day})",
            "it (started|broke out|began) in {building} (in|near) {city}",
            "{hurt}",
            "(investigators|an investigator) (found|say they found) {cause}",
        ],
        spare=[
            "(the roof|a wall) (fell|came down) (before|after) (midnight|dawn)",
            '"(it was|the sky was) (all|) {colour}," said {person}',
            "(trains|buses) (were|had been) (late|stopped) (for {few} hours|)",
        ],
        gist=[
            "{hurt_gist} in a fire at a {building_gist} in {city} caused by {cause_gist}.",
            "{hurt_gist} in a {building_gist} fire in {city} that was caused by {cause_gist}.",
        ],
        facts={
            "building": [
                ("the rooms (for|of) guests", "hotel"),
                ("the (racks|halls) with parcels", "warehouse"),
                ("the stable with its hay", "farm"),
                ("the {few} classrooms", "school"),
                ("the altar and the tower", "church"),
                ("the wards with {fewer} beds", "hospital"),
            ],
            "hurt": [
                ("one man did not come out", "A man has died"),
                ("{few} were treated for (smoke|burns)", "{few} people have been (hurt|injured)"),
                ("everybody got out in time", "Nobody has been (hurt|injured)"),
            ],
            "cause": [
                ("the stub in an ashtray", "a cigarette"),
                ("a burnt wire behind a wall", "an electrical fault"),
                ("the wax on a table", "a candle"),
                ("petrol and a box of matches", "arsonists"),
                ("marks of a bolt from the sky", "lightning"),
            ],
        },
    ),
    Topic(  # a search
        lead=[
            "(a dog barked|a phone rang) (in the dark|before dawn) on {day}, and the (wait|waiting) was over",
            "{other} (kept the light on until|had kept the light on since) {day}",
        ],
        body=[
            "{person}, {age}, (had left|left|set out from) {city} {purpose}",
            "(helicopters|boats|dogs|volunteers) (from|of) {town} had (searched|been out) for {few} (days|nights)",
            "{end}",
        ],
        spare=[
            "the (weather|wind) (had been|was) (bad|calm) (since {day}|)",
            "the {colour} (coat|bag) (lay|was found) (near|at) {place}",
            '"(thank you|thanks) to (everyone|all)," said {other}',
        ],
        gist=[
            "A {purpose_gist} from {city} who was missing for {few} days {end_gist}.",
            "A missing {purpose_gist} from {city} {end_gist} after {few} days.",
        ],
        facts={
            "purpose": [
                ("to climb above the snow line", "mountaineer"),
                ("to catch (cod|trout)", "fisherman"),
                ("with a tent and a map", "hiker"),
                ("with (a sail|sails) and no engine", "sailor"),
                ("to photograph (owls|storms)", "photographer"),
            ],
            "end": [
                ("(the|a) body was (seen|brought) (on|ashore on) {day}", "has been found dead"),
                ("(cold but|tired but) smiling, (that was|such was) the (news|end)", "has been found alive"),
                ("(no trace|nothing) has been found, and no one looks any more", "has been given up"),
            ],
        },
    ),
    Topic(  # a prize
        lead=[
            "(the envelope|a letter) was opened (in|at) {place} on {day}",
            "{person} (thought it was|took it for) a joke (at first|when the phone rang)",
        ],
        body=[
            "the judges, (led|chaired) by {other}, (read|saw|heard) {number} (works|entries)",
            "{work} (is set in|plays in) {country} and {plot}",
            "the (cheque|sum) (is|was) for £{fewer},000",
            "{person}, {age}, lives in {city}",
        ],
        spare=[
            "(the others|the losers) (clapped|were kind)",
            "(it|the prize) (was first given in|has been given since) {year}",
            '"I will buy {a_creature}," said {surname}',
        ],
        gist=[
            "{city} {work_gist} {person} has won the £{fewer},000 prize for a {plot_gist}.",
            "A {plot_gist} by {city} {work_gist} {person} has won the £{fewer},000 prize.",
        ],
        facts={
            "work": [
                ("the {few}-hundred-page book", "writer"),
                ("the {number}-minute film", "film-maker"),
                ("the canvas, {few} metres wide,", "painter"),
                ("the piece for {few} (voices|violins)", "composer"),
            ],
            "plot": [
                ("makes people (laugh|smile)", "comedy"),
                ("ends with a (wedding|kiss)", "love story"),
                ("is (full of|about) ghosts", "horror story"),
                ("follows a detective", "crime story"),
                ("shows the life of a queen", "royal portrait"),
            ],
        },
    ),
    Topic(  # money for a good cause
        lead=[
            "{person} had (never|hardly ever) (trained|done sport) before {month}",
            "(the alarm|the clock) will ring (early|at {count} o'clock) for {person} on {day}",
        ],
        body=[
            "the (route|plan) is {number} miles (long|), (from|out of) {city} (and|) to {town}",
            "{mode}, (says|said) the {age}-year-old",
            "(the money|every penny) will (go|be given) to {cause}",
            "{job} (since|for most of the time since) {recent}, {surname} (has|took) {count} (days|weeks) off",
        ],
        spare=[
            "{other} (will|may) (come along|drive behind)",
            "(a firm|{company}) gave the (shoes|bag)",
            "(so far|already) £{fewer},000 has come in",
        ],
        gist=[
            "A {job_gist} is to {mode_gist} {number} miles from {city} to {town} to raise money for {cause_gist}.",
            "A {age}-year-old {job_gist} (plans|is) to {mode_gist} from {city} to {town} for {cause_gist}.",
        ],
        facts={
            "mode": [
                ("two wheels are enough", "cycle"),
                ("it will be wet (all|most) of the way", "swim"),
                ("one foot will follow the other", "walk"),
                ("(the|a) paddle will do the work", "canoe"),
                ("(sports shoes|trainers) and a stopwatch are ready", "run"),
            ],
            "cause": [
                ("those who cannot see", "the blind"),
                ("those without a roof", "the homeless"),
                ("the ones who fought in wars", "veterans"),
                ("those who lost their parents", "orphans"),
                ("research on the heart", "a heart charity"),
                ("cats and dogs without owners", "an animal shelter"),
            ],
            "job": [
                ("at the blackboard", "teacher"),
                ("behind the wheel of a bus", "bus driver"),
                ("on the wards", "nurse"),
                ("in a (blue|dark) uniform with handcuffs", "police officer"),
                ("with sheep and cows", "farmer"),
            ],
        },
    ),
    Topic(  # an animal
        lead=[
            "(the door|the gate|a window) (was|stood) open (in the morning|) on {day}",
            "{person} (dropped|put down) the (cup|newspaper) and (stared|took a second look) on {day}",
        ],
        body=[
            "the {creature} {origin}",
            "it was (sitting|asleep|seen) {where} (in|near) {city}",
            "that was {few} (days|nights) (after|from) (the start|the first call)",
            "{rescue}",
        ],
        spare=[
            "(it|the animal) (likes|is fond of) (nuts|bread|music)",
            '"(it was|he was) (quite|very) calm," said {other}',
            "{number} people had (called|written) (in|)",
        ],
        gist=[
            "{a_creature} that {origin_gist} has been {rescue_gist} {where_gist} in {city} after {few} days.",
            "{a_creature} has been {rescue_gist} {where_gist} in {city} {few} days after it {origin_gist}.",
        ],
        facts={
            "origin": [
                ("(was|is) on show in the cages of {town}", "escaped from a zoo"),
                ("(had|was to) come in a van of {company}", "was stolen"),
                ("(was|had been) blown off its way by the wind", "got lost in a storm"),
            ],
            "where": [
                ("among the rails", "at a railway station"),
                ("beside the altar", "in a church"),
                ("between the shelves", "in a supermarket"),
                ("under a desk, with pupils all around,", "in a school"),
                ("on the sofa", "in a living room"),
            ],
            "rescue": [
                ("a net (was enough|did it)", "caught"),
                ("a shot (was heard|was fired)", "killed"),
                ("(nobody|no one) could (hold|stop) it", "seen"),
            ],
        },
    ),
]
