"""The observation that a ledger is made from: a forward pass of a network, and another one with gradients.

The first pass runs on the meta device, without memory for numbers, where the network allows it. Attention and recurrent
layers run as the matrix products that they consist of. The second pass measures how many bytes autograd saves for one
sample, call by call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.dropout import _DropoutNd

from striate.account.observing.observer import Observer, storage_key
from striate.errors import ModelError, StriateError
from striate.machine.memory import ran_out
from striate.models.check import check_forward
from striate.models.initialization.reinitialize import materialize
from striate.models.preserved_state import (
    TRIALS,
    copied,
    has_forward_of_its_own,
    is_lazy,
    on_trial,
    preserved,
    same_random_state,
    trial_copy,
    without_numbers,
    zero_input,
)


@contextmanager
def separate_products() -> Iterator[None]:
    """While the body runs, torch uses no fused kernels, whose operations could not be counted."""
    backends: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cudnn)
    enabled, fused = [backend.enabled for backend in backends], torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for backend in backends:
            backend.enabled = False
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for backend, before in zip(backends, enabled, strict=True):
            backend.enabled = before


def with_shapes(module: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
    """The module itself or, if it has lazy layers, a copy in which these have their shapes.

    Raises ModelError where such a copy cannot be made.
    """
    if not is_lazy(module):
        return module
    if has_forward_of_its_own(module):
        raise ModelError(
            f"model {type(module).__name__}",
            "lazy layers without shapes, in a network whose forward was replaced on the instance",
            "shapes that can be inferred on a copy",
            f"network(torch.zeros(2, {', '.join(map(str, input_shape))})), run once before",
        )
    module = copied(module)
    with same_random_state():
        materialize(module, input_shape)
    return module


@contextmanager
def trying(module: nn.Module, *, numbers: bool) -> Iterator[None]:
    """`on_trial`, without fused kernels. Without `numbers`, tensors that the network makes also have shapes only."""
    place = nullcontext() if numbers else torch.device("meta")
    with on_trial(module), separate_products(), place:
        yield


def saved_bytes(module: nn.Module, run: Callable[[Observer], object]) -> dict[int | None, int]:
    """Bytes that autograd saves, by the number of the call that saves them; `run` runs an observed forward pass.

    A tensor that several calls save counts once, for the first of them; parameters and buffers do not count, as they
    take memory anyway. Dropout layers are in train mode, in which they save a mask (4 bytes a number on a CPU, 1 on a
    GPU) and another output. All other layers are in eval mode, as batch norm does not take a batch of one in train
    mode."""
    observer = Observer(module)
    for layer in module.modules():
        if isinstance(layer, _DropoutNd):
            layer.train()
    known = {storage_key(tensor) for tensor in (*module.parameters(), *module.buffers())}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        key = storage_key(tensor)
        if key not in known:
            known.add(key)
            observer.entries.tally().saved_bytes += tensor.untyped_storage().nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with torch.enable_grad(), same_random_state(), hooks:
        output = run(observer)
    found = {entry.call: entry.tally.saved_bytes for entry in observer.entries.done}
    found = found or {None: observer.entries.early.saved_bytes}  # calls inside a scripted network are not visible
    del output  # not earlier: while the graph holds the saved tensors, no two storages share a number
    return found


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Observation:
    """What was recorded of a forward pass."""

    module: nn.Module
    """A copy of the network, if one could be made."""
    observer: Observer
    output: object
    saved: dict[int | None, int]
    """Bytes that autograd saves, by the number of the call."""
    notes: tuple[str, ...]
    """What could not be measured."""
    real_pass: str = ""
    """Why a pass with real numbers was needed; empty where none was."""

    @property
    def macs(self) -> int:
        """Multiply–accumulates of the pass."""
        return sum(entry.tally.macs for entry in self.observer.entries.done)


def observe_network(
    module: nn.Module, input_shape: Shape, rebuild: Callable[[], nn.Module] | None = None, *, memory: bool = True
) -> Observation:
    """Observe a forward pass with shapes only or, where the network reads values, one of a copy on real zeros.

    `rebuild` builds the network with values, for a `module` that has shapes only. `memory`: also run the pass that
    measures what autograd saves.
    Raises ModelError, with the layer and the arithmetic, where the network does not take `input_shape`. Where the
    network runs without the observer, the error of the observed pass is raised unchanged.
    """
    # A copy may call the original through a closure or a hook. Autograd saves nothing in inference mode.
    with TRIALS, preserved(module), torch.inference_mode(False):
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
            f"memory saved for the backward pass: the pass failed ({type(error).__name__}: {reason})",
        )
    return Observation(module, observer, output, saved, notes)


def _unregistered(observer: Observer) -> tuple[str, ...]:
    numbers = sum(observer.unregistered.values())
    if not numbers:
        return ()
    return (f"{numbers} parameters in a plain list or a closure: register them as an attribute or in an nn.ModuleList",)


def _raise_explained(module: nn.Module, input_shape: Shape, error: Exception) -> NoReturn:
    """Raise the error of the check of networks; `error` where a pass without the observer does not fail."""
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
