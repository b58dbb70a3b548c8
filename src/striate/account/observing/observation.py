"""One forward pass of a network, and one more with gradients: all that the ledger is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import nn

from striate.account.observing.observe import Observer
from striate.account.observing.saved_memory import saved_bytes
from striate.account.observing.trial import trying, with_shapes
from striate.errors import ModelError, StriateError
from striate.machine.memory import ran_out
from striate.models.check import check_forward
from striate.models.untouched import TRIALS, on_trial, trial_copy, untouched, without_numbers, zero_input

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Observation:
    """What was seen of `module` (a copy of the network, if one could be made); `saved` by the number of the call.

    `notes`: what could not be found out, in words; `real_pass`: why a pass with numbers was needed, if it was.
    """

    module: nn.Module
    observer: Observer
    output: object
    saved: dict[int | None, int]
    notes: tuple[str, ...]
    real_pass: str = ""

    @property
    def macs(self) -> int:
        """Multiply–accumulates of the pass."""
        return sum(entry.tally.macs for entry in self.observer.entries.done)


def observe_network(
    module: nn.Module, input_shape: Shape, rebuild: Callable[[], nn.Module] | None = None, *, memory: bool = True
) -> Observation:
    """A forward pass with shapes only or, where the network asks for numbers, a real one of a copy on zeros.

    `rebuild` gives the network with its numbers, where `module` has shapes only. `memory`: also run a pass that tells
    what autograd keeps.
    Raises ModelError, with the layer and the arithmetic, where the network does not take `input_shape`; what went wrong
    here, as it is, where the network by itself does.
    """
    # A copy may call the original by what it holds of it: a closure, a hook. Autograd keeps nothing in inference mode.
    with TRIALS, untouched(module), torch.inference_mode(False):
        return _observe_copy(module, input_shape, rebuild, memory)


def _observe_copy(
    module: nn.Module, input_shape: Shape, rebuild: Callable[[], nn.Module] | None, memory: bool
) -> Observation:
    module = with_shapes(module, input_shape)
    bare = module if rebuild is not None else without_numbers(module)
    first: Exception | None = None
    try:
        if bare is not None:
            return _observe(bare, input_shape, numbers=False, memory=memory)
    except StriateError:
        raise
    except Exception as error:
        first = error
        if rebuild is None and any(tensor.is_meta for tensor in module.parameters()):
            _raise_explained(module, input_shape, error)
    real = rebuild() if rebuild is not None else module
    try:
        found = _observe(trial_copy(real), input_shape, numbers=True, memory=memory)
    except StriateError:
        raise
    except Exception as error:
        _raise_explained(real, input_shape, error)
    if first is None:
        return found
    return replace(found, real_pass=f"{type(first).__name__}: {' '.join(str(first).split())[:120]}")


def _observe(module: nn.Module, input_shape: Shape, *, numbers: bool, memory: bool = True) -> Observation:
    observer = Observer(module)
    with trying(module, numbers=numbers), torch.no_grad():
        output = observer.run(module, zero_input(module, input_shape))
    notes = _unregistered(observer)
    saved: dict[int | None, int] = {}
    if not memory:
        return Observation(module, observer, output, saved, notes)
    try:
        with trying(module, numbers=numbers):
            saved = saved_bytes(module, lambda seen: seen.run_calls(module, zero_input(module, input_shape)))
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        notes = (
            *notes,
            f"memory kept for the backward pass: the pass failed ({type(error).__name__}: {reason})",
        )
    return Observation(module, observer, output, saved, notes)


def _unregistered(observer: Observer) -> tuple[str, ...]:
    numbers = sum(observer.strangers.values())
    if not numbers:
        return ()
    return (f"{numbers} parameters in a plain list or a closure: only an attribute or nn.ModuleList registers them",)


def _raise_explained(module: nn.Module, input_shape: Shape, error: Exception) -> NoReturn:
    """What is wrong, as the check of networks tells it; `error` where a pass that nobody watches does not fail."""
    try:
        check_forward(module, input_shape)
        trial = trial_copy(module)
        with on_trial(trial), torch.no_grad():
            trial(zero_input(trial, input_shape))
    except StriateError:
        raise
    except Exception as alone:
        if ran_out(alone):
            raise
        reason = " ".join(str(alone).split())[:300]
        raise ModelError(
            f"model {type(module).__name__}",
            f"{type(alone).__name__}: {reason}, for a batch of one",
            "a network that takes one sample at a time in eval mode",
            "keep the batch axis: x.flatten(1) for x.squeeze()",
        ) from alone
    raise error
