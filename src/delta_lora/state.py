"""The state of a Delta-LoRA run: checked against a model, and as a file."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from delta_lora.anchor import fingerprint
from delta_lora.errors import UserError
from delta_lora.forms import Form
from delta_lora.layers import AdaptedLayer, fold_obstacle
from delta_lora.updates import LowRankUpdate

NOTE = "delta_lora_not_exported.txt"  # beside an adapter that is not the whole model


@dataclass(frozen=True)
class Settings:
    """λ = ``update_ratio``, K = ``start_steps``, and whether Algorithm 1 runs as printed (``literal``).

    Raises:
        UserError: λ is not a finite number ≥ 0, K no integer ≥ 0, or ``literal`` neither true nor false.
    """

    update_ratio: float
    start_steps: int
    literal: bool = False

    def __post_init__(self) -> None:
        ratio, start = self.update_ratio, self.start_steps
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 <= ratio < math.inf:
            raise UserError(f"update_ratio must be a finite number ≥ 0, got {ratio!r}")
        if isinstance(start, bool) or not isinstance(start, int) or start < 0:
            raise UserError(f"start_steps must be an integer ≥ 0, got {start!r}")
        if not isinstance(self.literal, bool):
            raise UserError(f"literal must be true or false, got {self.literal!r}")

    def plain_lora(self, steps: int) -> str | None:
        """Why a run of ``steps`` optimizer steps is plain LoRA, to go on from its subject; None where it is not."""
        first = self.start_steps + 2
        if self.update_ratio == 0 or steps >= first:
            return None
        return (
            f"is plain LoRA: W first moves with step {first} (start_steps + 2), and there are {steps}; train longer or "
            "give a smaller start_steps"
        )

    def as_dict(self) -> dict[str, Any]:
        """By name, as a state has them."""
        return asdict(self)


def entry(layer: AdaptedLayer, form: Form | None, offsets: Mapping[str, LowRankUpdate]) -> dict[str, Any]:
    """What a state holds of one layer; tensors are on the CPU."""
    found: dict[str, Any] = {"shape": layer.shape, "scale": layer.scale, **(form.state() if form else {})}
    if (offset := offsets.get(layer.name)) is not None:
        found |= {"offset_A": offset.a.cpu().clone(), "offset_B": offset.b.cpu().clone()}
        found.setdefault("base", [fingerprint(layer.weight)] * 2)
    return found


def offsets(state: Mapping[str, Any]) -> dict[str, LowRankUpdate]:
    """How far each base weight was from the checkpoint's when the run began, where it was."""
    entries = state["layers"].items()
    return {name: LowRankUpdate(e["offset_B"], e["offset_A"]) for name, e in entries if "offset_A" in e}


def check(state: Mapping[str, Any], settings: Settings, layers: Sequence[AdaptedLayer]) -> None:
    """Refuse a state that a run with these settings on these layers cannot continue.

    Raises:
        UserError: no state at all, other settings, or another model.
    """
    try:
        theirs = {name: (list(entry["shape"]), entry["scale"]) for name, entry in state["layers"].items()}
        ours = settings.as_dict()
        differing = [name for name in ours if state[name] != ours[name]]
        state["steps"]
    except (KeyError, TypeError, AttributeError):
        raise UserError("this is no state of DeltaLora: give what state_dict() returned") from None
    for name in differing:
        raise UserError(f"the state was made with {name}={state[name]}, this DeltaLora has {ours[name]}: use the same")
    here = {layer.name: (layer.shape, layer.scale) for layer in layers}
    for name in sorted(here.keys() | theirs.keys()):
        if here.get(name) != theirs.get(name):
            raise UserError(
                f"the state is of another model: {name} has [d, r, c] and scale"
                f" {here.get(name, 'no adapter')}"
                f" here, {theirs.get(name, 'no adapter')} in the state"
            )


def base_has_moved(layer: AdaptedLayer, entry: Mapping[str, Any]) -> bool:
    """Whether W is the moved one that was there with this state (True) or W_0 (False).

    A branch moves nothing: its state goes with any base (but for one that PiSSA and its like have rewritten), and a
    base that cannot be folded with any state.

    Raises:
        UserError: W is neither.
    """
    if "base" not in entry or fold_obstacle(layer) is not None:
        return False
    found = fingerprint(layer.weight)
    if found not in entry["base"]:
        raise UserError(
            f"the base weight of {layer.name} is not the one this state was made on: load the same base"
            " model, in"
            " the same dtype"
        )
    before, after = entry["base"]
    return bool(found == after != before)


def write(state: Mapping[str, Any], path: Path) -> None:
    """Write ``state_dict()`` as one safetensors file, by rename: a reader sees all of it or nothing.

    Raises:
        UserError: the folder does not exist.
    """
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path.name}: {path.parent} is no folder; make it, or check output_dir")
    header, tensors = _parts(state)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(save(tensors, metadata={"delta_lora": header}))
    unfinished.replace(path)


def read(path: Path) -> dict[str, Any]:
    """Read what :func:`write` wrote.

    Raises:
        UserError: some other file.
    """
    with safe_open(path, framework="pt") as file:
        header = (file.metadata() or {}).get("delta_lora")
        if header is None:
            raise UserError(f"{path} is no Delta-LoRA state: give a file that DeltaLoraCallback wrote")
        state: dict[str, Any] = json.loads(header)
        for key in file.keys():  # noqa: SIM118 (not a dictionary)
            name, _, kind = key.rpartition(".")
            state["layers"][name][kind] = file.get_tensor(key)
    return state


def digest(state: Mapping[str, Any]) -> str:
    """SHA-256 of a state's content."""
    header, tensors = _parts(state)
    return hashlib.sha256(save(tensors, metadata={"delta_lora": header})).hexdigest()


def _parts(state: Mapping[str, Any]) -> tuple[str, dict[str, Tensor]]:
    """A state as JSON text and named tensors."""
    tensors: dict[str, Tensor] = {}
    described: dict[str, Any] = {}
    for name, entry in state["layers"].items():
        described[name] = {key: value for key, value in entry.items() if not isinstance(value, Tensor)}
        tensors |= {f"{name}.{key}": value for key, value in entry.items() if isinstance(value, Tensor)}
    return json.dumps({**state, "layers": described}, sort_keys=True), tensors
