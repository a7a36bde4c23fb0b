"""What is kept of a finished run beside the tables: what they are made from, small enough for a repository."""

import gzip
import json
from pathlib import Path

from delta_lora.files import write_whole
from delta_lora.suite.records.records import Run, checked_run, kept_folder, write_record

FILES = ("predictions.jsonl", "similarity.json", "log.jsonl")
# Of a classified item, what no score needs: its texts are in the data set, under its id.
TEXTS = ("input", "sentences")
FOLDERS = {"data_dir": None, "results_dir": "results", "cache_dir": "~/.cache/delta-lora"}  # not those of a machine


def keep_run(run: Run, results_dir: Path) -> Path | None:
    """Copy a run's record, predictions, similarities and log, compressed, to ``<results>/<scale>/runs/<key>``.

    Returns:
        The folder; None where an undamaged record is in it already.
    """
    folder = kept_folder(results_dir, run.config["scale"]["name"], run.key)
    try:
        checked_run(folder)
        return None
    except (FileNotFoundError, ValueError):  # not there, or damaged
        folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (run.path / name).is_file():
            text = without_texts(run) if name == FILES[0] else run.text(name)
            write_whole(folder / f"{name}.gz", gzip.compress(text.encode(), 9, mtime=0))
    facts = {"metrics": run.metrics, "counts": run.counts, "train": run.train, "environment": run.environment}
    write_record(folder, {"key": run.key, "config": run.config | FOLDERS, **facts})
    return folder


def without_texts(run: Run) -> str:
    """Its predictions, those of classes without the texts that were classified."""
    lines = run.predictions()
    if not all("by_epoch" in line for line in lines):
        return run.text(FILES[0])
    short = [{name: value for name, value in line.items() if name not in TEXTS} for line in lines]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in short)
