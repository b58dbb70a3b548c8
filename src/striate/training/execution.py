"""Where and how a run computes: device, threads, memory format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from striate.data.dataset import Dataset
from striate.errors import ConfigError, TrainingError
from striate.training.config import Config


def decide_execution(config: Config, data: Dataset) -> Config:
    """Fill in `execution.device` and `execution.threads`. Raises ConfigError for a device that is not there."""
    execution = config.execution
    device = execution.device or ("cuda" if torch.cuda.is_available() else "cpu")
    _check_device(device)
    # A matrix of a few hundred numbers is done before a second thread has woken up.
    threads = execution.threads or (1 if data.kind == "table" else torch.get_num_threads())
    return replace(config, execution=replace(execution, device=device, threads=threads))


def _check_device(device: str) -> None:
    available = ["cpu"] + [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    name = "cuda:0" if device == "cuda" else device
    if name not in available:
        raise ConfigError("execution.device", repr(device), f"one of {', '.join(available)}", "--execution.device cpu")


@contextmanager
def execution_settings(config: Config) -> Iterator[torch.device]:
    """The device, with the run's number of threads, a random state of its own, and deterministic kernels on a GPU; all
    are put back after."""
    device = torch.device(config.execution.device or "cpu")
    threads = torch.get_num_threads()
    gpus = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus), torch.backends.cudnn.flags(deterministic=True, benchmark=False):
        try:
            torch.set_num_threads(config.execution.threads or threads)
            torch.manual_seed(config.seed)
            yield device
        finally:
            torch.set_num_threads(threads)


def place(module: nn.Module, config: Config, device: torch.device) -> nn.Module:
    """The network on its device in its memory format."""
    module = module.to(device)
    if config.execution.memory_format == "channels_last":
        volumes = any(p.ndim == 5 for p in module.parameters())
        layout = torch.channels_last_3d if volumes else torch.channels_last
        module.to(memory_format=layout)  # type: ignore[call-overload]
    return module


def evaluation_batch(config: Config) -> int:
    """How many samples are measured at once: two batches, since there are no gradients to keep, unless
    `execution.micro_batch` says how many fit."""
    return config.execution.micro_batch or 2 * (config.batch or 1)


def training_part(config: Config, most: int) -> int:
    """How many samples go through the network at once in a training step, `most` at most."""
    return min(most, config.execution.micro_batch or config.batch or most)


@contextmanager
def memory_explained(config: Config) -> Iterator[None]:
    """Turn running out of memory into a TrainingError that says what to make smaller."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "not enough memory" not in text:
            raise
        part = training_part(config, config.batch or 64)
        half = part // 2
        remedy = f"--execution.micro_batch {half} (the same batch in parts), --batch {half}, or a smaller --size"
        raise TrainingError(
            "memory",
            f"not enough for a step: {' '.join(text.split())[:160] or 'MemoryError'}",
            "a network and batch that fit",
            remedy if half else "a smaller --size, or a smaller network",
        ) from None
