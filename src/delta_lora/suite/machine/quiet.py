"""The terminal is for what concerns the run: libraries give no advice there, and no bars where nobody watches."""

import logging
import sys
import warnings
from importlib.util import find_spec


def quiet_imports() -> None:
    """What must hold before PEFT is imported; ``delta_lora.suite`` calls it when it is.

    Where bitsandbytes is installed, PEFT imports it, and it warns of a kernel that no method here needs
    ("Failed to load CPU gemm_4bit_forward …").
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def quiet_libraries() -> None:
    """No advice from Transformers and Datasets, nor progress bars of theirs where standard error is no terminal."""
    import transformers

    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    transformers.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
        if find_spec("datasets"):  # a machine that only trains and decodes need not have it
            import datasets

            datasets.disable_progress_bars()
