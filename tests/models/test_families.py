"""Models of other families: one YAML's worth of settings each, from training to a stock PEFT adapter."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from helpers.models import DECODER, bart_config, gpt2_config, llama_config, roberta_config
from helpers.runs import SHORT
from omegaconf import DictConfig
from peft import PeftModel

from delta_lora.errors import UserError
from delta_lora.methods.peft_method import PeftMethod
from delta_lora.models.positions import positions
from delta_lora.suite.run.recipe import run_cell

# Family → kind of model, its configuration (vocabulary, then tokens), adapted modules, head, dropouts' names.
Family = tuple[str, Callable[..., Any], list[str], list[str], dict[str, str]]
BERT = {"hidden": "hidden_dropout_prob", "attention": "attention_probs_dropout_prob"}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
FAMILIES: dict[str, Family] = {
    "gpt2": ("causal", gpt2_config, ["q_proj", "v_proj"], [], {"hidden": "resid_pdrop"}),
    "llama": ("causal", llama_config, ["q_proj", "v_proj"], [], {"attention": "attention_dropout"}),
    "qwen2": (
        "causal",
        lambda **f: tf.Qwen2Config(**{**DECODER, **f}),
        ["q_proj", "v_proj"],
        [],
        {"attention": "attention_dropout"},
    ),
    "opt": (
        "causal",
        lambda **f: tf.OPTConfig(**{**DECODER, "ffn_dim": 48, "word_embed_proj_dim": 32, **f}),
        ["q_proj", "v_proj"],
        [],
        {"hidden": "dropout", "attention": "attention_dropout"},
    ),
    "bert": ("classification", lambda **f: tf.BertConfig(**{**DECODER, **f}), ["query", "value"], ["classifier"], BERT),
    "roberta": (
        "classification",
        lambda **f: roberta_config(num_labels=2, **f),
        ["query", "value"],
        ["classifier"],
        BERT,
    ),
    "deberta-v2": (
        "classification",
        lambda **f: tf.DebertaV2Config(**{**DECODER, "relative_attention": True, "position_biased_input": False, **f}),
        ["query_proj", "value_proj"],
        ["pooler", "classifier"],
        BERT,
    ),
    "electra": (
        "classification",
        lambda **f: tf.ElectraConfig(**{**DECODER, "embedding_size": 16, **f}),
        ["query", "value"],
        ["classifier"],
        BERT,
    ),
    "bart": ("seq2seq", bart_config, ["q_proj", "v_proj"], [], {"hidden": "dropout"}),
    "t5": ("seq2seq", lambda **f: tf.T5Config(**{**T5, **f}), ["q", "v"], [], {"hidden": "dropout_rate"}),
}
TASKS = {"causal": "e2e", "classification": "glue/rte", "seq2seq": "xsum"}
STOCK = {
    "causal": tf.AutoModelForCausalLM,
    "classification": tf.AutoModelForSequenceClassification,
    "seq2seq": tf.AutoModelForSeq2SeqLM,
}


def words() -> tf.PreTrainedTokenizerFast:
    """A tokenizer with the marks of BERT's, segments, and no end-of-text token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    marks = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "the", "is", "a", "of", "in"]
    plain = Tokenizer(models.WordLevel({mark: i for i, mark in enumerate(marks)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    known = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return tf.PreTrainedTokenizerFast(tokenizer_object=plain, model_input_names=names, **known)


def checkpoint(family: str, folder: Path, generator: Path, **fields: Any) -> Path:
    """A stock checkpoint with random weights: BERT's tokenizer for a classifier, the small GPT-2's for the others."""
    kind, config, *_ = FAMILIES[family]
    tokenizer = words() if kind == "classification" else tf.AutoTokenizer.from_pretrained(generator)
    tokenizer.save_pretrained(folder)
    tokens = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    torch.manual_seed(0)
    size = {"vocab_size": len(tokenizer) + 3, "max_position_embeddings": 512}  # more rows than tokens, as T5 has
    bare = {**STOCK, "classification": tf.AutoModel}[kind]  # an encoder comes without the head of a task
    model = bare.from_config(config(**{**size, **tokens, **fields}))
    model.save_pretrained(folder)
    return folder


def settings(family: str, folder: Path, tmp_path: Path) -> list[str]:
    """A short run of the family, by what its one YAML holds."""
    kind, _, targets, head, dropouts = FAMILIES[family]
    base = {"causal": "gpt2-tiny", "classification": "roberta-tiny", "seq2seq": "bart-tiny"}[kind]
    out = ("task.decode", "task.train.warmup") if kind == "classification" else ()
    short = [setting for setting in SHORT if not setting.startswith(out)]
    return [
        *short, f"task={TASKS[kind]}", "method=delta-lora", f"model={base}", f"model.name={family}",
        f"model.path={folder}", "model.hidden_size=32", f"model.target_modules=[{','.join(targets)}]",
        f"model.head_modules=[{','.join(head)}]", "model.dropouts=null",
        f"model.dropouts={{{','.join(f'{name}:{field}' for name, field in dropouts.items())}}}",
        *(["task.init_from=null", "task.train.max_length=64"] if kind == "classification" else []),
        *([f"cache_dir={tmp_path / 'cache'}", "task.train.max_length=256"] if kind == "seq2seq" else []),
        "task.max_train_examples=32", "task.train.max_steps=6", "method.start_steps=3",
    ]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_trained_scored_and_exported(
    family: str,
    composed: Callable[..., DictConfig],
    gpt2_checkpoint: Path,
    tmp_path: Path,
    quick_scores: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = FAMILIES[family][0]
    tokens = {"input_ids": torch.tensor([[4, 5, 6, 7]])}
    tokens |= {"decoder_input_ids": torch.tensor([[0, 4, 5]])} if kind == "seq2seq" else {}
    trained: list[torch.Tensor] = []  # logits of what was exported, the last of them what was kept
    export = PeftMethod.export

    def watched(self: PeftMethod, directory: Path) -> None:
        training = self.model.training
        with torch.inference_mode():
            trained.append(self.model.eval()(**tokens).logits)
        self.model.train(training)
        export(self, directory)

    monkeypatch.setattr(PeftMethod, "export", watched)
    folder = checkpoint(family, tmp_path / family, gpt2_checkpoint)
    run = run_cell(composed(*settings(family, folder, tmp_path)))
    assert run is not None
    assert run.metrics
    (exported,) = (tmp_path / "results" / "runs").glob("*/adapter")
    plain = STOCK[kind].from_pretrained(folder, **({"num_labels": 2} if kind == "classification" else {})).eval()
    with torch.inference_mode():
        before = plain(**tokens).logits
        after = PeftModel.from_pretrained(plain, str(exported)).eval()(**tokens).logits
    torch.testing.assert_close(after, trained[-1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(before, after)


def test_all_that_the_tokenizer_returns_reaches_the_model(
    composed: Callable[..., DictConfig], gpt2_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint("bert", tmp_path / "bert", gpt2_checkpoint)
    seen: dict[bool, set[int]] = {True: set(), False: set()}
    forward = tf.BertForSequenceClassification.forward

    def watched(self: Any, *args: Any, token_type_ids: Any = None, **more: Any) -> Any:
        seen[self.training] |= set(token_type_ids.unique().tolist())
        return forward(self, *args, token_type_ids=token_type_ids, **more)

    monkeypatch.setattr(tf.BertForSequenceClassification, "forward", watched)
    run_cell(composed(*settings("bert", folder, tmp_path)))
    assert seen == {True: {0, 1}, False: {0, 1}}, "both sentences, as two segments, in training and in evaluation"


def test_a_dropout_without_a_name_is_an_error_before_a_folder_is_made_unless_it_is_zero(
    composed: Callable[..., DictConfig], gpt2_checkpoint: Path, tmp_path: Path
) -> None:
    folder = checkpoint("llama", tmp_path / "llama", gpt2_checkpoint)
    given = settings("llama", folder, tmp_path)
    with pytest.raises(UserError, match=r"dropouts.hidden=0.1, and model=llama has no such dropout.*or give 0"):
        run_cell(composed(*given, "task.train.dropouts.hidden=0.1"))
    with pytest.raises(UserError, match="names resid_pdrop, and the llama configuration has no such field"):
        run_cell(composed(*given, "+model.dropouts.hidden=resid_pdrop"))
    assert not list((tmp_path / "results").glob("runs/*/config.yaml"))


def test_an_example_over_the_models_positions_is_an_error_before_a_folder_is_made(
    composed: Callable[..., DictConfig], gpt2_checkpoint: Path, tmp_path: Path
) -> None:
    folder = checkpoint("opt", tmp_path / "opt", gpt2_checkpoint, max_position_embeddings=8)
    with pytest.raises(UserError, match=r"the model has 8 positions; give task\.train\.max_length=8"):
        run_cell(composed(*settings("opt", folder, tmp_path)))
    assert not list((tmp_path / "results").glob("runs/*/config.yaml"))


def test_positions_go_by_family() -> None:
    room = {
        "roberta": positions(tf.RobertaConfig(max_position_embeddings=514)),
        "bert": positions(tf.BertConfig()),
        "t5": positions(tf.T5Config()),
        "deberta-v3": positions(tf.DebertaV2Config(relative_attention=True, position_biased_input=False)),
    }
    assert room == {"roberta": 512, "bert": 512, "t5": None, "deberta-v3": None}
