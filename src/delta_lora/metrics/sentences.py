"""Sentence splitting for ROUGE-Lsum without a download."""

from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

# Abbreviations of news English. The trained English model of Punkt, a download, knows some hundred more, from
# American newspaper text.
_ABBREVIATIONS = """
mr mrs ms dr prof rev hon st sgt sr jr gen col lt capt maj cpl cmdr adm gov sen rep pres det insp supt
jan feb mar apr jun jul aug sept sep oct nov dec tue tues thu thurs co corp inc ltd plc bros
dept univ assn est vs etc e.g i.e a.m p.m u.s u.k u.n d.c ph.d approx vol ft lb oz sq mt ave blvd rd"""


def _parameters() -> PunktParameters:
    parameters = PunktParameters()
    parameters.abbrev_types = set(_ABBREVIATIONS.split())
    return parameters


_splitter = PunktSentenceTokenizer(_parameters())


def split_sentences(text: str) -> list[str]:
    """Sentences of ``text`` by the Punkt algorithm (Kiss and Strunk 2006) with a fixed list of abbreviations."""
    return _splitter.tokenize(text.strip())
