"""The rooms and the order in which they may import each other (docs/architecture.md)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ROOT

SOURCE = ROOT / "src" / "delta_lora"
# What lies beside the rooms and is not the library, which is what people take home.
BESIDE = ("errors", "streams", "settings", "places", "files", "folders", "hub")
# A room imports from those above it, and from itself, never from one below or beside it.
ORDER = [
    ("errors", "streams"),
    ("settings", "places", "files", "paper"),
    ("folders", "hub"),
    ("tiny",),
    ("models",),
    ("library",),
    ("metrics",),
    ("methods", "tasks"),
    ("suite.machine",),
    ("suite.records",),
    ("suite.config",),
    ("suite.tables",),
    ("suite.run",),
    ("suite.plan", "suite.pages"),
    ("suite.sweep", "suite.bench"),
    ("suite.cli",),
    ("scripts",),
]
LONGEST = 250


def room(module: str) -> str:
    """``delta_lora.suite.run.recipe`` → ``suite.run``; the library's modules are one room."""
    parts = module.split(".")
    if parts[0] != "delta_lora":
        return "scripts"
    if len(parts) == 1 or ((SOURCE / f"{parts[1]}.py").is_file() and parts[1] not in BESIDE):
        return "library"
    return ".".join(parts[1:3]) if parts[1] == "suite" and len(parts) > 2 else parts[1]


def modules() -> dict[str, Path]:
    """Every module of the source, and every script, by its dotted name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE.parent).with_suffix("").as_posix().replace("/", ".")
        found[name.removesuffix(".__init__")] = path
    return found | {f"scripts.{path.stem}": path for path in sorted((ROOT / "scripts").glob("*.py"))}


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules of ours that a file imports, also inside functions and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "delta_lora":
            for alias in node.names:
                yield f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in known else node.module


def graph() -> dict[str, set[str]]:
    """Module → the modules of ours that it imports."""
    known = modules()
    return {name: set(imports(path, known)) - {name} for name, path in known.items()}


def test_every_module_is_in_a_room_that_the_order_names() -> None:
    rooms = {room(name) for name in modules()} - {"suite"}
    assert rooms <= {name for level in ORDER for name in level}


def test_imports_point_one_way() -> None:
    level = {name: place for place, names in enumerate(ORDER) for name in names}
    wrong = [
        f"{module} imports {other}"
        for module, others in graph().items()
        for other in others
        if (a := room(module)) != (b := room(other)) and "suite" not in (a, b) and level[b] >= level[a]
    ]
    assert not wrong


def test_no_module_imports_itself_by_way_of_others() -> None:
    edges, done = graph(), set[str]()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join([*path[path.index(module) :], module])
        if module not in done:
            for other in sorted(edges[module]):
                walk(other, (*path, module))
            done.add(module)

    for module in edges:
        walk(module, ())


def test_a_circle_and_an_arrow_upward_would_be_seen(tmp_path: Path) -> None:
    one = tmp_path / "one.py"
    one.write_text("def late() -> None:\n    from delta_lora.suite.cli import guard\n    guard()\n")
    assert list(imports(one, modules())) == ["delta_lora.suite.cli"]
    assert room("delta_lora.suite.cli") == "suite.cli"
    assert room("delta_lora.anchor") == room("delta_lora") == "library"


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_fits_in_the_head(name: str) -> None:
    assert len(modules()[name].read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_the_page_names_every_module_of_the_library() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    library = [path.name for path in SOURCE.glob("[a-z]*.py") if path.stem not in BESIDE]
    assert [name for name in library if f"`{name}`" not in page] == []


def test_the_page_shows_the_rooms_in_this_order() -> None:
    picture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("```")[1]
    shown = [tuple(re.split(" · ", line.split("  ")[0].strip())) for line in picture.strip().splitlines()]
    assert shown == ORDER
