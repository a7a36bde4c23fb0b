"""What is set of a model: the ``model`` configuration group."""

from collections.abc import Mapping
from typing import Any, Literal

from delta_lora.errors import UserError
from delta_lora.settings import Count, Settings, Texts, setting

Kind = Literal["causal", "seq2seq", "classification"]


class ModelSettings(Settings):
    """The pretrained model of a run, and which of its modules a method means."""

    name: str = setting("what tables and records call it")
    kind: Kind = setting("what it is loaded as")
    path: str | None = setting("a hub name, or a folder with a checkpoint; null: made by delta_lora.tiny.models")
    revision: str | None = setting("of the hub's repository; null with a folder")
    target_modules: Texts = setting("last parts of the adapted modules' names: query and value", min_length=1)
    embedding_modules: Texts = setting("modules that ft-frozen-emb freezes")
    head_modules: Texts = setting("modules of a classification head: trained by every method, counted apart")
    hidden_size: Count = setting("width of the model, which bounds the rank")
    dropouts: dict[str, str] = setting(
        "its configuration's name for each of task.train.dropouts (hidden: resid_pdrop)", default={}
    )


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
