"""What an ordinary fine-tuning reaches on GLUE: two points below it is the floor of the laptop scale's records.

    python tests/helpers/ordinary_glue.py mrpc ~/.cache/delta-lora/models/minilm-l6-… $DELTA_LORA_DATA/glue

Nothing of the suite trains, encodes or scores here: Transformers' classifier and Trainer, all weights, three epochs of
16, a tenth of warm-up and linear decay, the tokenizer's own segments, and of three learning rates the best on a tenth
of the training rows, which is held out of training for it.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from datasets import Dataset, load_dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

RATES = (3e-5, 1e-4, 3e-4)
HELD_OUT, SEED, EPOCHS, BATCH, MOST = 10, 1, 3, 16, 16000
COLUMNS = {
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "mrpc": ("sentence1", "sentence2"),
    "rte": ("sentence1", "sentence2"),
    "stsb": ("sentence1", "sentence2"),
    "qnli": ("question", "sentence"),
    "qqp": ("question1", "question2"),
    "mnli": ("premise", "hypothesis"),
}


def score(task: str, outputs: np.ndarray, labels: np.ndarray) -> float:
    """In percent: Matthews' (of two classes it is Pearson's), Pearson's correlation, or the accuracy."""
    found = outputs[:, 0] if task == "stsb" else outputs.argmax(1)
    if task in ("cola", "stsb"):
        return 100 * float(np.corrcoef(found, labels)[0, 1]) if found.std() else 0.0
    return 100 * float((found == labels).mean())


def fine_tuned(task: str, model: str, rate: float, train: Dataset, scored: Dataset) -> float:
    """The score on some rows of a model that was trained on others."""
    set_seed(SEED)
    labels = 1 if task == "stsb" else len(set(train["label"]))
    tokenizer = AutoTokenizer.from_pretrained(model)
    with TemporaryDirectory() as folder:
        trainer = Trainer(
            AutoModelForSequenceClassification.from_pretrained(model, num_labels=labels),
            TrainingArguments(
                folder,
                learning_rate=rate,
                num_train_epochs=EPOCHS,
                per_device_train_batch_size=BATCH,
                warmup_steps=0.1,
                weight_decay=0.01,
                use_cpu=True,
                bf16=torch.cpu.get_capabilities().get("avx512_bf16", False),
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                seed=SEED,
            ),
            data_collator=DataCollatorWithPadding(tokenizer),
            train_dataset=train,
        )
        trainer.train()
        found = trainer.predict(scored)
    return score(task, np.asarray(found.predictions, dtype=np.float64), np.asarray(found.label_ids))


def rows(task: str, folder: Path, model: str, split: str) -> Dataset:
    """A split's rows with their tokens."""
    found = load_dataset("parquet", data_files=[str(path) for path in sorted((folder / task).glob(f"{split}-*"))])[
        "train"
    ]
    tokenizer = AutoTokenizer.from_pretrained(model)
    return found.map(
        lambda batch: tokenizer(*(batch[name] for name in COLUMNS[task]), truncation=True, max_length=256), batched=True
    )


def main(task: str, model: str, folder: str) -> None:
    """Print the scores of the rates on the held-out rows, and the best one's on the validation set."""
    train = rows(task, Path(folder), model, "train")
    train = train.select(range(min(MOST, len(train))))
    kept = [i for i in range(len(train)) if i % HELD_OUT != HELD_OUT - 1]
    held = [i for i in range(len(train)) if i % HELD_OUT == HELD_OUT - 1]
    found = {rate: fine_tuned(task, model, rate, train.select(kept), train.select(held)) for rate in RATES}
    for rate, value in found.items():
        print(f"{task}: {rate:g}: {value:.2f} on {len(held)} held-out training rows", flush=True)
    best = max(found, key=found.__getitem__)
    split = "validation_matched" if task == "mnli" else "validation"
    reached = fine_tuned(task, model, best, train, rows(task, Path(folder), model, split))
    print(f"{task}: {reached:.2f} on the validation set at {best:g}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main(*sys.argv[1:])
