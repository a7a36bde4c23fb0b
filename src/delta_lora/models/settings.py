"""What is set of a model: the ``model`` configuration group."""

from collections.abc import Mapping
from typing import Any, Literal

from delta_lora.errors import UserError
from delta_lora.settings import Count, Settings, Texts, setting

Kind = Literal["causal", "seq2seq", "classification"]


class PackageSettings(Settings):
    """A package on the Python package index that carries a model's weights, in safetensors or as a GGUF file."""

    name: str = setting("the package's", in_key=False)
    version: str = setting("its version", in_key=False)
    size: Count = setting("of the package", unit="bytes", in_key=False)
    licence: str = setting("of the weights", in_key=False)
    folder: str = setting("in the package", in_key=False)
    sha256: dict[str, str] = setting("of each file there that is used", min_length=1)


class ModelSettings(Settings):
    """The pretrained model of a run, and which of its modules a method means."""

    name: str = setting("what tables and records call it")
    kind: Kind = setting("what it is loaded as")
    path: str | None = setting("a hub name, or a folder with a checkpoint; null: from the package, or made here")
    revision: str | None = setting("of the hub's repository; null with a folder")
    package: PackageSettings | None = setting("what carries its weights where path is null", default=None)
    target_modules: Texts = setting("last parts of the adapted modules' names: query and value", min_length=1)
    embedding_modules: Texts = setting("modules that ft-frozen-emb freezes")
    head_modules: Texts = setting("modules of a classification head: trained by every method, counted apart")
    hidden_size: Count = setting("width of the model, which bounds the rank")
    dropouts: dict[str, str] = setting(
        "its configuration's name for each of task.train.dropouts (hidden: resid_pdrop)", default={}
    )


def made_here(model: Any) -> bool:
    """Whether the project makes the model itself; ``model``: :class:`ModelSettings`, or the configuration group."""
    return model.path is None and getattr(model, "package", None) is None


def dropout_fields(model: Any, probabilities: Mapping[str, float]) -> dict[str, float]:
    """A task's dropout probabilities by the names that the model's Transformers configuration has for them.

    Args:
        model: :class:`ModelSettings`, or the ``model`` configuration group.
        probabilities: ``task.train.dropouts``; 0 is left out where the model has no such dropout.

    Raises:
        UserError: the model has no name for one that is not 0.
    """
    names = getattr(model, "dropouts", {})
    for name, probability in probabilities.items():
        if probability and name not in names:
            known = f"has names for {', '.join(names)}" if names else "is empty"
            raise UserError(
                f"task.train.dropouts.{name}={probability}, and model={model.name} has no such dropout: model.dropouts "
                f"{known}; name its field there, or give 0"
            )
    return {names[name]: probability for name, probability in probabilities.items() if name in names}
