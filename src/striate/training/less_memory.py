"""When memory runs out: the same batch in smaller parts, from the state before the step."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from striate.data.loader import Batch
from striate.errors import TrainingError
from striate.machine.allocator import trim
from striate.machine.memory import ran_out
from striate.training.at_step import at_step
from striate.training.config import Config
from striate.training.events import EpochDone, Event, MemoryRanOut
from striate.training.execution import evaluation_batch, training_part
from striate.training.measured import Measured
from striate.training.refusals import fewest_at_once
from striate.training.setup import Setup


def within_memory(
    setup: Setup,
    take: Callable[[Setup, Batch], tuple[torch.Tensor, Measured]],
    batch: Batch,
    again: Callable[[int], Batch],
) -> Generator[Event, None, tuple[torch.Tensor, Measured]]:
    """`take` a step with its batch. Where memory runs out, say so, and take it from where it began with parts half as
    large, of the same batch, which `again` gives for its step; the configuration of `setup` is another from there on.

    Nothing is repeated in one of several processes, where the others would wait for it, nor with a network that learns
    by its own rule, from a part of the batch already.
    """
    state = setup.state
    while True:
        setup.buffers.take()
        try:
            return take(setup.for_step(), batch)
        except (MemoryError, RuntimeError) as error:
            if setup.processes.several or setup.config.optim.name == "own-rule":
                raise
            short = smaller_parts(setup.config, state.step, batch.whole, state.module, error)
        setup.buffers.put_back()
        free_memory(state.device)
        batch, setup.config = again(state.step), short.config
        yield short


def validated(setup: Setup, close: Callable[[Setup], EpochDone]) -> Generator[Event, None, EpochDone]:
    """`close` an epoch, where memory runs out in its validation with half as many samples at once.

    Nothing is repeated in one of several processes: the others would go on to measure other batches.
    """
    while True:
        try:
            return close(setup)
        except (MemoryError, RuntimeError) as error:
            if setup.processes.several:
                raise
            short = smaller_validation(setup.config, setup.state.step, len(setup.splits["val"]), error)
        free_memory(setup.state.device)
        setup.config = short.config
        yield short


def smaller_parts(config: Config, step: int, batch: int, module: nn.Module, error: Exception) -> MemoryRanOut:
    """What holds from `step` (from 0, of `batch` samples) on, after `error` in it: parts half as large.

    Raises `error` where it is another one, TrainingError where parts cannot be smaller.
    """
    if not ran_out(error):
        raise error
    part = training_part(at_step(config, step), batch)
    half = part // 2
    if half < fewest_at_once(module):
        raise not_enough(config, f"a training step, with {part} at once", error) from None
    # Later ones were of a path that is not taken again.
    earlier = tuple(entry for entry in config.execution.micro_batch_from if entry[0] < step)
    config = _changed(config, micro_batch_from=(*earlier, (step, half)))
    parts = [part for part in module.modules() if isinstance(part, _BatchNorm | _DropoutNd)]
    changed = ["sums are added up in another order"]
    changed += [f"batch normalization sees {half} samples"] if any(isinstance(p, _BatchNorm) for p in parts) else []
    changed += ["dropout draws other masks"] if any(isinstance(p, _DropoutNd) for p in parts) else []
    return MemoryRanOut("training", step + 1, part, half, tuple(changed), config)


def smaller_validation(config: Config, step: int, samples: int, error: Exception) -> MemoryRanOut:
    """The same for a validation of `samples` after so many steps."""
    if not ran_out(error):
        raise error
    before = min(evaluation_batch(config), samples)
    if before < 2:
        raise not_enough(config, "validation, with 1 sample at once", error) from None
    config = _changed(config, evaluation_batch=before // 2)
    return MemoryRanOut("validation", step, before, before // 2, ("losses are added up in another order",), config)


def _changed(config: Config, **fields: object) -> Config:
    """With fields of `execution` that nobody asked for."""
    decided = dict.fromkeys((*config.decided, *(f"execution.{name}" for name in fields)))
    return replace(config, execution=replace(config.execution, **fields), decided=tuple(decided))  # type: ignore[arg-type]


def not_enough(config: Config, for_what: str, error: BaseException) -> TrainingError:
    """What is said where memory does not suffice and nothing is left to divide."""
    size, batch = config.data.size, config.batch or 1
    remedies = [f"--size {size[0] // 2}x{size[1] // 2}"] if size is not None and min(size) > 1 else []
    remedies += ["a smaller --model"] + ([f"--batch {batch // 2}"] if batch > 1 else [])
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    expected = "a network and batch that fit into memory"
    return TrainingError("memory", f"not enough for {for_what}: {reason}", expected, ", or ".join(remedies))


@contextmanager
def updating(config: Config) -> Iterator[None]:
    """Around what changes weights: where memory runs out there, smaller parts do not help. Raises TrainingError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        got = f"not enough for what {config.optim.name} remembers of each weight: {reason}"
        remedy = "a smaller --model" + ("" if config.optim.name == "sgd" else ", or --optim.name sgd")
        raise TrainingError("memory", got, "a network and optimizer that fit into memory", remedy) from None


def free_memory(device: torch.device) -> None:
    """Give back what nobody holds any more, so that the next attempt has all there is."""
    gc.collect()
    trim()
    if device.type == "cuda":
        torch.cuda.empty_cache()
