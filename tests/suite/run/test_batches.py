"""The order of the data: batches of similar length come in random order, and without grouping it is a plain shuffle."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

from delta_lora.suite.run.batches import EpochSampler


def tokens_a_step(lengths: list[int], grouped: bool) -> tuple[np.ndarray, float]:
    """Target tokens of each step of 8, and padded tokens an example."""
    order = list(EpochSampler(lengths, 8, 1, lambda: 0, grouped))
    assert sorted(order) == list(range(len(lengths)))
    steps = [[lengths[i] for i in order[start : start + 8]] for start in range(0, len(order), 8)]
    padded = sum(len(step) * max(step) for step in steps) / len(lengths)
    return np.array([sum(step) for step in steps if len(step) == 8], dtype=float), padded


def lag_1(values: np.ndarray) -> float:
    """Correlation of each value with the next."""
    return float(np.corrcoef(values[:-1], values[1:])[0, 1])


@pytest.fixture(scope="module")
def lengths() -> list[int]:
    generator = np.random.default_rng(0)
    return [int(n) for n in np.clip(generator.normal(55, 13, 8003), 20, 117)]  # E2E's: 55 tokens on average


def test_grouped_batches_come_in_random_order_and_pad_little(lengths: list[int]) -> None:
    tokens, padded = tokens_a_step(lengths, grouped=True)
    shuffled, at_random = tokens_a_step(lengths, grouped=False)
    assert abs(lag_1(tokens)) < 0.1  # 0.97 where each run of 50 batches goes from the longest to the shortest
    assert abs(lag_1(shuffled)) < 0.1
    mean = float(np.mean(lengths))
    assert padded < 1.06 * mean < 1.2 * mean < at_random


def test_the_rest_of_an_epoch_is_its_last_step(lengths: list[int]) -> None:
    sampler = EpochSampler(lengths, 8, 1, lambda: 0, True)
    order = list(sampler)
    later = list(EpochSampler(lengths, 8, 1, lambda: 1, True))
    assert order == list(sampler) != later
    assert len(set(order)) == len(order) == 8003
    # Each full step is one of the grouped batches, so its examples are of similar length.
    spreads = [np.ptp([lengths[i] for i in order[start : start + 8]]) for start in range(0, 8000, 8)]
    assert np.median(spreads) <= 2


@pytest.mark.skipif("DELTA_LORA_DATA" not in os.environ, reason="needs the real E2E files")
def test_padding_on_the_real_rows_is_that_of_length_buckets() -> None:
    with (Path(os.environ["DELTA_LORA_DATA"]) / "e2e" / "trainset.csv").open(encoding="utf-8", newline="") as file:
        lengths = [len(row["mr"].split()) + len(row["ref"].split()) for row in csv.DictReader(file)]
    tokens, padded = tokens_a_step(lengths, grouped=True)
    assert abs(lag_1(tokens)) < 0.1
    assert padded < 1.05 * np.mean(lengths)
    theirs = get_length_grouped_indices(lengths, 8, generator=torch.Generator().manual_seed(0))
    steps = [sum(lengths[i] for i in theirs[start : start + 8]) for start in range(0, len(theirs) - 7, 8)]
    assert lag_1(np.array(steps, dtype=float)) > 0.7, "Transformers' own grouping goes in waves"
