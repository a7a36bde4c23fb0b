"""The lists of packages agree, hold everything that is imported, and the library needs four packages alone."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from shutil import copy2, copytree
from typing import Any

import pytest
import yaml
from helpers import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = ROOT / "src" / "delta_lora"
OURS = ("delta_lora", "hydra_plugins")


def asked_for(*extras: str) -> Iterator[Requirement]:
    """What the project and these of its extras ask for, extras within extras opened."""
    lines = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    for requirement in map(Requirement, (line for group in lines for line in group)):
        if requirement.name == PROJECT["name"]:
            yield from asked_for(*requirement.extras)
        else:
            yield requirement


def names(requirements: Iterable[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def imported(path: Path) -> set[str]:
    """All modules that a file imports, also within functions, by their full names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def library() -> set[Path]:
    """The files of the library: what DeltaLora, DeltaLoraCallback and Algorithm 1 import of ours, and so on."""
    found: set[Path] = set()
    waiting = [SOURCES / "__init__.py", *(SOURCES / f"{name}.py" for name in ("delta", "callback", "reference"))]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            places = [ROOT / "src" / name.replace(".", "/") for name in imported(path) if name.startswith("delta_lora")]
            waiting += [place.with_suffix(".py") for place in places if place.with_suffix(".py").is_file()]
            waiting += [place / "__init__.py" for place in places if (place / "__init__.py").is_file()]
    return found


def packages_of(paths: Iterable[Path]) -> set[str]:
    """The packages on PyPI that these files import."""
    tops = {name.split(".")[0] for path in paths for name in imported(path)}
    known = packages_distributions()
    return {canonicalize_name(known.get(top, [top])[0]) for top in tops - {*sys.stdlib_module_names, *OURS}}


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def test_the_lock_satisfies_pyproject() -> None:
    for requirement in asked_for("dev"):
        version = locked().get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in requirements.lock"
        assert requirement.specifier.contains(version), f"{requirement} but the lock has {version}"


PARSE = """
from pip._internal.network.session import PipSession
from pip._internal.req.req_file import parse_requirements
for line in parse_requirements("conda.requirements.txt", session=PipSession()):
    print("-e" if line.is_editable else "pin", line.requirement)
"""


def test_conda_gets_the_same_pins(tmp_path: Path) -> None:
    """conda gives pip the list as a requirements file beside environment.yml; pip's own parser reads it here."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, _, pip = environment["dependencies"]
    assert python == "python=3.11"
    copy2(ROOT / "requirements.lock", tmp_path)
    (tmp_path / "conda.requirements.txt").write_text("\n".join(pip["pip"]))
    done = subprocess.run([sys.executable, "-c", PARSE], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *pins, project = done.stdout.splitlines()
    assert {canonicalize_name(pin.split()[1].split("==")[0]) for pin in pins} == locked().keys()
    # pip resolves the project with the pins: what it asks for is among them (test_the_lock_satisfies_pyproject).
    assert project == "-e ."


def test_every_pin_is_exact() -> None:
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+|", line), line


def test_the_library_imports_four_packages_alone() -> None:
    assert names(asked_for()) == {"torch", "transformers", "peft", "safetensors"}
    assert {"delta.py", "callback.py", "export.py", "gpt2.py"} <= {path.name for path in library()}
    assert packages_of([*library(), *(ROOT / "examples").glob("any_model.py")]) <= names(asked_for())


def test_the_suite_declares_every_package_that_it_imports() -> None:
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
    plugins = [path for path in files if "hydra_plugins" in path.parts]
    assert packages_of(set(files) - set(plugins)) <= names(asked_for("suite"))
    assert packages_of(plugins) <= names(asked_for("ray"))


def needed(name: str, found: set[str]) -> set[str]:
    """A package and all that it asks for here, by name."""
    name = canonicalize_name(name)
    if name not in found:
        try:
            requirements = distribution(name).requires or []
        except PackageNotFoundError:  # for another platform
            return found
        found.add(name)
        for requirement in map(Requirement, requirements):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed(requirement.name, found)
    return found


@pytest.fixture(scope="module")
def library_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with this project's wheel and what the library asks for; nothing is loaded."""
    folder = tmp_path_factory.mktemp("alone")
    source = folder / "source"
    copytree(ROOT / "src", source / "src", ignore=lambda _, entries: {e for e in entries if e.endswith("egg-info")})
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        copy2(ROOT / file, source / file)
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    venv.create(folder / "env", symlinks=True)
    packages = next((folder / "env").glob("lib/python*/site-packages"))
    (wheel,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    found: set[str] = set()
    for requirement in distribution_requires(packages):
        needed(requirement, found)
    for name in found:
        installed = distribution(name)
        for top in {file.parts[0] for file in installed.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(installed.locate_file(top))))
    return folder / "env" / "bin" / "python"


def distribution_requires(packages: Path) -> list[str]:
    """What the wheel itself asks for, without extras."""
    (metadata,) = packages.glob("delta_lora-*.dist-info/METADATA")
    lines = re.findall(r"^Requires-Dist: (.*)$", metadata.read_text(), re.MULTILINE)
    return [r.name for r in map(Requirement, lines) if r.marker is None or r.marker.evaluate({"extra": ""})]


def run_alone(python: Path, *arguments: str, cwd: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run([python, *arguments], cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


SUITES_OWN = ("hydra", "omegaconf", "evaluate", "datasets", "pandas", "sacrebleu", "sklearn", "wandb", "pooch")

TRAINER = """
from importlib.util import find_spec
assert not [name for name in %r if find_spec(name)]
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from delta_lora import DeltaLoraCallback
sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=11)
model = get_peft_model(LlamaForCausalLM(LlamaConfig(**sizes)), LoraConfig(r=2, target_modules=["q_proj"]))
callback = DeltaLoraCallback(update_ratio=2.0, start_steps=1)
arguments = TrainingArguments("run", max_steps=4, report_to=[], disable_tqdm=True, use_cpu=True)
row = {"input_ids": list(range(8)), "labels": list(range(8))}
Trainer(model, arguments, train_dataset=[row] * 8, callbacks=[callback]).train()
callback.delta.export("adapter")
print(callback.delta.anchored)
"""


def test_the_library_trains_and_exports_where_it_is_installed_alone(library_alone: Path, tmp_path: Path) -> None:
    example = ROOT / "examples" / "any_model.py"
    *said, last = run_alone(library_alone, str(example), str(example), cwd=tmp_path).splitlines()
    losses = [float(line.rsplit(" ", 1)[1]) for line in said if "mean loss" in line]
    assert len(losses) == 4 and losses[3] < losses[0] - 0.5  # it goes on learning after K = 50
    assert float(last.removeprefix("largest difference of logits: ")) < 1e-4
    assert run_alone(library_alone, "-c", TRAINER % (SUITES_OWN,), cwd=tmp_path).splitlines()[-1] == "True"


BLOCK = re.compile(r"^```bash\n.*?^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\w+=\S+ )*(?:python|torchrun|wandb) ", re.MULTILINE)


@pytest.mark.parametrize(
    "page", sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]), ids=lambda page: page.name
)
def test_a_page_activates_the_environment_before_its_first_python_command(page: Path) -> None:
    """In a user's own shell ``python`` is another one, which has none of the packages."""
    shown = "".join(BLOCK.findall(page.read_text(encoding="utf-8")))
    first = COMMAND.search(shown)
    assert first is None or "source .venv/bin/activate" in shown[: first.start()]


def test_importing_the_library_loads_nothing_of_the_suite() -> None:
    code = f"import sys, delta_lora.delta, delta_lora.callback\nprint([n for n in {SUITES_OWN} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_tests_of_a_group_run_in_one_process(tmp_path: Path) -> None:
    """Else each process of `make test` makes what a group shares: trainings, composed tables, a copy of the project."""
    (tmp_path / "test_group.py").write_text(
        "import os, pathlib, pytest\n"
        "@pytest.mark.xdist_group('one')\n"
        "@pytest.mark.parametrize('number', range(6))\n"
        "def test_one(number):\n"
        f"    pathlib.Path({str(tmp_path)!r}, f'ran-{{number}}').write_text(os.environ['PYTEST_XDIST_WORKER'])\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    (options,) = re.findall(r"pytest (-q -n 2 --dist \w+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    command = [sys.executable, "-m", "pytest", *options.split(), "-c", os.devnull, "--rootdir", tmp_path, tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=clean, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    workers = [path.read_text() for path in sorted(tmp_path.glob("ran-*"))]
    assert len(workers) == 6 and len(set(workers)) == 1
