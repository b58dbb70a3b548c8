"""Everything that a diagnosis may come across, put back as it was."""

from __future__ import annotations

import copy
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from striate.doctor.patient.patient import Patient
from striate.doctor.patient.reach import reached_objects
from striate.models.untouched import TRIALS, same_random_state

Undo = Callable[[], None]


@contextmanager
def nothing_changes(patient: Patient) -> Iterator[None]:
    """Whatever the body does, and however it ends: parameters, buffers, modes, `requires_grad`, gradients, hooks and
    attributes of the network, the state of the optimizer, of schedulers, generators and data sets that loaders, loss
    and step hold, and the random state of Python, NumPy and torch are what they were. What is printed goes to stderr;
    warnings are not shown: they are the user's own."""
    held = (patient.model, patient.optimizer, patient.loss, patient.step, patient.train, patient.val)
    undo = [made for thing in reached_objects(held) if (made := _undo(thing)) is not None]
    anomaly, enabled = torch.is_anomaly_enabled(), torch.is_grad_enabled()
    dtype = torch.get_default_dtype()
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with TRIALS, same_random_state(cuda), warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        try:
            torch.set_grad_enabled(True)
            yield
        finally:
            for back in reversed(undo):
                back()
            torch.set_default_dtype(dtype)
            torch.autograd.set_detect_anomaly(anomaly)
            torch.set_grad_enabled(enabled)


def _undo(thing: object) -> Undo | None:
    """What puts a thing back as it is now; None for what needs none."""
    if isinstance(thing, nn.Module):
        return _of_module(thing)
    if isinstance(thing, Optimizer):
        return _of_optimizer(thing)
    if isinstance(thing, torch.Generator):
        state = thing.get_state()
        return partial(_set_state, thing, state)
    if isinstance(thing, np.random.Generator):
        bits: Any = thing.bit_generator
        kept = copy.deepcopy(bits.state)
        return lambda: setattr(bits, "state", kept)
    if isinstance(thing, np.random.RandomState):
        legacy = thing.get_state()
        return lambda: thing.set_state(legacy)
    if isinstance(thing, random.Random):
        python = thing.getstate()
        return lambda: thing.setstate(python)
    if isinstance(thing, list):
        items = list(thing)
        return lambda: thing.__setitem__(slice(None), items)
    if isinstance(thing, dict):
        entries = dict(thing)
        return partial(_refill, thing, entries)
    if isinstance(thing, torch.Tensor):
        return _of_tensor(thing)
    if isinstance(thing, LRScheduler) or hasattr(thing, "__dict__"):
        return _of_attributes(thing)
    return None


def _refill(table: dict[Any, Any], entries: dict[Any, Any]) -> None:
    table.clear()
    table.update(entries)


def _set_state(generator: torch.Generator, state: torch.Tensor) -> None:
    generator.set_state(state)


def _of_tensor(tensor: torch.Tensor) -> Undo | None:
    if tensor.is_meta or nn.parameter.is_lazy(tensor):
        return None
    values, needs, gradient = tensor.detach().clone(), tensor.requires_grad, tensor.grad if tensor.is_leaf else None
    kept = None if gradient is None else gradient.detach().clone()
    version = tensor._version

    def back() -> None:
        with torch.no_grad():
            # A write would invalidate a graph that awaits backward; `.data` may have been written without a trace.
            if tensor._version != version or not _same(tensor, values):
                tensor.data.copy_(values)
            if tensor.is_leaf:
                if tensor.requires_grad != needs:
                    tensor.requires_grad_(needs)
                tensor.grad = gradient
                if gradient is not None and kept is not None and not _same(gradient, kept):
                    gradient.copy_(kept)

    return back


def _same(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    """Bit for bit, with what is not a number equal to itself."""
    return torch.equal(tensor, other) or bool(((tensor == other) | ((tensor != tensor) & (other != other))).all())


def _of_module(module: nn.Module) -> Undo:
    attributes = dict(vars(module))
    tables = {name: value.copy() for name, value in attributes.items() if isinstance(value, dict)}
    tensors = [
        back
        for tensor in (*module._parameters.values(), *module._buffers.values())
        if tensor is not None and (back := _of_tensor(tensor)) is not None
    ]

    def restore() -> None:
        vars(module).clear()
        vars(module).update(attributes)
        for name, entries in tables.items():
            table = attributes[name]
            if [(key, id(value)) for key, value in table.items()] != [(k, id(v)) for k, v in entries.items()]:
                _refill(table, entries)
        for back in tensors:
            back()

    return restore


def _of_optimizer(optimizer: Optimizer) -> Undo:
    groups = [(group, dict(group), list(group["params"])) for group in optimizer.param_groups]
    states = {parameter: dict(state) for parameter, state in optimizer.state.items()}
    tensors = [
        back
        for state in states.values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and (back := _of_tensor(value)) is not None
    ]
    parameters = [back for _, _, params in groups for p in params if (back := _of_tensor(p)) is not None]
    attributes = dict(vars(optimizer))

    def restore() -> None:
        vars(optimizer).clear()
        vars(optimizer).update(attributes)
        optimizer.param_groups[:] = [group for group, _, _ in groups]
        for group, entries, params in groups:
            group.clear()
            group.update(entries)
            group["params"][:] = params
        optimizer.state.clear()
        for parameter, state in states.items():
            optimizer.state[parameter] = dict(state)
        for back in (*tensors, *parameters):
            back()

    return restore


def _of_attributes(thing: object) -> Undo:
    attributes = dict(vars(thing))

    def restore() -> None:
        # A loader forbids to set some of its attributes; its table of them can be written.
        vars(thing).clear()
        vars(thing).update(attributes)

    return restore
