"""The tokenizer of coco-caption: Stanford's PTBTokenizer, lower-cased, punctuation removed."""

import re
from collections.abc import Sequence

from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

from delta_lora.metrics.java import JavaProgram, coco_file, unexpected

_JAR = "tokenizer/stanford-corenlp-3.4.1.jar"
_CHECK = "zqcheckzq"  # the first line, which comes back as it is
_COUNTED = re.compile(r"^PTBTokenizer tokenized (\d+) tokens at", re.MULTILINE)
_MAIN = "edu.stanford.nlp.process.PTBTokenizer"


def ptb_tokenize(sentences: Sequence[str]) -> list[str]:
    """Tokens of ``sentences`` (each one line) as coco-caption's ``PTBTokenizer`` gives them, joined by spaces.

    All sentences go through one process in the order given, as in the original: the tokenizer looks across
    line ends at abbreviations, so the order can matter, and no check can stand between two sentences: one stands
    before the first, and the tokens that come back are as many as the tokenizer says it made.

    Raises:
        UserError: the runtime or the jar is missing, the tokenizer failed, or its answers are not those to what was
            asked.
    """
    with JavaProgram("PTBTokenizer", ["-cp", str(coco_file(_JAR)), _MAIN, "-preserveLines", "-lowerCase"]) as java:
        check, *lines = java.communicate("\n".join([_CHECK, *sentences]))
        if check != _CHECK:
            raise unexpected(java.name, "lines that belong to something else", check)
        counted = _COUNTED.search(java.told)
        tokens = 1 + sum(len(line.split(" ")) for line in lines if line) + len(sentences)  # a line end is a token, too
        if counted is None or int(counted[1]) != tokens:
            said = counted[1] if counted else "an unknown number of"
            raise unexpected(java.name, f"{tokens} tokens of {said}", lines[-1])
    return [" ".join(token for token in line.rstrip().split(" ") if token not in PUNCTUATIONS) for line in lines]
