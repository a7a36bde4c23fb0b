"""Too little memory, a full disk, exploding losses, signals, two processes for one run: each ends well, or clearly."""

import errno
import itertools
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import elsewhere
from omegaconf import DictConfig
from transformers import Trainer

from delta_lora.errors import Interrupted, RunError, UserError
from delta_lora.methods.adalora_callback import AdaLoraCallback
from delta_lora.suite.machine.lock import Busy, held
from delta_lora.suite.machine.resources import smaller
from delta_lora.suite.records.checkpoints import Seal
from delta_lora.suite.records.phases import finish_phase, finished_phase
from delta_lora.suite.records.records import read_jsonl
from delta_lora.suite.run import recipe as suite_cell
from delta_lora.suite.run import scoring
from delta_lora.suite.run.recipe import run_cell

pytestmark = pytest.mark.usefixtures("quick_scores")
Short = Callable[..., DictConfig]


def losses(run: Any) -> list[float]:
    return [row["loss"] for row in read_jsonl(run.path / "log.jsonl") if "loss" in row]


@pytest.mark.parametrize(("micro", "batch", "less"), [(8, 8, 4), (1, 8, None), (6, 6, 3), (3, 6, 1), (5, 15, 1)])
def test_a_smaller_micro_batch_divides_the_batch(micro: int, batch: int, less: int | None) -> None:
    assert smaller(micro, batch) == less


@pytest.mark.parametrize("method", ["delta-lora", "adalora"])
def test_when_memory_runs_out_the_micro_batch_is_halved_and_the_numbers_stay(
    short: Short, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    config = short(f"method={method}")
    small = run_cell(elsewhere(short(f"method={method}", "task.train.micro_batch_size=2"), tmp_path / "small"))
    step = Trainer.training_step

    def scarce(self: Trainer, model: Any, inputs: Any, *rest: Any) -> Any:
        if len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, model, inputs, *rest)

    monkeypatch.setattr(Trainer, "training_step", scarce)
    with caplog.at_level(logging.WARNING):
        found = run_cell(config)
    assert found is not None and small is not None
    assert "8 examples at once are too many for the memory; trying 4" in caplog.text
    assert found.train["micro_batch_size"] == 2 and found.train["steps"] == 24
    assert losses(found) == losses(small) and found.predictions() == small.predictions()


def test_memory_that_never_suffices_is_an_error(short: Short, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "training_step", none)
    with pytest.raises(torch.OutOfMemoryError):
        run_cell(short())


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_last_good_checkpoint(
    short: Short, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.training_step

    def exploding(self: Trainer, *rest: Any) -> Any:
        loss = step(self, *rest)
        return loss * float("nan") if self.state.global_step == 12 else loss

    monkeypatch.setattr(Trainer, "training_step", exploding)
    with pytest.raises(RunError, match=r"the loss is nan at step 13 \(learning rate 0\.\d+\); .*checkpoint-10; lower"):
        run_cell(short())


def test_too_small_a_disk_is_told_before_anything_is_trained(short: Short, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    monkeypatch.setattr(suite_cell, "train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(UserError, match=r"checkpoints need 0\.00 GB, and .* has 0\.00 GB free"):
        run_cell(short())


@pytest.mark.parametrize(
    ("method", "owner", "writer"),
    [
        ("lora", Trainer, "_save_optimizer_and_scheduler"),
        ("delta-lora", Trainer, "_save_optimizer_and_scheduler"),  # its callback finds no folder to write to
        ("delta-lora", Seal, "seal"),
        ("adalora", AdaLoraCallback, "on_save"),
    ],
)
def test_a_disk_that_fills_up_costs_checkpoints_but_not_the_run(
    short: Short,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
    owner: type,
    writer: str,
) -> None:
    config = short(f"method={method}", "task.train.save_steps=4")
    whole = run_cell(elsewhere(config, tmp_path / "whole"))
    save, calls = getattr(owner, writer), itertools.count(1)

    def full(*arguments: Any, **options: Any) -> Any:
        if next(calls) in (2, 3):
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(*arguments, **options)

    monkeypatch.setattr(owner, writer, full)
    with caplog.at_level(logging.WARNING):
        found = run_cell(config)
    assert found is not None and whole is not None
    assert "the disk is full: no checkpoint at step 8" in caplog.text
    assert "the disk is full: no checkpoint at step 12" in caplog.text
    assert losses(found) == losses(whole) and found.metrics == whole.metrics


def test_a_disk_too_full_for_what_a_run_leaves_is_one_line(short: Short, monkeypatch: pytest.MonkeyPatch) -> None:
    config = short("method=lora")

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(suite_cell, "write_jsonl", full)
        with pytest.raises(
            RunError, match=r"the disk is full .* what is finished is kept in .* the same command goes on"
        ):
            run_cell(config)
    found = run_cell(config)
    assert found is not None and found.train["resumed_from_step"] in (0, 24)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_leaves_a_checkpoint_and_the_same_command_goes_on(
    short: Short, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config = short("method=delta-lora", "task.train.save_steps=1000")
    whole = run_cell(elsewhere(config, tmp_path / "whole"))
    assert whole is not None
    (Path(config.results_dir) / "runs" / whole.key / "checkpoints" / "checkpoint-of-mine").mkdir(parents=True)
    step = Trainer.training_step

    def signalled(self: Trainer, *rest: Any) -> Any:
        if self.state.global_step == 6:
            os.kill(os.getpid(), getattr(signal, name))
        return step(self, *rest)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", signalled)
        with pytest.raises(Interrupted, match=f"stopped by {name} after step 7 of 24, with a checkpoint"):
            run_cell(config)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    found = run_cell(config)
    assert found is not None and whole is not None
    assert found.train["resumed_from_step"] == 7
    # the checkpoint at step 7 begins another mean of the logged losses: it ends with step 8
    assert losses(found)[-4:] == losses(whole)[-4:] and found.predictions() == whole.predictions()


def test_what_is_trained_is_not_trained_again_and_what_is_decoded_not_decoded_again(
    short: Short, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = short("method=delta-lora")
    steps: list[int] = []
    step = Trainer.training_step
    monkeypatch.setattr(Trainer, "training_step", lambda self, *rest: (steps.append(1), step(self, *rest))[1])

    def dies(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(suite_cell, "decode_items", dies)
        with pytest.raises(KeyboardInterrupt):
            run_cell(config)
    assert len(steps) == 24
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "write_record", dies)
        with pytest.raises(KeyboardInterrupt):
            run_cell(config)
    assert len(steps) == 24, "only decoded"
    monkeypatch.setattr(suite_cell, "train_and_predict", dies)
    found = run_cell(config)
    assert found is not None and found.train["steps"] == 24 and found.train["examples_per_second"] > 0
    assert not (found.path / "phases.json").exists() and not (found.path / "checkpoints").exists()


def test_a_phase_whose_files_were_damaged_is_done_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a").write_text("whole")
    finish_phase(tmp_path, "one", {"x": 1}, ["a"])
    finish_phase(tmp_path, "two", {"x": 2})
    assert finished_phase(tmp_path, "one") == {"x": 1} and finished_phase(tmp_path, "two") == {"x": 2}
    (tmp_path / "a").write_text("whale")
    assert finished_phase(tmp_path, "one") is None and "a missing or damaged" in caplog.text
    (tmp_path / "phases.json").write_text('{"two": ')
    assert finished_phase(tmp_path, "two") is None


HOLDER = """
import sys, time
from pathlib import Path
from delta_lora.suite.machine.lock import held
with held(Path(sys.argv[1]), "cell", wait=True):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_and_a_dead_one_does_not_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with (
        pytest.raises(Busy, match=f"cell: process {holder.pid} on .* is at it; skipped"),
        held(tmp_path / "run", "cell", wait=False),
    ):
        pass
    with held(tmp_path / "another", "cell", wait=False):
        pass
    holder.kill()
    started = time.monotonic()
    with held(tmp_path / "run", "cell", wait=True):
        assert time.monotonic() - started < 30, "a lock that its owner's death does not free"


def without_flock(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """A file system that has no locks, as a FUSE or an old Lustre mount has none."""
    import fcntl

    def flock(file: Any, operation: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK])
def test_without_flock_a_living_owner_keeps_others_out_and_a_dead_one_does_not(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from delta_lora import files

    code = (
        "import errno, fcntl, os\nfrom delta_lora import files\nfiles.LEASE = 3\n"
        f"def flock(*_): raise OSError({error}, os.strerror({error}))\nfcntl.flock = flock\n{HOLDER}"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    without_flock(monkeypatch, error)
    monkeypatch.setattr(files, "LEASE", 3)
    with pytest.raises(Busy, match=f"process {holder.pid} on"), held(tmp_path / "run", "cell", wait=False):
        pass
    assert "no locks on this file system" in caplog.text
    time.sleep(4)  # longer than a lease that nobody renews
    with pytest.raises(Busy), held(tmp_path / "run", "cell", wait=False):
        pass
    holder.kill()
    holder.wait()
    with held(tmp_path / "run", "cell", wait=True):
        assert (tmp_path / ".run.owner").is_file()


def test_a_lock_file_of_a_host_that_is_gone_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """filelock's own fallback leaves such a file, and waits for it for ever."""
    without_flock(monkeypatch, errno.ENOSYS)
    (tmp_path / ".run.lock").write_text("4711\ngone-host\n")
    with held(tmp_path / "run", "cell", wait=False):
        pass


def test_the_second_process_finds_the_run_that_it_waited_for(
    short: Short, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = short("method=lora")
    first = run_cell(config)
    looked: list[int] = []
    find = suite_cell.find_finished

    def late(*arguments: Any) -> Any:
        looked.append(1)
        return None if len(looked) == 1 else find(*arguments)

    monkeypatch.setattr(suite_cell, "find_finished", late)
    monkeypatch.setattr(suite_cell, "execute", lambda *_: pytest.fail("trained again"))
    again = run_cell(config)
    assert first is not None and again is not None and again.train == first.train
    with held(again.path, "other", wait=False):
        looked.clear()
        skipping = config.copy()
        skipping.when_busy = "skip"
        capsys.readouterr()
        # flock is per open file, so this process, too, is kept out by its own lock
        assert run_cell(skipping) is None
        assert f"process {os.getpid()} on" in capsys.readouterr().out


class Requeued(Exception):
    pass


def test_a_queues_signal_leads_to_a_checkpoint_and_then_to_the_queue(
    short: Short, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As submitit has it: SIGUSR2 before Slurm takes the machine away, and a handler that puts the job back."""
    config = short("method=delta-lora", "task.train.save_steps=1000")
    saved: list[list[str]] = []
    step = Trainer.training_step

    def queue(number: int, _: object) -> None:
        saved.append([path.name for path in Path(config.results_dir).glob("runs/*/checkpoints/checkpoint-*")])
        raise Requeued

    def signalled(self: Trainer, *rest: Any) -> Any:
        if self.state.global_step == 6:
            os.kill(os.getpid(), signal.SIGUSR2)
        return step(self, *rest)

    before = signal.signal(signal.SIGUSR2, queue)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "training_step", signalled)
            with pytest.raises(Requeued):
                run_cell(config)
        assert signal.getsignal(signal.SIGUSR2) is queue and saved == [["checkpoint-7"]]
    finally:
        signal.signal(signal.SIGUSR2, before)
    found = run_cell(config)
    assert found is not None and found.train["resumed_from_step"] == 7


def test_slurms_notice_of_a_pre_emption_leads_to_a_checkpoint_and_the_training_goes_on(
    short: Short, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a queue SIGTERM comes a grace time before SIGKILL; whether the job comes back is the queue's to say."""
    config = short("method=delta-lora", "task.train.save_steps=1000")
    step = Trainer.training_step
    saved: list[str] = []

    def signalled(self: Trainer, *rest: Any) -> Any:
        if self.state.global_step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        if self.state.global_step == 8:
            saved.extend(path.name for path in Path(config.results_dir).glob("runs/*/checkpoints/checkpoint-*"))
        return step(self, *rest)

    before = [signal.signal(signal.SIGUSR2, lambda *_: None), signal.signal(signal.SIGTERM, lambda *_: None)]
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "training_step", signalled)
            found = run_cell(config)
    finally:
        signal.signal(signal.SIGUSR2, before[0])
        signal.signal(signal.SIGTERM, before[1])
    assert saved == ["checkpoint-7"]
    assert found is not None and found.train["steps"] == 24


def test_each_process_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from delta_lora.suite.machine import devices

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    taken = []
    for _ in range(2):  # two processes, as far as the locks can tell
        monkeypatch.setattr(devices, "_taken", [])
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
        devices.take_gpu()
        devices.take_gpu()
        taken.append((os.environ["CUDA_VISIBLE_DEVICES"], devices._taken))
    assert [name for name, _ in taken] == ["4", "5"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(devices, "_taken", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    devices.take_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"


def test_a_gpu_that_another_user_holds_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from delta_lora.files import locked
    from delta_lora.suite.machine import devices

    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(devices.os, "getuid", lambda: 1001)
    theirs = locked(tmp_path / "delta-lora-gpu-0-user-1002.lock")
    assert devices.take("0") is None
    theirs.release()  # the file stays
    mine = devices.take("0")
    assert mine is not None and (tmp_path / "delta-lora-gpu-0-user-1001.lock").is_file()
    monkeypatch.setattr(devices.os, "getuid", lambda: 1002)
    assert devices.take("0") is None


def test_a_lock_file_that_may_not_be_opened_is_a_taken_gpu_and_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from delta_lora.suite.machine import devices

    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    own = tmp_path / f"delta-lora-gpu-0-user-{os.getuid()}.lock"
    own.mkdir()  # root may open any file, but no folder
    assert devices.take("0") is None


def test_looking_for_a_gpu_leaves_the_choice_of_one(short: Short, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through CUDA's own count the choice would come too late: a started CUDA does not look at the variable again."""
    from delta_lora.suite.config.settings import check_device

    asked: list[str | None] = []
    variable = "PYTORCH_NVML_BASED_CUDA_CHECK"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(asked.append(os.environ.get(variable))) or True)
    check_device(short("scale=paper"))
    assert asked == ["1"]


def test_an_example_longer_than_the_model_is_told_before_training(short: Short) -> None:
    from delta_lora.models.load import load_model
    from delta_lora.models.positions import check_lengths

    config = short()
    model = load_model(config.model, Path("unused"), config.task.train.dropouts)
    check_lengths(model.config, [{"input_ids": [0] * 256}])
    with pytest.raises(UserError, match="an example has 257 tokens, the model has 256 positions; give"):
        check_lengths(model.config, [{"input_ids": [0] * 9}, {"input_ids": [0] * 257}])


def test_a_target_longer_than_the_decoder_is_told_before_training() -> None:
    from transformers import BartConfig

    from delta_lora.models.positions import check_decoder, check_lengths

    config = BartConfig(max_position_embeddings=32)
    check_lengths(config, [{"input_ids": [0] * 32, "labels": [0] * 32}])
    check_decoder(config, 31)
    with pytest.raises(UserError, match="a target has 33 tokens, the model's decoder has 32 positions; give"):
        check_lengths(config, [{"input_ids": [0] * 9, "labels": [0] * 33}])
    with pytest.raises(UserError, match=r"task\.decode\.max_new_tokens=32 and the token .* give 31 or less"):
        check_decoder(config, 32)
