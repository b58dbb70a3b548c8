"""Guards around a training step: what happens when memory runs out, a number is NaN or Inf, or time runs short.

`guarded` wraps a step with all of them; the step itself knows nothing about it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from time import perf_counter
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from striate.data.counter_random import hash_key
from striate.data.loader import Batch
from striate.errors import TrainingError, reason_of
from striate.machine.allocator import trim
from striate.machine.memory import ran_out
from striate.training.config import Config
from striate.training.events import EpochDone, Event, MemoryRanOut
from striate.training.execution import evaluation_batch, training_part
from striate.training.measured import Measured
from striate.training.nonfinite.detect import LossWatch, MakePasses
from striate.training.refusals import fewest_at_once
from striate.training.setup import Setup, at_step
from striate.wording import several

P = ParamSpec("P")
T = TypeVar("T")
Result = tuple[torch.Tensor, Measured]
Step = Callable[[Setup, Batch], Result]
"""Takes a step; returns the scalar loss and what is measured."""
GuardedStep = Callable[[Setup, Batch], Generator[Event, None, Result]]
"""The same, which also yields what changes meanwhile."""
OfBatch = Callable[Concatenate[Setup, Batch, torch.Tensor, P], T]
"""A function of setup, batch and the prepared inputs (B, …) of a step."""


def guarded(step: Step, passes: MakePasses) -> GuardedStep:
    """`step`, timed, and repeated in smaller parts where memory runs out. On an accelerator its loss is read later, so
    that the host does not wait. `passes` makes the passes of a step, to find the layer that is at fault."""
    take, watch = retried_in_parts(step), LossWatch()

    def guarded_step(setup: Setup, batch: Batch) -> Generator[Event, None, Result]:
        started = perf_counter()
        loss, measured = yield from take(setup, batch)
        watch.after_step(setup, batch, loss, passes)
        setup.state.epoch_seconds += perf_counter() - started
        return loss, measured

    return guarded_step


def seeded_by_step(function: OfBatch[P, T]) -> OfBatch[P, T]:
    """Seed torch's generators by seed and step before `function(setup, batch, inputs, …)`, so that a resumed run and a
    repeated step have the same dropout masks. `torch.manual_seed` seeds the generators of all devices, which takes
    longer than a step of a small network."""

    @wraps(function)
    def seeded(setup: Setup, batch: Batch, inputs: torch.Tensor, /, *rest: P.args, **named: P.kwargs) -> T:
        seed_step(setup, inputs.device, setup.processes.rank)
        return function(setup, batch, inputs, *rest, **named)

    return seeded


def seed_step(setup: Setup, device: torch.device, number: int) -> None:
    """Seed torch's generators by seed, step, and `number`: that of the process or of the part of the batch."""
    seed = hash_key(setup.config.seed, setup.state.step, 2, *([number] if number else []))
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def within_deadline(setup: Setup) -> Iterator[Event]:
    """After a step: change the number of steps if the run would end too early or too late."""
    if setup.deadline is None:
        return
    changed = setup.deadline.change(setup.config, setup.state.step, setup.state.elapsed)
    if changed is not None:
        setup.config = changed.config
        yield changed


def retried_in_parts(step: Step) -> GuardedStep:
    """`step` with the configuration of its number. Where memory runs out, it yields that event and repeats the step
    with the same batch in parts half as large; from there on the setup has another configuration.

    Nothing is repeated in one of several processes, since the others would wait; nor with a local learning rule, which
    has already learned from a part of the batch; nor where the loss compares all samples of a batch.
    """
    saved: SavedBuffers | None = None

    def take(setup: Setup, batch: Batch) -> Generator[Event, None, Result]:
        nonlocal saved
        state = setup.state
        saved = saved or SavedBuffers(state.module, state.heads)
        while True:
            saved.save()
            try:
                return step(setup.for_step(), batch)
            except (MemoryError, RuntimeError) as error:
                if setup.processes.several or setup.config.optim.name == "local-rule":
                    raise
                if setup.objective.task.compares_samples and ran_out(error):
                    raise not_enough(setup.config, "a training step, whose loss needs the whole batch", error) from None
                short = smaller_parts(setup.config, state.step, batch.full_size, state.module, error)
            saved.restore()
            free_memory(state.device)
            batch, setup.config = setup.batch_of(state.step), short.config
            yield short

    return take


def retried_epoch_end(setup: Setup, close: Callable[[Setup], EpochDone]) -> Iterator[Event]:
    """`close` an epoch; where memory runs out in its validation, again with half as many samples at once.

    Nothing is repeated in one of several processes, since the others would go on to other batches.
    """
    while True:
        try:
            done = close(setup)
        except (MemoryError, RuntimeError) as error:
            if setup.processes.several:
                raise
            short = smaller_validation(setup.config, setup.state.step, len(setup.splits["val"]), error)
        else:
            yield done
            return
        free_memory(setup.state.device)
        setup.config = short.config
        yield short


class SavedBuffers:
    """A copy of the buffers of networks before a step, which a forward pass changes: statistics of normalizations."""

    def __init__(self, *modules: nn.Module | None) -> None:
        parts = [part for module in modules if module is not None for part in module.modules()]
        self._places = [(part, name) for part in parts for name, _ in part.named_buffers(recurse=False)]
        self._saved: list[torch.Tensor] = []

    @torch.no_grad()
    def save(self) -> None:
        """Copy the buffers."""
        if not self._places:
            return
        tensors = self._now()
        if [(t.shape, t.dtype) for t in self._saved] == [(t.shape, t.dtype) for t in tensors]:
            for dtype in {tensor.dtype for tensor in tensors}:  # a GPU copies tensors of mixed types one by one
                saved, now = ([t for t in all_of if t.dtype == dtype] for all_of in (self._saved, tensors))
                torch._foreach_copy_(saved, now)
        else:
            self._saved = [tensor.clone() for tensor in tensors]

    @torch.no_grad()
    def restore(self) -> None:
        """Put the copied values back."""
        for tensor, saved in zip(self._now(), self._saved, strict=True):
            tensor.copy_(saved)

    def _now(self) -> list[torch.Tensor]:
        buffers = [part._buffers[name] for part, name in self._places]
        return [buffer for buffer in buffers if buffer is not None]


def smaller_parts(config: Config, step: int, batch: int, module: nn.Module, error: Exception) -> MemoryRanOut:
    """The event for `error` in `step` (from 0, with `batch` samples), with a configuration of parts half as large from
    there on. Raises `error` where it is not about memory, TrainingError where parts cannot be smaller."""
    if not ran_out(error):
        raise error
    part = training_part(at_step(config, step), batch)
    half = part // 2
    if half < fewest_at_once(module):
        raise not_enough(config, f"a training step, with {part} at once", error) from None
    # Later entries were of steps that are now repeated.
    earlier = tuple(entry for entry in config.execution.micro_batch_from if entry[0] < step)
    config = _changed(config, micro_batch_from=(*earlier, (step, half)))
    parts = [part for part in module.modules() if isinstance(part, _BatchNorm | _DropoutNd)]
    changed = ["sums are computed in another order"]
    changed += (
        [f"batch normalization sees {several(half, 'sample')}"] if any(isinstance(p, _BatchNorm) for p in parts) else []
    )
    changed += ["dropout draws other masks"] if any(isinstance(p, _DropoutNd) for p in parts) else []
    return MemoryRanOut("training", step + 1, part, half, tuple(changed), config)


def smaller_validation(config: Config, step: int, samples: int, error: Exception) -> MemoryRanOut:
    """The same for `error` in a validation of `samples` samples after `step` steps."""
    if not ran_out(error):
        raise error
    before = min(evaluation_batch(config), samples)
    if before < 2:
        raise not_enough(config, "validation, with 1 sample at once", error) from None
    config = _changed(config, evaluation_batch=before // 2)
    return MemoryRanOut("validation", step, before, before // 2, ("losses are summed in another order",), config)


def _changed(config: Config, **fields: object) -> Config:
    """The configuration with fields of `execution` that the run decided."""
    decided = dict.fromkeys((*config.decided, *(f"execution.{name}" for name in fields)))
    return replace(config, execution=replace(config.execution, **fields), decided=tuple(decided))  # type: ignore[arg-type]


def not_enough(config: Config, for_what: str, error: BaseException) -> TrainingError:
    """The error where memory is too small and nothing is left to divide."""
    size, batch = config.data.size, config.batch or 1
    remedies = [f"--size {size[0] // 2}x{size[1] // 2}"] if size is not None and min(size) > 1 else []
    remedies += ["a smaller --model"] + ([f"--batch {batch // 2}"] if batch > 1 else [])
    expected = "a network and batch that fit into memory"
    return TrainingError("memory", f"not enough for {for_what}: {reason_of(error)}", expected, ", or ".join(remedies))


@contextmanager
def updating(config: Config) -> Iterator[None]:
    """Around an update of the weights: where memory runs out there, smaller parts do not help. Raises TrainingError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        got = f"not enough for the optimizer state of {config.optim.name}: {reason_of(error)}"
        remedy = "a smaller --model" + ("" if config.optim.name == "sgd" else ", or --optim.name sgd")
        raise TrainingError("memory", got, "a network and optimizer that fit into memory", remedy) from None


def free_memory(device: torch.device) -> None:
    """Free memory that nothing uses any more, before the next attempt."""
    gc.collect()
    trim()
    if device.type == "cuda":
        torch.cuda.empty_cache()
