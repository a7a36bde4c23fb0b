"""What a run's key has of what lies outside its configuration: the weights of a local model, the data, the start."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from delta_lora.errors import UserError
from delta_lora.files import known_sha256
from delta_lora.models.load import resolved_revision
from delta_lora.suite.config.cell import build_cell
from delta_lora.suite.config.compose import choices
from delta_lora.suite.config.key import run_key
from delta_lora.suite.config.settings import make_task
from delta_lora.tasks.base import PINNED, Task
from delta_lora.tasks.e2e import E2E
from delta_lora.tasks.glue import Glue
from delta_lora.tasks.released import SHIPPED, files_digest


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder with what looks like a checkpoint."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md"):
        (folder / name).write_text(name)
    return folder


def local_key(composed: Callable[..., DictConfig], folder: Path) -> str:
    return build_cell(composed("scale=tiny", f"model.path={folder}")).key


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt"])
def test_other_files_in_a_local_models_folder_are_another_run(
    composed: Callable[..., DictConfig], checkpoint: Path, name: str
) -> None:
    config = composed("scale=tiny", f"model.path={checkpoint}")
    key, revision = build_cell(config).key, resolved_revision(config.model)
    assert local_key(composed, checkpoint) == key
    (checkpoint / name).write_text("trained on")
    assert local_key(composed, checkpoint) != key
    assert revision is not None and revision.startswith("local, ") and resolved_revision(config.model) != revision


def test_what_no_model_is_loaded_from_is_not_in_the_key(composed: Callable[..., DictConfig], checkpoint: Path) -> None:
    key = local_key(composed, checkpoint)
    (checkpoint / "README.md").write_text("more words")
    (checkpoint / "optimizer.pt").write_bytes(b"1")
    assert local_key(composed, checkpoint) == key


def test_a_file_of_a_local_model_that_cannot_be_read_is_told(
    composed: Callable[..., DictConfig], checkpoint: Path
) -> None:
    (checkpoint / "vocab.json").symlink_to(checkpoint / "nowhere")
    with pytest.raises(UserError, match=r"model.path=.* cannot be read \(.*vocab.json.*\); give a folder"):
        local_key(composed, checkpoint)


def laptop_task(composed: Callable[..., DictConfig], name: str, *more: str) -> tuple[DictConfig, Task]:
    model = "minilm-l6" if name.startswith("glue/") else "smollm2-135m"
    config = composed(f"task={name}", f"model={model}", "method=lora", "scale=laptop", *more)
    return config, make_task(config)


def test_the_data_of_the_projects_own_tasks_are_those_that_their_keys_mean(composed: Callable[..., DictConfig]) -> None:
    """Another digest here: were the data the same, put it into SHIPPED; else the keys of finished runs must change."""
    found = {}
    for name in choices("task"):
        config = composed(f"task={name}", f"scale={'paper' if name == 'xsum' else 'laptop'}")
        task = make_task(config)
        found[task.settings.name] = files_digest(task.settings.files)
        assert task.fingerprint() == PINNED
    assert found == SHIPPED


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("webnlg", "task.files.url=https://elsewhere.org/webnlg.zip"),
        ("webnlg", f"task.files.content_sha256={'0' * 64}"),
        ("e2e", f"task.files.sha256={{trainset.csv: {'0' * 64}}}"),
        ("glue/sst2", "task.files.repository=other/glue"),
        ("glue/sst2", "task.files.revision=0123456789abcdef"),
        ("glue/sst2", "task.files.hub_folder=cola"),
        ("glue/qqp", "task.files.empty.train.question2=3"),
    ],
)
def test_data_from_elsewhere_are_another_run(composed: Callable[..., DictConfig], name: str, override: str) -> None:
    (ours, _), (theirs, other) = laptop_task(composed, name), laptop_task(composed, name, override)
    assert other.fingerprint().startswith(f"{PINNED}, ")
    assert build_cell(theirs).key != build_cell(ours).key
    assert run_key(theirs, other, PINNED) == build_cell(theirs).key, "as tables look for records of another copy"
    folder, _ = laptop_task(composed, name, "task.files.folder=another")
    assert build_cell(folder).key == build_cell(ours).key


def test_local_files_that_only_an_override_calls_the_released_ones_are_another_run(
    composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    (tmp_path / "e2e").mkdir()
    (tmp_path / "e2e" / "trainset.csv").write_text("mr,ref\n")
    _, task = laptop_task(composed, "e2e", f"data_dir={tmp_path}")
    digest = task.fingerprint()
    sha256 = known_sha256(tmp_path / "e2e" / "trainset.csv")
    only = ("~task.files.sha256", f"+task.files.sha256={{trainset.csv: {sha256}}}")
    _, task = laptop_task(composed, "e2e", f"data_dir={tmp_path}", *only)
    assert isinstance(task, E2E) and task.released() == digest == task.fingerprint() != PINNED


class OwnMetric(Glue):
    """A stranger's task that says of no metric that it chooses the epoch."""

    def selection_metric(self) -> None:
        return None


def test_the_first_metric_is_in_the_key_where_it_chooses_the_epoch(composed: Callable[..., DictConfig]) -> None:
    turned = "task.metrics=[accuracy-matched,accuracy]"
    own = f"task._target_={__name__}.OwnMetric"
    keys = [
        [build_cell(laptop_task(composed, "glue/mnli", *given, *more)[0]).key for more in ([], [turned])]
        for given in ([], [own])
    ]
    assert keys[0][0] == keys[0][1]
    assert len({*keys[0], *keys[1]}) == 3
