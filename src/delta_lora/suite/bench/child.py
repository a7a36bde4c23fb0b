"""Peak memory and checkpoint size of one method, each in a process that does nothing else.

``python -m delta_lora.suite.bench.child '{"model": …, "method": …, "device": …, "batch_size": …}'`` prints one line.
"""

import json
import os
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from delta_lora.suite.bench.cases import batches, start
from delta_lora.suite.plan.timing import Session


@dataclass(frozen=True)
class Case:
    """One method on one model (names of :mod:`delta_lora.suite.bench.cases`)."""

    model: str
    method: str
    device: str
    batch_size: int


def in_own_process(case: Case) -> dict[str, int]:
    """:func:`footprint`, in a fresh process; its answer is the line that starts as JSON, whatever else is printed."""
    command = [sys.executable, "-m", __name__, json.dumps(asdict(case))]
    variables = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=variables)
    measured: list[dict[str, int]] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return measured[-1]


def footprint(case: Case) -> dict[str, int]:
    """Peak memory and checkpoint size, in bytes."""
    session = start(case.model, case.method, case.device)
    for batch in batches(case.model, 3, case.batch_size, case.device):
        session.step(batch)
    peak = torch.cuda.max_memory_allocated() if case.device == "cuda" else peak_resident_bytes()
    return {"peak_memory_bytes": peak, "checkpoint_bytes": checkpoint_bytes(session)}


def checkpoint_bytes(session: Session) -> int:
    """Bytes of everything that a checkpoint to resume from holds."""
    from peft import PeftModel, get_peft_model_state_dict  # after the suite, which keeps its imports quiet

    adapter = isinstance(session.model, PeftModel)
    weights = get_peft_model_state_dict(session.model, save_embedding_layers=False) if adapter else None
    tensors = list((weights or dict(session.model.named_parameters())).values())
    for state in session.optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, Tensor)]
    with TemporaryDirectory() as parent:
        session.arguments.output_dir = parent
        folder = Path(parent) / f"checkpoint-{session.state.global_step}"
        folder.mkdir()
        session.events.on_save(session.arguments, session.state, session.control)  # what the method's callback adds
        return sum(tensor.nbytes for tensor in tensors) + sum(path.stat().st_size for path in folder.iterdir())


def peak_resident_bytes() -> int:
    """Largest resident set of this process so far."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would also count the parent's size at the fork
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(json.dumps(footprint(Case(**json.loads(sys.argv[1])))))
