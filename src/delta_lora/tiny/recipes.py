"""How each miniature model is pretrained, which names its checkpoint and is part of its runs' keys; loads no torch."""

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Recipe:
    """How a miniature model is pretrained. Its content names the checkpoint's folder."""

    name: str
    version: int  # raise it when the model's code or its pretraining text changes what comes out
    layers: int = 4
    width: int = 128
    heads: int = 4
    vocabulary: int = 2048
    positions: int = 512
    steps: int = 700
    batch_size: int = 8
    length: int = 96
    learning_rate: float = 3e-3
    bpe_documents: int = 5000
    seed: int = 0
    seconds: int = 40  # on two idle cores, for the message

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits of everything that decides the weights."""
        content = asdict(self)
        del content["seconds"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


_RECIPES = (
    Recipe("gpt2-tiny", version=7, batch_size=16, length=128),
    Recipe("bart-tiny", version=3, layers=2, steps=500, length=128, bpe_documents=20_000, seconds=30),
    Recipe("roberta-tiny", version=2, vocabulary=1536, steps=0, seconds=5),
)
MODELS: dict[str, Recipe] = {recipe.name: recipe for recipe in _RECIPES}
