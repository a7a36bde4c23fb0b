"""What tables will cost, before anything is spent: cells, hours as measured on this machine, downloads, disk."""

import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from transformers import AutoConfig, PretrainedConfig

from delta_lora.errors import UserError
from delta_lora.methods.base import Method
from delta_lora.models.load import PUBLISHED, random_model
from delta_lora.models.settings import made_here
from delta_lora.suite.config.cell import Cell, build_cell
from delta_lora.suite.config.grid import compose_grid
from delta_lora.suite.machine.resources import KEPT_CHECKPOINTS
from delta_lora.suite.plan.prefetch import Download, local_folder, needs, online
from delta_lora.suite.plan.sample import Sample, draw_sample
from delta_lora.suite.plan.speeds import Speeds, plain_config, training_work, work_key
from delta_lora.suite.plan.timing import time_cell
from delta_lora.suite.records.checkpoints import SEAL
from delta_lora.suite.records.phases import PREDICTED, TRAINED, finished_phase
from delta_lora.suite.records.records import find_run, run_folder

log = logging.getLogger(__name__)
FLOAT = 4  # bytes of a trained parameter, and of each of AdamW's two moments of it


@dataclass(frozen=True)
class PlannedCell:
    """One cell of a table.

    Args:
        cell: checked, but for the GPU and the run that it starts from.
        label: what tells it from the table's other cells, but for the seed.
        counted: the table before in which it stands too; None: it is counted here.
        state: ``done``, ``started`` or ``to do``.
        step: optimizer steps that a checkpoint has; all of them where training is done.
        examples_per_second: measured; None where nothing has measured it.
        hours: what is left of it on one device; None where nothing has measured it.
    """

    cell: Cell
    label: str
    counted: str | None
    state: str
    step: int
    examples_per_second: float | None
    hours: float | None


@dataclass(frozen=True)
class Disk:
    """Bytes on the results' disk; None: a model's size is not known here."""

    checkpoints: int | None
    kept: int | None
    free: int


@dataclass(frozen=True)
class Plan:
    """The tables' cells, by table, and what all of them need together."""

    tables: dict[str, list[PlannedCell]]
    device: str
    downloads: list[tuple[str, Download | bool]]  # name; its size, or, where nobody could be asked, whether it is here
    disk: Disk

    @property
    def cells(self) -> list[PlannedCell]:
        """Each cell once."""
        return [planned for cells in self.tables.values() for planned in cells if planned.counted is None]


def compose_tables(tables: Iterable[Sequence[str]]) -> dict[str, tuple[DictConfig, list[Cell]]]:
    """Each table's configuration and its cells, by name, from the overrides that ``scripts/train.py -m`` will be given.

    A cell that cannot be run here, most often since its data are not in ``data_dir``, is reported and left out.

    Raises:
        UserError, HydraException: no such table, or no cell that could be run.
    """
    found: dict[str, tuple[DictConfig, list[Cell]]] = {}
    wrong: dict[str, UserError] = {}
    for overrides in tables:
        grid = compose_grid(overrides)
        name = next(word.removeprefix("table=") for word in overrides if word.startswith("table="))
        found[name] = grid.config, []
        for cell in grid.cells:
            try:
                found[name][1].append(build_cell(cell.config, to_run=False))
            except UserError as error:
                wrong.setdefault(str(error), error)
    if wrong and not any(cells for _, cells in found.values()):
        raise next(iter(wrong.values()))
    for line in wrong:
        log.warning("left out of the plan: %s", line)
    return found


def time_missing(tables: dict[str, tuple[DictConfig, list[Cell]]]) -> Iterator[str]:
    """Time a few steps of each cell that is to run and that nothing here has timed; says what was found, one by one."""
    samples: dict[str, Sample] = {}
    for cell in (cell for _, cells in tables.values() for cell in cells):
        speeds = Speeds(cell.results_dir, cell.cache_dir)
        known = speeds.rate(cell) is not None and speeds.test_seconds(cell) is not None
        if known or find_run(cell.results_dir, cell.key) is not None:
            continue
        name, work = (
            f"{cell.config.task.name} / {cell.spec.name}",
            work_key(training_work(plain_config(cell))["task"]),
        )
        try:
            sample = samples.setdefault(f"{name} {work}", samples.get(f"{name} {work}") or draw_sample(cell))
            time_cell(cell, sample, speeds)
        except UserError as error:
            yield f"{name} / {cell.config.method.name}: not timed: {error}"
            continue
        yield f"{name} / {cell.config.method.name}: {speeds.rate(cell):.2f} examples/s on {speeds.device}"


def make_plan(tables: dict[str, tuple[DictConfig, list[Cell]]], jobs: int) -> Plan:
    """Look at records, caches and the disk; nothing is trained, and only the sizes of downloads are asked for.

    Args:
        tables: from :func:`compose_tables`.
        jobs: cells at a time, each of which has checkpoints on the disk.
    """
    everything = [cell for _, cells in tables.values() for cell in cells]
    speeds = Speeds(everything[0].results_dir, everything[0].cache_dir)
    first: dict[str, str] = {}
    planned: dict[str, list[PlannedCell]] = {}
    for name, (config, cells) in tables.items():
        planned[name] = []
        for cell, label in zip(cells, labels(config, cells), strict=True):
            counted = first.get(cell.key)
            first.setdefault(cell.key, name)
            planned[name].append(plan_cell(cell, label, counted, speeds))
    return Plan(planned, speeds.device, sizes(everything), disk(planned, jobs))


def labels(config: DictConfig, cells: Sequence[Cell]) -> list[str]:
    """What tells a table's cells apart: what names its rows, and the task where there are several."""
    places = dict(config.table.rows) if config.get("table") else {"method": "method.name"}
    tasks = len({cell.config.task.name for cell in cells}) > 1
    found = []
    for cell in cells:
        parts = [cell.config.task.name] if tasks else []
        for title, place in places.items():
            if (value := OmegaConf.select(cell.config, str(place))) is None:
                continue
            parts.append(str(value) if place in ("method.name", "method.label") else f"{title} {value}")
        found.append(" ".join(parts))
    return found


def plan_cell(cell: Cell, label: str, counted: str | None, speeds: Speeds) -> PlannedCell:
    """How far a cell is, and what is left of it."""
    folder, total = run_folder(cell.results_dir, cell.key), cell.schedule.total_steps
    rate, test_seconds = speeds.rate(cell), speeds.test_seconds(cell)
    if find_run(cell.results_dir, cell.key) is not None:
        return PlannedCell(cell, label, counted, "done", total, rate, 0.0)
    predicted = finished_phase(folder, PREDICTED) is not None
    step = total if predicted or finished_phase(folder, TRAINED) is not None else last_step(folder)
    hours = None
    if rate is not None and test_seconds is not None:
        training = (total - step) * cell.config.task.train.batch_size / rate
        hours = (training + (0.0 if predicted else test_seconds)) / 3600
    return PlannedCell(cell, label, counted, "started" if step else "to do", step, rate, hours)


def last_step(folder: Path) -> int:
    """The newest whole checkpoint's step; 0 where there is none. Whether it is damaged is seen when it is loaded."""
    seals = folder.glob(f"checkpoints/checkpoint-*/{SEAL}")
    return max((int(path.parent.name.split("-")[1]) for path in seals), default=0)


def sizes(cells: Sequence[Cell]) -> list[tuple[str, Download | bool]]:
    """What has to come from the internet: each one's size, or, where nobody can be asked, whether it is here."""
    wanted = needs(cell.config for cell in cells)
    reachable = any(need.asks for need in wanted) and online()
    found: list[tuple[str, Download | bool]] = []
    for need in wanted:
        try:
            found.append((need.name, need.describe() if reachable or not need.asks else need.here()))
        except UserError:
            found.append((need.name, need.here()))
    return found


def disk(tables: dict[str, list[PlannedCell]], jobs: int) -> Disk:
    """Of the cells that are not done: checkpoints of ``jobs`` at a time, and the adapters that stay."""
    planned = [cell for cells in tables.values() for cell in cells if cell.counted is None]
    folder = planned[0].cell.results_dir.absolute()
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.is_dir())).free
    known: dict[str, tuple[int, int] | None] = {}
    for cell in planned:
        if cell.state != "done" and (shape := shape_of(cell.cell)) not in known:
            known[shape] = parameters(cell.cell)
    found = [known[shape_of(cell.cell)] for cell in planned if cell.state != "done"]
    counted = [entry for entry in found if entry is not None]
    if len(counted) < len(found):
        return Disk(None, None, free)
    running = sorted((trained for trained, _ in counted), reverse=True)[:jobs]
    kept = sum(exported for _, exported in counted)
    return Disk((KEPT_CHECKPOINTS + 1) * 3 * FLOAT * sum(running), FLOAT * kept, free)


def shape_of(cell: Cell) -> str:
    """Equal for cells with the same trained parameters."""
    work = training_work(plain_config(cell))
    return work_key([work["model"], work["method"], cell.task.model_settings(), cell.config.task.get("save_start")])


def parameters(cell: Cell) -> tuple[int, int] | None:
    """Trained parameters, and those of the files that stay (adapter, start of other runs).

    The model has no weights, only shapes. None: its shape is not known here.
    """
    group = cell.config.model
    folder = tiny_folder(group.name, cell.cache_dir) if made_here(group) else local_folder(group, cell.cache_dir)
    if folder is not None and (folder / "config.json").is_file():
        config: PretrainedConfig = AutoConfig.from_pretrained(folder)
    elif group.path in PUBLISHED:
        config = PUBLISHED[group.path]()
    else:
        return None
    method: Method = instantiate(cell.config.method)
    with torch.device("meta"):
        method.prepare(random_model(group.kind, config, **cell.task.model_settings()), cell.spec, cell.schedule)
    counts = method.counts()
    started = counts.trainable if cell.config.task.get("save_start") else 0
    return counts.trainable + counts.head, method.exported_size() + started


def tiny_folder(name: str, cache_dir: Path) -> Path:
    """Where a miniature model is, once it has been made."""
    from delta_lora.tiny.recipes import MODELS

    return cache_dir / "tiny-models" / f"{name}-{MODELS[name].key}"
