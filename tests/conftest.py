"""Fixtures that several test modules share: real data, a composed configuration, a small GPT-2 checkpoint."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.runs import SHORT, score_quickly
from hydra import compose
from omegaconf import DictConfig

from delta_lora.suite.config.compose import composing

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test processes of two threads each wait for each other
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs the internet is a wrong test
os.environ.setdefault("WANDB_MODE", "offline")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data sets; the test is skipped where DELTA_LORA_DATA does not name one."""
    folder = os.environ.get("DELTA_LORA_DATA")
    if not folder:
        pytest.skip("real data: set DELTA_LORA_DATA to a folder in the layout of docs/data.md")
    return Path(folder)


@pytest.fixture
def composed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DictConfig]:
    """``composed("task=e2e", …)``: what the command line would compose, with results below the test's folder."""
    monkeypatch.delenv("DELTA_LORA_DATA", raising=False)

    def build(*overrides: str) -> DictConfig:
        with composing():
            return compose("train", [f"results_dir={tmp_path / 'results'}", "logger=none", *overrides])

    return build


@pytest.fixture
def cells_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of tables are composed once in all tests that ask for this: all tables take a quarter of a minute."""
    from helpers.table_records import cell_elsewhere

    monkeypatch.delenv("DELTA_LORA_DATA", raising=False)
    monkeypatch.setattr("delta_lora.suite.config.grid.compose_cell", cell_elsewhere)


SENTENCES = [
    "The Vaults pub near Café Adriatic has a 5 star rating. Prices start at £30.",
    "name : The Vaults | Type : pub | price : more than £30 | customer rating : 5 out of 5 | near : Café Adriatic",
    "Close to Café Brazil, The Cambridge Blue pub serves delicious Tuscan Beef for the cheap price of £10.50.",
]


@pytest.fixture(scope="session")
def gpt2_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock GPT-2 checkpoint with random weights (2 blocks, width 32) and its own byte-level BPE."""
    import torch
    from helpers.models import gpt2_config
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("gpt2")
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(SENTENCES * 3, vocab_size=400, special_tokens=["<|endoftext|>"], show_progress=False)
    end = "<|endoftext|>"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token=end, bos_token=end)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    off = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    config = gpt2_config(vocab_size=len(tokenizer), n_head=2, n_positions=256, **off)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def quick_scores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """:func:`score_quickly`, unless the test is marked ``all_metrics``."""
    if "all_metrics" not in request.keywords:
        score_quickly(monkeypatch.setattr)


@pytest.fixture
def short(composed: Callable[..., DictConfig], gpt2_checkpoint: Path) -> Callable[..., DictConfig]:
    """A run of 24 steps on a small GPT-2 with random weights."""
    return lambda *extra: composed(*SHORT, f"model.path={gpt2_checkpoint}", "model.hidden_size=32", *extra)


@pytest.fixture(scope="session")
def roberta_checkpoint(gpt2_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock RoBERTa checkpoint with random weights (2 blocks, width 32) and the small GPT-2's BPE."""
    import torch
    from helpers.models import roberta_config
    from transformers import AutoTokenizer, RobertaForMaskedLM

    folder = tmp_path_factory.mktemp("roberta")
    tokenizer = AutoTokenizer.from_pretrained(gpt2_checkpoint)
    tokenizer.add_special_tokens({"pad_token": "<pad>", "sep_token": "</s>", "cls_token": "<s>"})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = roberta_config(
        vocab_size=len(tokenizer),
        type_vocab_size=1,
        bos_token_id=tokenizer.cls_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.sep_token_id,
        max_position_embeddings=1024,
        num_labels=2,
    )
    RobertaForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def short_glue(
    composed: Callable[..., DictConfig], roberta_checkpoint: Path, tmp_path: Path
) -> Callable[..., DictConfig]:
    """``short_glue("rte", "lora", …)``: a run of two epochs of 12 steps on the small RoBERTa."""
    return lambda task, method, *extra: composed(
        f"task=glue/{task}", f"method={method}", "scale=tiny", "model=roberta-tiny",
        f"model.path={roberta_checkpoint}", "model.hidden_size=32", f"cache_dir={tmp_path / 'cache'}",
        "task.init_from=null", "task.max_train_examples=96", "task.max_test_examples=40", "task.train.batch_size=8",
        "task.train.epochs=2", "task.train.save_steps=6", "task.train.logging_steps=4",
        "task.per_method.delta_lora.start_steps=3", "task.train.max_length=256", *extra,
    )  # fmt: skip
