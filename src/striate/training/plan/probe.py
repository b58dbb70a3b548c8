"""The first plain steps: how long one takes, and how many samples make a trial step.
How many samples fit into the memory of a GPU at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from striate.training.plan.candidate import Candidate
from striate.training.plan.trial import Trials, Workload
from striate.training.refusals import fewest_at_once

_FIRST, _MORE = 8, 16  # samples: a batch of large images may take half a minute
LONGEST = 0.25  # seconds of a trial step
_FEWEST = 8


@dataclass(frozen=True)
class Probe:
    """`trials` at a number of samples whose plain step takes about `about` seconds; a step of the run's whole `batch`
    takes about `whole`."""

    trials: Trials
    about: float
    whole: float
    batch: int


def probe(work: Workload, plain: Candidate, longest: float = LONGEST) -> Probe:
    """Take a few plain steps on a copy; a trial step is to take `longest` seconds at most. Raises ModelError where
    there can be no copy, and what the network raises."""
    batch = min(work.config.batch or 1, len(work.train))
    trials = Trials(work, min(batch, _FIRST))
    about = _seconds(trials, plain)
    if trials.samples < batch and about * _MORE < longest * trials.samples:  # a few samples say little about many
        trials = trials.with_samples(min(batch, _MORE))
        about = _seconds(trials, plain)
    if trials.samples == batch:
        return Probe(trials, about, about, batch)
    samples = _halved(batch, trials.samples * longest / about)
    if samples != trials.samples:
        trials = trials.with_samples(samples)
        about = _seconds(trials, plain)
    return Probe(trials, about, about * batch / samples, batch)


def _halved(batch: int, most: float) -> int:
    """The batch, or half of it, or a quarter, …: what is not above `most`, nor below 8 samples."""
    while batch > most and batch // 2 >= _FEWEST:
        batch //= 2
    return batch


def _seconds(trials: Trials, plain: Candidate) -> float:
    """The faster of two steps after one that pays for allocation; of one where that took longer than a trial step."""
    first = trials.seconds(plain, 1)
    return min(trials.seconds(plain, 1) for _ in range(1 if first > LONGEST else 2))


def fitting(work: Workload, plain: Candidate) -> Workload:
    """The workload, with `execution.micro_batch` where a plain step of its whole batch does not fit into memory: half
    of the batch, or a quarter, and so on, at least 1, or 2 with batch normalization. Unchanged where a size was asked
    for, where nothing fits, and on a CPU, whose system ends a process rather than refusing it memory."""
    config, batch = work.config, min(work.config.batch or 1, len(work.train))
    if config.execution.micro_batch is not None or config.execution.device == "cpu":
        return work
    part, fewest = batch, fewest_at_once(work.state.module)
    while part >= fewest:
        execution = replace(config.execution, micro_batch=None if part == batch else part)
        smaller = replace(work, config=replace(config, execution=execution))
        try:
            Trials(smaller, batch).seconds(plain, 1)
        except torch.OutOfMemoryError:
            part //= 2
            continue
        finally:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return smaller
    return work
