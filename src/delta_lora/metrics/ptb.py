"""The tokenizer of coco-caption: Stanford's PTBTokenizer, lower-cased, punctuation removed."""

from collections.abc import Sequence

from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

from delta_lora.errors import UserError
from delta_lora.metrics.java import JavaProgram, coco_file

_JAR = "tokenizer/stanford-corenlp-3.4.1.jar"
_MAIN = "edu.stanford.nlp.process.PTBTokenizer"


def ptb_tokenize(sentences: Sequence[str]) -> list[str]:
    """Tokens of ``sentences`` (each one line) as coco-caption's ``PTBTokenizer`` gives them, joined by spaces.

    All sentences go through one process in the order given, as in the original: the tokenizer looks across
    line ends at abbreviations, so the order can matter.

    Raises:
        UserError: the runtime or the jar is missing, or the tokenizer failed.
    """
    with JavaProgram("PTBTokenizer", ["-cp", str(coco_file(_JAR)), _MAIN, "-preserveLines", "-lowerCase"]) as java:
        lines = java.communicate("\n".join(sentences))
    if len(lines) < len(sentences):
        raise UserError(f"PTBTokenizer gave {len(lines)} lines for {len(sentences)} sentences; please report the input")
    return [
        " ".join(token for token in line.rstrip().split(" ") if token not in PUNCTUATIONS)
        for line in lines[: len(sentences)]
    ]
