"""What libraries have to say of themselves stays off the terminal."""

import subprocess
import sys
from pathlib import Path

# Beside bitsandbytes, PEFT's import warns so on processors with AVX-512 BF16; the second line stands for the others.
IMPORTS = """
import logging
import delta_lora.suite.cli
import peft
logging.getLogger("bitsandbytes.backends.cpu.ops").warning("Failed to load CPU gemm_4bit_forward")
"""


def test_peft_says_nothing_of_a_kernel_that_no_method_needs() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    assert "gemm_4bit_forward" not in done.stdout + done.stderr


def test_neither_does_the_benchmark() -> None:
    """It imports PEFT as soon as it starts; seen where bitsandbytes is installed and the processor has the kernel."""
    script = Path(__file__).parents[3] / "scripts" / "bench.py"
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
    assert "gemm_4bit_forward" not in done.stdout + done.stderr
