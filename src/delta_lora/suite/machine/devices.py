"""One GPU a process, where several cells run at a time on one machine."""

import fcntl
import os
import platform
import tempfile
from pathlib import Path

import torch
from filelock import BaseFileLock, Timeout

from delta_lora.files import locked

# Asking for the number of GPUs then does not start CUDA, after which CUDA_VISIBLE_DEVICES would change nothing.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

_taken: list[BaseFileLock] = []  # held for the life of the process


def take_gpu() -> None:
    """Make this process see one GPU that no other process of the suite on this machine has taken.

    Without it every cell of ``JOBS=4`` would spread over all GPUs. Does nothing where there is one GPU or none, under
    ``torchrun`` (which gives each process its own), and in a process that has one already. Where all are taken, the
    processes share: the number of this process decides.
    """
    if _taken or "LOCAL_RANK" in os.environ or torch.cuda.is_initialized():
        return
    count = torch.cuda.device_count()
    if count < 2:
        return
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = listed.split(",") if listed else [str(number) for number in range(count)]
    for name in names:
        if (lock := take(name)) is not None:
            _taken.append(lock)
            os.environ["CUDA_VISIBLE_DEVICES"] = name
            return
    os.environ["CUDA_VISIBLE_DEVICES"] = names[os.getpid() % len(names)]


def take(name: str) -> BaseFileLock | None:
    """Lock a GPU; None where another process has it, of this user or of another on the same machine.

    Each user has lock files of their own: nobody may open another's for writing in a folder that all share.
    """
    folder, stem = Path(tempfile.gettempdir()), f"delta-lora-gpu-{name.replace('/', '-')}"
    own = folder / f"{stem}-user-{os.getuid()}.lock"
    try:
        lock = locked(own, timeout=0)
    except (Timeout, OSError):
        return None
    if any(is_held(other) for other in folder.glob(f"{stem}-user-*.lock") if other != own):
        lock.release()
        return None
    return lock


def is_held(path: Path) -> bool:
    """Whether some process holds a lock file; one that may not be looked at is taken to be held."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go of with the file
        return False
    except FileNotFoundError:
        return False
    except OSError:
        return True


def has_gpu() -> bool:
    """Whether there is a CUDA GPU; asking leaves :func:`take_gpu` its choice."""
    return torch.cuda.is_available()


def device_name() -> str:
    """What this process computes on: the GPU's name, or the CPU and its threads."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"


def processor() -> str:
    """The CPU's name, and what PyTorch uses of its instructions: sums in bf16 differ between them."""
    found = torch.cpu.get_capabilities()
    used = ["AVX512_BF16"] if found.get("avx512_bf16") else []
    name = found.get("cpu_name") or platform.processor() or platform.machine()
    return ", ".join([name, torch.backends.cpu.get_cpu_capability(), *used])
