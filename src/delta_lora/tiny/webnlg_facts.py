"""What the generated WebNLG-like data set is about: its categories, their properties, and the words that tell them.

The unseen categories share a few properties with seen ones, and have others of their own, which a model can only put
into words by the words of their names.
"""

# category → kind of subject, and property → (kind of object, verb phrases that tell it)
SEEN: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "Airport": (
        "airport",
        {
            "cityServed": ("city", "serves (the city of|) {o}"),
            "runwayLength": ("number", "has a runway length of {o}"),
            "operatingOrganisation": ("company", "is operated by {o}"),
            "location": ("country", "is (located|found) in {o}"),
        },
    ),
    "Astronaut": (
        "person",
        {
            "birthPlace": ("city", "was born in {o}"),
            "birthYear": ("year", "was born in (the year|) {o}"),
            "nationality": ("country", "(comes from|is from) {o}"),
            "mission": ("mission", "was a crew member of {o}"),
        },
    ),
    "Building": (
        "place",
        {
            "location": ("city", "is (located|found|) in {o}"),
            "architect": ("person", "was designed by (the architect|) {o}"),
            "floorCount": ("number", "has {o} floors"),
            "owner": ("company", "is owned by {o}"),
            "completionDate": ("year", "was completed in {o}"),
        },
    ),
    "City": (
        "city",
        {
            "country": ("country", "is (a city|) in {o}"),
            "leaderName": ("person", "is led by {o}"),
            "areaTotal": ("number", "has a total area of {o}"),
        },
    ),
    "ComicsCharacter": (
        "character",
        {
            "creator": ("person", "was created by {o}"),
            "alternativeName": ("character", "is (also known as|also called) {o}"),
            "firstYear": ("year", "(first appeared|was first seen) in {o}"),
        },
    ),
    "Food": (
        "dish",
        {
            "country": ("country", "(comes from|is a dish from) {o}"),
            "ingredient": ("ingredient", "(contains|is made with) {o}"),
            "creator": ("person", "was (created|invented) by {o}"),
        },
    ),
    "Monument": (
        "place",
        {
            "location": ("city", "(stands|is located) in {o}"),
            "designer": ("person", "was designed by {o}"),
            "established": ("year", "was established in {o}"),
            "material": ("material", "is made of {o}"),
        },
    ),
    "SportsTeam": (
        "team",
        {
            "ground": ("place", "(plays at|has its ground at) {o}"),
            "manager": ("person", "is managed by {o}"),
            "numberOfMembers": ("number", "has {o} members"),
            "league": ("league", "plays in the {o}"),
        },
    ),
    "University": (
        "university",
        {
            "city": ("city", "is (located|) in {o}"),
            "president": ("person", "(has the president|is led by president) {o}"),
            "established": ("year", "was (established|founded) in {o}"),
            "numberOfStudents": ("number", "has {o} students"),
        },
    ),
    "WrittenWork": (
        "book",
        {
            "author": ("person", "was written by {o}"),
            "country": ("country", "comes from {o}"),
            "numberOfPages": ("number", "has {o} pages"),
            "publisher": ("company", "(is|was) published by {o}"),
        },
    ),
}
UNSEEN: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "Artist": (
        "person",
        {
            "birthPlace": ("city", "was born in {o}"),
            "instrument": ("thing", "plays the {o}"),
            "recordLabel": ("company", "has the record label {o}"),
            "activeYear": ("year", "(was active in|has the active year) {o}"),
        },
    ),
    "Athlete": (
        "person",
        {
            "birthYear": ("year", "was born in {o}"),
            "club": ("team", "(plays for the club|has the club) {o}"),
            "coach": ("person", "(is coached by|has the coach) {o}"),
        },
    ),
    "CelestialBody": (
        "character",
        {
            "discoverer": ("person", "was discovered by {o}"),
            "orbitalPeriod": ("number", "has an orbital period of {o}"),
            "discoveryYear": ("year", "was discovered in {o}"),
        },
    ),
    "MeanOfTransportation": (
        "character",
        {
            "manufacturer": ("company", "(was made by the manufacturer|has the manufacturer) {o}"),
            "country": ("country", "comes from {o}"),
            "topSpeed": ("number", "has a top speed of {o}"),
            "designer": ("person", "was designed by {o}"),
        },
    ),
    "Politician": (
        "person",
        {
            "birthPlace": ("city", "was born in {o}"),
            "office": ("city", "(has an office in|holds office in) {o}"),
            "successor": ("person", "(was followed by the successor|has the successor) {o}"),
        },
    ),
}
