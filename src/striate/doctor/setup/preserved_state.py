"""Restores all state that a diagnosis may change."""

from __future__ import annotations

import copy
import random
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from striate.doctor.setup.reached_objects import RANDOM, reached_objects, slots_of
from striate.doctor.setup.training_setup import TrainingSetup
from striate.doctor.setup.unwritten_logs import logs_unwritten
from striate.models.preserved_state import TRIALS, nothing_compiled, same_random_state

Undo = Callable[[], None]

LARGE = 64 * 2**20
"""Bytes above which a tensor or array that is not trained counts as data, which training does not write into."""


@contextmanager
def state_preserved(setup: TrainingSetup) -> Iterator[None]:
    """Restores, whatever the body does and however it ends: parameters, buffers, modes, `requires_grad`, gradients,
    hooks and attributes of the network; the state of the optimizer, and of schedulers, generators and data sets that
    loaders, loss and step can reach; and the random state of Python, NumPy and torch. While the body runs, printed text
    goes to stderr, warnings are hidden, nothing is written to experiment loggers, and compiled networks run
    uncompiled."""
    held = (setup.model, setup.optimizer, setup.loss, setup.step, setup.train, setup.val)
    undo = list(_undoing(reached_objects(held)))
    anomaly, enabled = torch.is_anomaly_enabled(), torch.is_grad_enabled()
    dtype = torch.get_default_dtype()
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with (
        TRIALS,
        same_random_state(cuda),
        nothing_compiled(),
        warnings.catch_warnings(),
        redirect_stdout(sys.stderr),
        logs_unwritten(),
    ):
        warnings.simplefilter("ignore")
        try:
            torch.set_grad_enabled(True)
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.autograd.set_detect_anomaly(anomaly)
            torch.set_grad_enabled(enabled)
            _put_back(undo)


@contextmanager
def outside_autocast() -> Iterator[None]:
    """While the body runs, the script's autocast contexts are left: within one, even a disabled one, torch caches cast
    weights, and trials would use outdated weights."""
    kinds = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    depth = torch.autocast_increment_nesting() - 1
    for _ in range(depth + 1):
        torch.autocast_decrement_nesting()
    for kind in kinds:
        torch.set_autocast_enabled(kind, False)
    torch.clear_autocast_cache()
    try:
        yield
    finally:
        for kind in kinds:
            torch.set_autocast_enabled(kind, True)
        for _ in range(depth):
            torch.autocast_increment_nesting()


@contextmanager
def same_draws(*roots: object) -> Iterator[None]:
    """Restores the generators that can be reached from the roots, so that later draws repeat those of the body."""
    undo = list(_undoing([thing for thing in reached_objects(roots) if isinstance(thing, RANDOM)]))
    try:
        yield
    finally:
        _put_back(undo)


def _put_back(undo: list[Undo]) -> None:
    """Call all functions. Raises the first error after the last call."""
    failed: Exception | None = None
    for restore in undo:
        try:
            restore()
        except Exception as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _undoing(things: list[object]) -> Iterator[Undo]:
    """Functions that restore the present state of things: first their attributes and items, then the values of tensors,
    each once."""
    tensors: dict[int, torch.Tensor] = {}
    for thing in things:
        if isinstance(thing, torch.Tensor):
            tensors[id(thing)] = thing
        elif isinstance(thing, nn.Module):
            tensors |= {id(t): t for t in (*thing._parameters.values(), *thing._buffers.values()) if t is not None}
            yield _of_module(thing)
        elif isinstance(thing, Optimizer):
            states = [value for state in thing.state.values() for value in state.values()]
            tensors |= {id(value): value for value in states if isinstance(value, torch.Tensor)}
            yield _of_optimizer(thing)
        elif (restore := _undo(thing)) is not None:
            yield restore
    for tensor in tensors.values():
        if not tensor.is_meta and not nn.parameter.is_lazy(tensor) and not is_data(tensor):
            yield _of_tensor(tensor)


def is_data(value: object) -> bool:
    """Whether a tensor or array is data: larger than LARGE and not trained."""
    if isinstance(value, np.ndarray):
        return value.nbytes > LARGE
    return (
        isinstance(value, torch.Tensor)
        and not value.requires_grad
        and value.is_leaf
        and not isinstance(value, nn.Parameter)
        and value.numel() * value.element_size() > LARGE
    )


def _undo(thing: object) -> Undo | None:
    """A function that restores the present state of a thing; None for a thing without state."""
    if isinstance(thing, torch.Generator):
        return partial(_set_state, thing, thing.get_state())
    if isinstance(thing, np.random.Generator):
        bits: Any = thing.bit_generator
        return partial(setattr, bits, "state", copy.deepcopy(bits.state))
    if isinstance(thing, np.random.RandomState):
        return partial(thing.set_state, thing.get_state())
    if isinstance(thing, random.Random):
        return partial(thing.setstate, thing.getstate())
    if isinstance(thing, np.ndarray):
        return None if is_data(thing) or not thing.flags.writeable else partial(_fill, thing, thing.copy())
    if isinstance(thing, list | bytearray):
        return partial(thing.__setitem__, slice(None), thing[:])
    if isinstance(thing, dict):
        return partial(_refill, thing, dict(thing))
    if isinstance(thing, set):
        return partial(_refill, thing, set(thing))
    if isinstance(thing, deque):
        return partial(_refill_queue, thing, list(thing))
    slots, table = slots_of(thing), dict(vars(thing)) if hasattr(thing, "__dict__") else None
    return None if table is None and not slots else partial(_set_attributes, thing, table, slots)


def _refill(table: Any, entries: Any) -> None:
    if isinstance(table, dict):  # subclasses, such as outputs of transformers, may forbid `clear` and `update`
        dict.clear(table)
        dict.update(table, entries)
        return
    table.clear()
    table.update(entries)


def _refill_queue(queue: deque[Any], items: list[Any]) -> None:
    queue.clear()
    queue.extend(items)


def _fill(array: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> None:
    array[...] = values


def _set_state(generator: torch.Generator, state: torch.Tensor) -> None:
    generator.set_state(state)


def _set_attributes(thing: object, table: dict[str, Any] | None, slots: dict[str, Any]) -> None:
    if table is not None:
        # A DataLoader forbids setting some of its attributes, but not writing its `__dict__`.
        _refill(vars(thing), table)
    for name, value in slots.items():
        object.__setattr__(thing, name, value)


def _of_tensor(tensor: torch.Tensor) -> Undo:
    values, needs, gradient = tensor.detach().clone(), tensor.requires_grad, tensor.grad if tensor.is_leaf else None
    values_before = None if gradient is None else gradient.detach().clone()
    version = None if tensor.is_inference() else tensor._version

    def back() -> None:
        with torch.no_grad():
            # Write only if changed: a write invalidates a graph that awaits its backward pass. Writes to `.data` do not
            # increase the version.
            if (version is not None and tensor._version != version) or not same_values(tensor, values):
                tensor.data.copy_(values)
            if tensor.is_leaf and not tensor.is_inference():
                if tensor.requires_grad != needs:
                    tensor.requires_grad_(needs)
                tensor.grad = gradient
                if gradient is not None and values_before is not None and not same_values(gradient, values_before):
                    gradient.copy_(values_before)

    return back


def same_values(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are equal, with NaN equal to NaN; always on the `meta` device, which has no values."""
    if tensor.is_meta and other.is_meta:
        return True
    if tensor.layout != torch.strided:
        tensor, other = tensor.to_dense(), other.to_dense()
    return torch.equal(tensor, other) or bool(((tensor == other) | ((tensor != tensor) & (other != other))).all())


def _of_module(module: nn.Module) -> Undo:
    attributes = dict(vars(module))
    tables = {name: value.copy() for name, value in attributes.items() if isinstance(value, dict)}

    def back() -> None:
        _refill(vars(module), attributes)
        for name, entries in tables.items():
            table = attributes[name]
            if [(key, id(value)) for key, value in table.items()] != [(k, id(v)) for k, v in entries.items()]:
                _refill(table, entries)

    return back


def _of_optimizer(optimizer: Optimizer) -> Undo:
    groups = [(group, dict(group), list(group["params"])) for group in optimizer.param_groups]
    states = {parameter: dict(state) for parameter, state in optimizer.state.items()}
    attributes = dict(vars(optimizer))

    def back() -> None:
        _refill(vars(optimizer), attributes)
        optimizer.param_groups[:] = [group for group, _, _ in groups]
        for group, entries, params in groups:
            _refill(group, entries)
            group["params"][:] = params
        optimizer.state.clear()
        for parameter, state in states.items():
            optimizer.state[parameter] = dict(state)

    return back
