"""The class of a method by its name, and what its fields say of its settings."""

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any

from delta_lora.errors import UserError
from delta_lora.methods.base import Method


def method_class(config: Mapping[str, Any]) -> type[Method]:
    """The class that a ``method`` group names. A record from elsewhere may name any: only a method is taken.

    Raises:
        UserError: there is none of that name, or it is no method.
    """
    try:
        module, _, name = str(config["_target_"]).rpartition(".")
        found = getattr(import_module(module), name)
    except (ImportError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise UserError(
            f"method._target_={config.get('_target_')} is no class ({' '.join(str(error).split())})"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise UserError(f"method._target_={config['_target_']} is no method; give a subclass of Method")
    return found


def settings_with(config: Mapping[str, Any], fact: str) -> set[str]:
    """The settings of a ``method`` group whose fields carry this fact (:func:`delta_lora.methods.base.setting`)."""
    return {field.name for field in fields(method_class(config)) if field.metadata.get(fact)}


def without(config: Mapping[str, Any], fact: str) -> dict[str, Any]:
    """A ``method`` group without those settings."""
    dropped = settings_with(config, fact)
    return {name: value for name, value in config.items() if name not in dropped}
