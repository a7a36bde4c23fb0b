"""Typed settings: each with what it is, its range, its unit, and whether it is in a run's key.

A group of settings is a pydantic model; what does not fit it is a :class:`UserError` of one line, whose words come from
the field itself. Nothing here loads torch or Transformers.
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, ConfigDict, Field, Strict, TypeAdapter, ValidationError

from delta_lora.errors import UserError

_JSON = TypeAdapter(Any)
LARGEST = 2**31 - 1
Count = Annotated[int, Field(ge=1, le=LARGEST)]  # a whole number of at least 1 that also fits 32 bits
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Texts = Annotated[tuple[str, ...], Strict(False)]  # a list in YAML
Chosen = TypeVar("Chosen", bound="Settings")


class Settings(BaseModel):
    """A group of settings: no other than these, each of its own type (2 is no text, 1 is not true), none infinite.

    A subclass adds fields, best made with :func:`setting`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def setting(says: str, *, unit: str | None = None, in_key: bool = True, **rules: Any) -> Any:
    """A field of :class:`Settings`.

    Args:
        says: what it is.
        unit: of its number: "steps", "tokens", "seconds", …
        in_key: False for what cannot change a run's numbers, or reaches them by another way that is in the key.
        rules: as ``pydantic.Field`` has them: ``default`` (without one it must be given), ``alias``, ``gt``, ``le``, …
    """
    return Field(description=says, json_schema_extra={"unit": unit, "in_key": in_key}, **rules)


def key_part(settings: Settings) -> dict[str, Any]:
    """The settings that are in a run's key, without those at their default: a new setting changes no finished run's."""
    found: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        extra = field.json_schema_extra
        value = getattr(settings, name)
        outside = isinstance(extra, dict) and extra.get("in_key") is False
        if not outside and (field.is_required() or value != field.get_default(call_default_factory=True)):
            found[name] = key_part(value) if isinstance(value, Settings) else _JSON.dump_python(value, mode="json")
    return found


def checked(kind: type[Chosen], given: Any, place: str) -> Chosen:
    """The settings that a group of a configuration gives.

    Args:
        kind: their class.
        given: the group, composed or plain, or such settings themselves.
        place: the group's name in the configuration, as ``task``; empty for the whole.

    Raises:
        UserError: the first setting that is unknown, missing, or not of its type or in its range.
    """
    if isinstance(given, DictConfig):
        given = OmegaConf.to_container(given, resolve=True)
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        unknown = [
            found for found in errors if found["type"] == "extra_forbidden"
        ]  # what a missing one may be meant by
        raise UserError(line(kind, (unknown or errors)[0], given, place)) from None


def line(kind: type[Settings], error: Mapping[str, Any], given: Any, place: str) -> str:
    """What is wrong with one setting: its name, what is allowed, what was given."""
    parts, node, value = located(schema(kind), error["loc"], given)
    name = ".".join([*([place] if place else []), *parts])
    if error["type"] in ("extra_forbidden", "invalid_key"):
        group = name.rpartition(".")[0]
        there = ", ".join(sorted(node.get("properties", {})))
        return f"there is no setting {name}; {group or 'the configuration'} has {there}"
    if error["type"] in ("missing", "union_tag_not_found"):
        return f"the setting {name} is missing; it cannot be left out"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if value == "???":
        return f"the setting {name} has no value; give {name}=…, {allowed(node)}"
    return f"{name or 'the configuration'} must be {allowed(node)}, got {value!r:.80}"


def located(root: dict[str, Any], loc: tuple[int | str, ...], given: Any) -> tuple[list[str], dict[str, Any], Any]:
    """Where an error is: the setting's name in parts, its schema (of an unknown one the group's), and its value."""
    parts: list[str] = []
    node, value = resolved(root, root), given
    for part in loc:
        if "discriminator" in node and part in node["discriminator"]["mapping"]:
            node = resolved(root, {"$ref": node["discriminator"]["mapping"][part]})
            continue
        inner = node.get("properties", {}).get(part, node.get("additionalProperties"))
        if node.get("type") == "array" or part == "[key]":
            break
        parts.append(str(part))
        value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(inner, dict):
            node = resolved(root, inner)
    if "discriminator" in node:  # which of several groups it is does not fit, or is not there
        tag = node["discriminator"]["propertyName"]
        parts, value = [*parts, tag], value.get(tag) if isinstance(value, Mapping) else value
        node = {"enum": list(node["discriminator"]["mapping"])}
    return parts, node, value


def resolved(root: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """A part of a schema with what it refers to; of a group or null, the group."""
    if "$ref" in node:
        return {**root["$defs"][node["$ref"].rpartition("/")[2]]}
    groups = [option for option in node.get("anyOf", []) if "$ref" in option]
    return {**resolved(root, groups[0]), "nullable": True} if groups else node


@cache
def schema(kind: type[Settings]) -> dict[str, Any]:
    """The JSON schema of a class of settings."""
    return kind.model_json_schema()


def allowed(node: dict[str, Any]) -> str:
    """What a setting may be, in the words of an error message."""
    if "anyOf" in node:
        return " or ".join(allowed(option) for option in node["anyOf"])
    if "enum" in node or "const" in node:
        *others, last = node.get("enum", [node.get("const")])
        return f"{', '.join(others)} or {last}" if others else str(last)
    kind = node.get("type")
    if kind == "array":
        items = allowed(node.get("items", {}))
        size = f" (at least {node['minItems']})" if "minItems" in node else ""
        return f"a list of texts{size}" if items == "text" else f"a list{size}, each {items}"
    words = {"object": "a group of settings", "string": "text", "boolean": "true or false", "null": "null"}
    of = f" of {node['unit']}" if node.get("unit") else ""
    numbers = {"integer": f"a whole number{whole_range(node)}", "number": f"a number{of}{real_range(node)}"}
    found = (words | numbers).get(str(kind), "another value")
    return f"{found} or null" if node.get("nullable") else found


def whole_range(node: dict[str, Any]) -> str:
    """``≥ 1 (and < 2^31)``."""
    least, most = node.get("minimum"), node.get("maximum")
    power = "" if most is None else f"2^{int(most).bit_length()}" if most & (most + 1) == 0 else str(most + 1)
    return (f" ≥ {least:g}" if least is not None else "") + (f" (and < {power})" if power else "")


def real_range(node: dict[str, Any]) -> str:
    """``≥ 0``, ``> 0``, ``in [0, 1)``."""
    least, above = node.get("minimum"), node.get("exclusiveMinimum")
    most, below = node.get("maximum"), node.get("exclusiveMaximum")
    if most is None and below is None:
        return "" if least is None and above is None else f" > {above:g}" if least is None else f" ≥ {least:g}"
    left = "(-∞" if least is None and above is None else f"({above:g}" if least is None else f"[{least:g}"
    return f" in {left}, {below:g})" if most is None else f" in {left}, {most:g}]"
