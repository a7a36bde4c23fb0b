"""The tiny scale's XSum and ``bart-tiny``: the hub's layout, stories that need a summary, a stock BART."""

import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import ROOT
from omegaconf import DictConfig, OmegaConf
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, BartConfig, BartForConditionalGeneration

from delta_lora.metrics.xsum import score
from delta_lora.suite.run.decoding import decode
from delta_lora.suite.run.recipe import run_cell
from delta_lora.tasks.xsum import COLUMNS, XSum
from delta_lora.tiny import architectures, circuits, data, models, pretrain, xsum
from delta_lora.tiny.world import world

SHORT = replace(models.MODELS["bart-tiny"], steps=3, bpe_documents=2000)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> XSum:
    """The generated data, read as a user's own folder of the real ones would be."""
    folder = tmp_path_factory.mktemp("data")
    data.write("xsum", folder)
    config = OmegaConf.load(ROOT / "configs/task/xsum.yaml")
    return XSum(config, folder, folder / "cache")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.checkpoint("bart-tiny", tmp_path_factory.mktemp("models"), SHORT)


def test_the_tasks_own_reader_takes_the_files(task: XSum) -> None:
    task.check_files()
    train, items = task.read_train(task.fetch()), task.read_test(task.fetch())
    preset = OmegaConf.load(ROOT / "configs/preset/tiny/xsum.yaml")
    assert len(train) == preset.task.train_examples == xsum.SIZES["train"]
    assert len(items) == xsum.SIZES["test"]
    assert task.data_dir is not None
    names = sorted(path.name for path in (task.data_dir / "xsum").iterdir())
    assert names == [f"{split}-00000-of-00001.parquet" for split in ("test", "train", "validation")]
    for name in names:
        assert tuple(pd.read_parquet(task.data_dir / "xsum" / name).columns) == COLUMNS


def test_no_test_document_and_no_test_summary_is_in_training(task: XSum) -> None:
    train, items = task.read_train(task.fetch()), task.read_test(task.fetch())
    documents, summaries = {document for document, _ in train}, {summary for _, summary in train}
    assert not documents & {item.input for item in items}
    assert not summaries & {item.references[0] for item in items}
    assert len({item.extra["document_id"] for item in items}) == len(items)


def test_no_test_summary_is_in_the_pretraining_text(task: XSum) -> None:
    summaries = {item.references[0] for item in task.read_test(task.fetch())}
    documents = itertools.islice(xsum.documents(random.Random(models.MODELS["bart-tiny"].seed)), 30_000)
    assert not summaries & {sentence for document in documents for sentence in document}


def test_stories_and_summaries_are_finished_text(task: XSum) -> None:
    for document, summary in task.read_train(task.fetch()):
        sentences = document.split("\n")
        assert 4 <= len(sentences) <= 8
        assert all(line[0] == '"' or line[0].isupper() or line[0].isdigit() for line in sentences), document
        assert all(line.endswith(".") for line in [*sentences, summary]), document
        assert not set(document + summary) & set("(){}|[]"), "an unexpanded template"
        assert "\n" not in summary


def test_neither_the_lead_nor_another_summary_will_do(task: XSum) -> None:
    train, items = task.read_train(task.fetch()), task.read_test(task.fetch())
    references = [item.references[0] for item in items]
    lead = score([item.input.split("\n")[0] for item in items], references)
    other = score([summary for _, summary in train[: len(items)]], references)
    assert lead["Rouge-2"] < 5 and lead["Rouge-1"] < 15
    assert other["Rouge-2"] < 10 and other["Rouge-1"] < 30


def test_the_summarys_names_and_numbers_stand_in_the_story(task: XSum) -> None:
    rng = random.Random(3)
    for topic in world()["events"].values():
        for _ in range(20):
            story, gist = xsum.tell(topic, rng)
            text = " ".join(story)
            given = [word.strip(".,£m") for word in gist.split()[1:] if word[0].isupper() or word[0] in "£0123456789"]
            missing = [word for word in given if word.split("-")[0] not in text]
            assert not missing, (missing, story, gist)


def test_stock_transformers_loads_bart_tiny(folder: Path) -> None:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert isinstance(model, BartForConditionalGeneration)
    assert 1_000_000 <= model.num_parameters() <= 3_000_000
    assert model.config.hidden_size == OmegaConf.load(ROOT / "configs/model/bart-tiny.yaml").hidden_size
    assert [tokenizer.convert_tokens_to_ids(t) for t in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    assert tokenizer.mask_token == "<mask>" and tokenizer.mask_token_id != tokenizer.unk_token_id
    assert model.config.decoder_start_token_id == tokenizer.eos_token_id == 2
    inputs = tokenizer("A fire.", return_tensors="pt")
    assert inputs["input_ids"][0, 0] == 0 and inputs["input_ids"][0, -1] == 2
    assert torch.isfinite(model(**inputs, labels=inputs["input_ids"]).loss)
    preset = OmegaConf.load(ROOT / "configs/preset/tiny/xsum.yaml")
    assert preset.task.train.max_length <= model.config.max_position_embeddings


@pytest.mark.parametrize("text", ["Police in Oslo said: £20m.", ' "Why?" asked Zoë.', "日本 🙂\n\ttab"])
def test_tokenizer_gives_back_every_text(folder: Path, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_same_recipe_gives_the_same_weights(folder: Path, tmp_path: Path) -> None:
    again = models.checkpoint("bart-tiny", tmp_path, SHORT)
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_documents_fit_and_are_made_of_known_tokens(folder: Path, task: XSum) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pairs = task.read_train(task.fetch())
    lengths = [len(ids) for ids in tokenizer([document for document, _ in pairs])["input_ids"]]
    assert max(lengths) <= OmegaConf.load(ROOT / "configs/preset/tiny/xsum.yaml").task.train.max_length
    assert tokenizer.unk_token_id not in tokenizer(pairs[0][0])["input_ids"]


def test_batches_have_barts_form(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rng = random.Random(0)
    pairs = ((architectures.noisy(document, rng), " ".join(document)) for document in xsum.documents(rng))
    recipe = replace(SHORT, batch_size=4, length=64)
    for batch in itertools.islice(pretrain.batches(pairs, tokenizer, recipe), 20):
        ids, labels = batch["input_ids"], batch["labels"]
        assert ids.shape == batch["attention_mask"].shape and ids.shape[0] == labels.shape[0] == 4
        assert ids.shape[1] <= 64 and labels.shape[1] <= 64
        assert (ids[:, 0] == 0).all() and (labels[:, 0] == 0).all()
        assert torch.equal(batch["attention_mask"] == 0, ids == tokenizer.pad_token_id)
        assert tokenizer.mask_token_id in ids
        assert tokenizer.mask_token_id not in labels and tokenizer.pad_token_id not in labels
        for row, target in zip(ids, labels, strict=True):
            assert row[row != tokenizer.pad_token_id][-1] == 2 and target[target >= 0][-1] == 2


def test_neighbours_are_one_mask_and_about_a_third_is_masked() -> None:
    rng, kept, total = random.Random(0), 0, 0
    for document in itertools.islice(xsum.documents(rng), 300):
        words = " ".join(document).split()
        corrupted = architectures.noisy(document, rng).split()
        assert not any(a == b == "<mask>" for a, b in itertools.pairwise(corrupted))
        rest = Counter(word for word in corrupted if word != "<mask>")
        assert rest <= Counter(words)
        kept, total = kept + rest.total(), total + len(words)
    assert kept / total == pytest.approx(1 - architectures.MASKED, abs=0.03)


def test_the_initial_weights_copy_what_follows_in_the_source() -> None:
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=1000, d_model=128, max_position_embeddings=256,
        encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=256, decoder_ffn_dim=256, dropout=0.0,
    )  # fmt: skip
    model = BartForConditionalGeneration(config).eval()
    circuits.write_bart(model)
    source = torch.stack([torch.randperm(900)[:30] + 10 for _ in range(8)])
    with torch.no_grad():
        predicted = model(input_ids=source, decoder_input_ids=source).logits[:, :-1].argmax(-1)
    assert (predicted == source[:, 1:]).float().mean() > 0.8


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_cell_runs_end_to_end_and_its_adapter_is_a_stock_one(
    smoothing: float, composed: Callable[..., DictConfig], folder: Path, tmp_path: Path
) -> None:
    config = composed(
        "task=xsum", "model=bart-tiny", "scale=tiny", "method=delta-lora", f"model.path={folder}",
        f"cache_dir={tmp_path / 'cache'}", "task.train.max_steps=4", "task.train.warmup_steps=1",
        "method.start_steps=1", "task.max_train_examples=32", "task.max_test_examples=2",
        "task.decode.max_new_tokens=12", f"task.train.label_smoothing={smoothing}",
    )  # fmt: skip
    run = run_cell(config)
    assert set(run.metrics) == set(config.task.metrics)
    assert run.counts["trainable"] == 6 * 2 * 4 * (128 + 128)
    rows, adapter = run.predictions(), run.path / "adapter"
    tokenizer, base = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder)
    stock = PeftModel.from_pretrained(base, adapter).merge_and_unload()  # type: ignore[operator]
    again = decode(stock, tokenizer, [row["input"] for row in rows], config.task)
    assert again == [row["prediction"] for row in rows]
