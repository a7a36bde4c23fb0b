"""Weights & Biases beside a run: groups, and servers and disks that fail while a run needs nothing from them."""

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT
from omegaconf import DictConfig

from delta_lora.errors import UserError
from delta_lora.suite.config.cell import build_cell
from delta_lora.suite.run.recipe import run_cell
from delta_lora.suite.run.tracking import group_of

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("overrides", "group"),
    [
        (["table=table7", "scale=tiny"], "tiny-table7"),
        (["table=figure3", "scale=tiny"], "tiny-figure3"),
        (["scale=tiny"], "tiny-e2e"),
        (["scale=paper", "task=webnlg"], "paper-webnlg"),
    ],
)
def test_runs_of_one_table_share_a_group(composed: Callable[..., DictConfig], overrides: list[str], group: str) -> None:
    assert group_of(composed(*overrides)) == group


@pytest.mark.parametrize(("name", "value"), [("WANDB_MODE", "disabled"), ("WANDB_DISABLED", "true")])
def test_a_disabled_wandb_is_not_asked(
    short: Callable[..., DictConfig],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
) -> None:
    from delta_lora.suite.config.cell import build_cell
    from delta_lora.suite.run.tracking import Tracker

    monkeypatch.setenv(name, value)
    tracker = Tracker(build_cell(short("logger=wandb")))
    tracker.finish({"BLEU": 1.0})
    assert tracker.run is None and not caplog.records


@pytest.mark.parametrize("name", ["init_timeout", "finish_timeout"])
def test_a_wait_without_an_end_is_refused(short: Callable[..., DictConfig], name: str) -> None:
    with pytest.raises(UserError, match=f"logger.{name} must be a number of seconds > 0, got 0"):
        build_cell(short("logger=wandb", f"logger.{name}=0"))


class Server(http.server.ThreadingHTTPServer):
    """Answers what ``wandb.init`` asks, until the run sends its first data; then it dies, or hangs.

    Hanging from the first request on is ``fails="at once"``.
    """

    daemon_threads = True

    def __init__(self, fails: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fails = fails
        self.failed = threading.Event()
        self.released = threading.Event()
        self.open: list[socket.socket] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def get_request(self) -> Any:
        found = super().get_request()
        self.open.append(found[0])
        return found

    def die(self) -> None:
        """Close every connection and take no new ones."""
        self.socket.close()
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.fails == "at once" or "file_stream" in self.path or self.server.failed.is_set():
            self.server.failed.set()
            if self.server.fails == "dies":
                self.server.die()
            else:
                self.server.released.wait(300)
            self.close_connection = True
            return
        project = {"id": "p", "name": "delta-lora", "entity": {"id": "e", "name": "us"}}
        bucket = {"id": "b", "name": "run", "displayName": "run", "config": "{}", "project": project}
        data = {"upsertBucket": {"bucket": bucket, "inserted": True}} if b"upsertBucket" in body else {"model": None}
        answer = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST


@pytest.fixture
def served(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that fails as the test's parameter says, and W&B online at its address."""
    import wandb

    with Server(request.param) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("WANDB_BASE_URL", server.address)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        wandb.teardown()  # W&B reads its settings once a process
        yield server
        server.released.set()
        wandb.teardown()
        server.shutdown()


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("quick_scores")
@pytest.mark.parametrize(
    ("served", "step"), [("at once", "start"), ("hangs", "finish"), ("dies", "finish")], indirect=["served"]
)
def test_no_run_fails_or_waits_for_a_server_that_does_not_answer(
    short: Callable[..., DictConfig], caplog: pytest.LogCaptureFixture, served: Server, step: str
) -> None:
    """Silent from the start, silent from the middle, gone in the middle."""
    waits = ["logger=wandb", "logger.mode=online", "logger.init_timeout=2", "logger.finish_timeout=2"]
    run = run_cell(short("method=lora", *waits))
    assert run is not None and run.metrics
    assert served.failed.is_set(), "the server was asked, and failed"
    assert [record.message for record in caplog.records if f"W&B could not {step}" in record.message]
    if step == "finish":
        (kept,) = run.path.parents[1].glob(f"wandb/run-*/run-{run.key}.wandb")
        assert kept.stat().st_size > 0, "what was not uploaded can be: wandb sync"


@pytest.fixture
def typed(gpt2_checkpoint: Path, tmp_path: Path) -> list[str]:
    """A command that trains CoLA for a few steps with a small RoBERTa (its metric takes no time)."""
    from helpers.method_models import stock_model
    from transformers import AutoTokenizer, RobertaForMaskedLM

    tokenizer = AutoTokenizer.from_pretrained(gpt2_checkpoint)
    tokenizer.add_special_tokens({"pad_token": "<pad>", "sep_token": "</s>", "cls_token": "<s>"})
    tokenizer.save_pretrained(tmp_path / "model")
    model = RobertaForMaskedLM(stock_model("roberta").config)  # without a head, as the released one
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path / "model")
    settings = ["scale=tiny", "model=roberta-tiny", "task=glue/cola", "method=lora", "method.rank=2", "logger=wandb"]
    settings += [f"model.path={tmp_path / 'model'}", "model.hidden_size=32", f"results_dir={tmp_path}"]
    settings += ["task.max_train_examples=32", "task.max_test_examples=8", "task.train.epochs=1"]
    settings += ["task.train.max_length=37", "task.train.logging_steps=1"]
    return [sys.executable, "scripts/train.py", *settings]


def test_a_silent_server_leaves_one_warning_and_a_clean_exit(typed: list[str], tmp_path: Path) -> None:
    """W&B has a process of its own and hooks at the exit: the command as it is typed."""
    with Server("at once") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {**os.environ, "WANDB_BASE_URL": server.address, "WANDB_API_KEY": KEY}
        typed += ["logger.mode=online", "logger.init_timeout=1"]
        done = subprocess.run(typed, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        server.released.set()
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("runs/*/run.json"))
    assert done.stdout.count("W&B could not start") == 1 and "Traceback" not in done.stderr


def test_no_run_fails_because_wandbs_disk_is_full(typed: list[str], tmp_path: Path) -> None:
    """A file system of 16 kB on W&B's folder, in a mount namespace of its own."""
    folder = tmp_path / "wandb"
    folder.mkdir()
    isolated = ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size=16k tmpfs {folder} && exec "$@"', "sh"]
    try:
        subprocess.run([*isolated, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system needs Linux's user namespaces")
    done = subprocess.run(
        [*isolated, *typed, "logger.mode=offline"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("runs/*/run.json"))
    assert done.stdout.count("W&B cannot write to") == 1 and "Traceback" not in done.stderr, done.stderr
