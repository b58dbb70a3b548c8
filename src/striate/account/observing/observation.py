"""One forward pass of a network, and one more with gradients: all that the ledger is made of.
A network to try a forward pass on: without memory for its numbers where it can be, else for real.
Attention and recurrent layers as the matrix products they are.
How much autograd keeps of one sample for the backward pass, call by call.
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
    """While the body runs, no fused kernel is used, of which a counter would know nothing."""
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
    """The module itself; a copy whose lazy layers have got their shapes, if it has any.

    Raises ModelError where there can be no such copy.
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
    """`on_trial`, without fused kernels. Without `numbers`, tensors that the network makes have shapes only, too."""
    place = nullcontext() if numbers else torch.device("meta")
    with on_trial(module), separate_products(), place:
        yield


def saved_bytes(module: nn.Module, run: Callable[[Observer], object]) -> dict[int | None, int]:
    """Bytes by the number of the call that keeps them; `run` is a forward pass that is watched.

    What several calls keep counts once, for the first of them; parameters and buffers do not count, as they are there
    anyway. Layers of dropout are in training mode, as they keep a mask and another output then (the mask has 4 bytes a
    number on a CPU, 1 on a GPU); all others are not: batch norm takes no batch of one.
    """
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
    found = found or {None: observer.entries.early.saved_bytes}  # a scripted network has no calls that are seen
    del output  # until here the graph holds what it keeps, so that no two storages share a number
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
    """A forward pass with shapes only or, where the network asks for numbers, a real one of a copy on zeros.

    `rebuild` gives the network with its numbers, where `module` has shapes only. `memory`: also run a pass that tells
    what autograd keeps.
    Raises ModelError, with the layer and the arithmetic, where the network does not take `input_shape`; what went wrong
    here, as it is, where the network by itself does.
    """
    # A copy may call the original by what it holds of it: a closure, a hook. Autograd keeps nothing in inference mode.
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
    numbers = sum(observer.strangers.values())
    if not numbers:
        return ()
    return (f"{numbers} parameters in a plain list or a closure: register them as an attribute or in an nn.ModuleList",)


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
