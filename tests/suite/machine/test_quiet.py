"""What libraries have to say of themselves stays off the terminal."""

import subprocess
import sys

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
