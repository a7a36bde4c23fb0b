"""The E2E task: linearization, sequences with their loss mask, files checked before anything else happens."""

from collections.abc import Callable
from pathlib import Path
from statistics import mean

import pytest
from omegaconf import DictConfig
from transformers import AutoTokenizer

from delta_lora.errors import UserError
from delta_lora.files import download
from delta_lora.suite.config.cell import build_cell
from delta_lora.tasks.e2e import E2E, linearize, read_rows
from delta_lora.tasks.generation import IGNORED, encode_causal

MR = "name[The Vaults], eatType[pub], priceRange[more than £30], customer rating[5 out of 5], near[Café Adriatic]"


def test_linearization_writes_slots_as_microsoft_lora_does() -> None:
    assert linearize(MR) == (
        "name : The Vaults | Type : pub | price : more than £30 | customer rating : 5 out of 5 | near : Café Adriatic"
    )
    assert linearize("name[A], familyFriendly[yes]") == "name : A | family friendly : yes"
    with pytest.raises(UserError, match="slot\\[value\\]"):
        linearize("name[A], pub")


def test_sequence_is_context_end_target_end_with_the_loss_on_the_target_alone(gpt2_checkpoint: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(gpt2_checkpoint)
    end = tokenizer.eos_token_id
    (example,) = encode_causal(tokenizer, [("name : The Vaults", "A pub.")], 128)
    context = tokenizer("name : The Vaults")["input_ids"]
    target = tokenizer(" A pub.")["input_ids"]
    assert example["input_ids"] == [*context, end, *target, end]
    assert example["labels"] == [IGNORED] * (len(context) + 1) + [*target, end]


def test_a_context_without_room_for_its_target_is_an_error(gpt2_checkpoint: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(gpt2_checkpoint)
    with pytest.raises(UserError, match="max_length is 4"):
        encode_causal(tokenizer, [("name : The Vaults near Café Adriatic", "A pub.")], 4)


def test_a_missing_data_folder_says_what_it_looked_for(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=r"trainset\.csv.*looked in .*data/e2e"):
        build_cell(composed("scale=laptop", f"data_dir={tmp_path / 'data'}"))
    with pytest.raises(UserError, match="is no folder"):
        build_cell(composed("scale=laptop", f"data_dir={tmp_path / 'nowhere'}"))


def test_a_changed_data_file_is_an_error(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    folder = tmp_path / "data" / "e2e"
    folder.mkdir(parents=True)
    for name in ("trainset.csv", "devset.csv", "testset_w_refs.csv"):
        (folder / name).write_text("mr,ref\n")
    with pytest.raises(UserError, match=r"SHA-256 is .*, expected f27d48df"):
        build_cell(composed("scale=laptop", f"data_dir={tmp_path / 'data'}"))


def test_a_download_is_checked_and_made_once(tmp_path: Path) -> None:
    import functools
    import http.server
    import threading
    from hashlib import sha256

    source = tmp_path / "source"
    source.mkdir()
    (source / "a.csv").write_text("mr,ref\n")
    digest = sha256(b"mr,ref\n").hexdigest()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(source))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        assert (download(url, tmp_path / "cache", {"a.csv": digest}) / "a.csv").read_text() == "mr,ref\n"
        with pytest.raises(UserError, match=r"could not download .*a\.csv"):
            download(url, tmp_path / "other", {"a.csv": "0" * 64})
        assert not (tmp_path / "other" / "a.csv").exists()
        server.shutdown()
    download(url, tmp_path / "cache", {"a.csv": digest})  # the server is gone: the cached file is used
    with pytest.raises(UserError, match="DELTA_LORA_DATA"):
        download(url, tmp_path / "empty", {"a.csv": digest})


def test_a_row_with_too_many_fields_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trainset.csv"
    path.write_text('mr,ref\n"name[A]","B"\n"name[A]",B,C\n')
    with pytest.raises(UserError, match="line 3: 3 fields"):
        read_rows(path)


@pytest.mark.parametrize(
    "row", ['"name[A]",""', '"name[A]","  "', '"","B"', '"name[]","B"', '"name[A], [x]","B"', '" [A]","B"', '"A","B"']
)
def test_an_empty_reference_or_meaning_representation_is_named_with_its_line(tmp_path: Path, row: str) -> None:
    path = tmp_path / "testset_w_refs.csv"
    path.write_text(f'mr,ref\n"name[A]","B"\n{row}\n')
    with pytest.raises(UserError, match=r"testset_w_refs\.csv, line 3: "):
        read_rows(path)


@pytest.mark.real_data
def test_the_real_release_has_its_known_sizes(real_data: Path, composed: Callable[..., DictConfig]) -> None:
    given = ("task=e2e", f"data_dir={real_data}", "scale=laptop", "task.max_train_examples=null")
    task = E2E(composed(*given).task, real_data, Path("unused"))
    assert task.fingerprint() == "pinned"
    task.check_files()
    assert task.train_size() == 42061
    items = task.test_items()
    assert len(items) == 630
    assert sum(len(item.references) for item in items) == 4693
    few = E2E(composed(*given, "task.max_test_examples=63").task, real_data, Path("unused")).test_items()
    assert mean(len(item.input) for item in few) == pytest.approx(mean(len(item.input) for item in items), rel=0.05)
