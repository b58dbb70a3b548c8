"""When memory runs out: the same batch in smaller parts, from the state before the step."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterable, Iterator
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
from striate.training.config import Config
from striate.training.events import EpochDone, Event, MemoryRanOut
from striate.training.execution import evaluation_batch, training_part
from striate.training.refusals import fewest_at_once
from striate.training.state import TrainingState


def within_memory(
    state: TrainingState,
    take: Callable[[Batch, Config], tuple[torch.Tensor, torch.Tensor]],
    batch: Batch,
    again: Callable[[], Batch] | None,
    config: Config,
    buffers: KeptBuffers,
) -> Generator[Event, None, tuple[torch.Tensor, torch.Tensor, Config]]:
    """Take a step. Where memory runs out, say so, and take it from where it began with parts half as large, of the same
    batch as it comes `again` (None: nothing is repeated). Also returns the configuration that holds from there on."""
    while True:
        buffers.take()
        try:
            return *take(batch, at_step(config, state.step)), config
        except (MemoryError, RuntimeError) as error:
            if again is None or config.optim.name == "own-rule":  # which has learned from a part of the batch
                raise
            short = smaller_parts(config, state.step, batch.whole, state.module, error)
        buffers.put_back()
        free_memory(state.device)
        batch, config = again(), short.config
        yield short


def validated(
    state: TrainingState, close: Callable[[Config], EpochDone], samples: int, config: Config
) -> Generator[Event, None, tuple[EpochDone, Config]]:
    """`close` an epoch, where memory runs out in its validation of `samples` with half as many at once."""
    while True:
        try:
            return close(config), config
        except (MemoryError, RuntimeError) as error:
            short = smaller_validation(config, state.step, samples, error)
        free_memory(state.device)
        config = short.config
        yield short


def only_batch(read: Callable[..., Iterator[Batch]], number: int) -> Batch:
    """The batch of this number in an epoch that `read` reads."""
    (batch,) = read(first=number, stop=number + 1)
    return batch


def at_step(config: Config, step: int) -> Config:
    """The configuration of `step`, from 0: with the parts in which batches are computed from there on."""
    execution = config.execution
    if not execution.micro_batch_from:
        return config
    parts = [samples for first, samples in execution.micro_batch_from if first <= step]
    micro_batch = parts[-1] if parts else execution.micro_batch
    return replace(config, execution=replace(execution, micro_batch=micro_batch, micro_batch_from=()))


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


class KeptBuffers:
    """Buffers of networks as they were before a step: what a forward pass changes (statistics of normalizations)."""

    def __init__(self, modules: Iterable[nn.Module | None]) -> None:
        parts = [part for module in modules if module is not None for part in module.modules()]
        self._places = [(part, name) for part in parts for name, _ in part.named_buffers(recurse=False)]
        self._kept: list[torch.Tensor] = []

    @torch.no_grad()
    def take(self) -> None:
        """Copy them as they are now."""
        if not self._places:
            return
        now = [part._buffers[name] for part, name in self._places]
        tensors = [tensor for tensor in now if tensor is not None]
        if [(t.shape, t.dtype) for t in self._kept] == [(t.shape, t.dtype) for t in tensors]:
            torch._foreach_copy_(self._kept, tensors)
        else:
            self._kept = [tensor.clone() for tensor in tensors]

    @torch.no_grad()
    def put_back(self) -> None:
        """Make them what they were when they were taken."""
        now = [part._buffers[name] for part, name in self._places]
        for tensor, kept in zip([tensor for tensor in now if tensor is not None], self._kept, strict=True):
            tensor.copy_(kept)


def free_memory(device: torch.device) -> None:
    """Give back what nobody holds any more, so that the next attempt has all there is."""
    gc.collect()
    trim()
    if device.type == "cuda":
        torch.cuda.empty_cache()
