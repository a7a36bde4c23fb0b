"""A checkpoint's files, looked at before Transformers reads them: whole, safetensors only, no code of their own."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from delta_lora.errors import UserError

# What a model is loaded from; a repository may hold the same weights for other frameworks too.
FILES = (
    "config.json",
    "generation_config.json",
    "model*.safetensors*",
    "tokenizer*.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)

MEND = "replace it with the original"
PICKLES = "pytorch_model*.bin"


def check_checkpoint(folder: Path) -> None:
    """A checkpoint's files are whole, its weights are safetensors, and it asks for no code of its own.

    Raises:
        UserError: the first thing that is wrong with them.
    """
    settings = {
        path.name: read_object(path) for pattern in FILES for path in folder.glob(pattern) if path.suffix == ".json"
    }
    if "config.json" not in settings:
        raise UserError(f"{folder} has no config.json; give a folder that Transformers' save_pretrained wrote")
    for name, content in settings.items():
        if content.get("auto_map"):
            raise UserError(
                f"{folder / name} asks for code of its own (auto_map), which is never run here; use a model that "
                "Transformers itself has"
            )
    check_safetensors(folder, "model", PICKLES)
    for name, content in settings.items():
        shards = content.get("weight_map", {}) if name.endswith(".index.json") else {}
        for shard in set(shards.values() if isinstance(shards, dict) else [shards]):
            if not isinstance(shard, str) or "/" in shard or not (folder / shard).match("model*.safetensors"):
                raise UserError(f"{folder / name} names the weights {shard!r}; it can name model*.safetensors only")
    tokenizers = [name for name in ("tokenizer.json", "vocab.json") if name in settings]
    if not tokenizers:
        raise UserError(f"{folder} has no tokenizer.json and no vocab.json; save the model's tokenizer there")
    if "tokenizer.json" in tokenizers:
        try:
            Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises nothing more special
            reason = " ".join(str(error).split())
            raise UserError(f"{folder / 'tokenizer.json'} is no tokenizer ({reason}); {MEND}") from error


def check_safetensors(folder: Path, stem: str, pickles: str) -> None:
    """A folder has the weights ``<stem>*.safetensors``, and each file of them is whole.

    Raises:
        UserError: it has none (with the reason, where it has the same as a pickle), or one is damaged.
    """
    weights = sorted(folder.glob(f"{stem}*.safetensors"))
    if not weights:
        found = [path.name for path in sorted(folder.glob(pickles))]
        raise UserError(
            "only safetensors weights are loaded, since a pickle can run code when it is read: "
            f"{folder} has {'only ' + ', '.join(found) if found else 'none'}; where you trust that file, load it with "
            "Transformers or PEFT and write it again with save_pretrained(FOLDER), which gives safetensors"
        )
    for path in weights:
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is damaged or no safetensors file ({error}); {MEND}") from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object of a checkpoint's file.

    Raises:
        UserError: it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); {MEND}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object; {MEND}")
    return content
