"""What is set of a model: the ``model`` configuration group."""

from typing import Literal

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
