"""Delta-LoRA under DistributedDataParallel: two gloo processes on the CPU."""

import socket
from pathlib import Path

import pytest
import torch
from helpers.ddp_loop import K, fresh_model, train, work
from torch import multiprocessing

from delta_lora import DeltaLora


@pytest.mark.parametrize("anchor", ["fold", "branch"])
def test_two_processes_end_with_the_same_weights_as_one(anchor: str, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(work, args=(port, anchor, str(tmp_path)), nprocs=2)
    (first, anchors), (second, others) = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(entry["B"], others["layers"][name]["B"]) for name, entry in anchors["layers"].items())

    alone = fresh_model()
    delta = DeltaLora(alone, 2.0, K, anchor=anchor)
    train(alone, delta, [0, 1])
    assert delta.anchored
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(first[name], tensor, rtol=0, atol=1e-9)
