"""Records the call graph of a replica's step."""

from __future__ import annotations

import linecache
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from striate.doctor.evidence.call_graph import (
    HEADS,
    INPUT,
    OUTSIDE_TENSOR,
    Call,
    CallGraph,
    Head,
    OutsideTensor,
    TracedModule,
)
from striate.doctor.setup.batch import copied, main_tensor, parts
from striate.doctor.setup.reached_objects import parameters_held, users_frame
from striate.doctor.setup.replicas import Replica
from striate.machine.memory import ran_out
from striate.observe.module_calls import forward_hooks_everywhere, optimizer_steps
from striate.observe.tensors import tensors_in
from striate.observe.torch_calls import function_name, torch_functions

_ENDS = frozenset(["backward", "numpy", "item", "tolist", "__array__", "__setitem__"])
_READS = """
shape size dim ndim dtype device layout is_leaf requires_grad grad grad_fn numel nelement __len__ is_cuda stride
storage_offset data_ptr is_contiguous is_floating_point is_complex _version register_hook retain_grad names is_sparse
itemsize element_size __hash__ __repr__ __format__ _backward_hooks output_nr
"""
_READ_ONLY = frozenset(_READS.split())
"""Functions that only read properties of a tensor."""
_PLAIN = (int, float, bool, str, type(None))
_MOST_NUMBERS = 4_000_000


def trace_step(replica: Replica, batch: Any) -> CallGraph:
    """Make one of the user's steps on a replica, which trains it, and record each call. An error that the step raises
    is recorded too, unless memory ran out."""
    given = copied(batch)
    tracer = _Tracer(replica, given)
    try:
        with tracer.noting(replica):
            replica.step(replica.model, given, replica.optimizer, tracer.traced_loss(replica.loss))
    except Exception as error:
        if ran_out(error):
            raise
        tracer.found.error = error
    return tracer.found


def trace_prediction(replica: Replica, batch: Any, predict: Callable[[], object]) -> CallGraph:
    """Record each call while `predict` runs the network on `batch`."""
    tracer = _Tracer(replica, batch)
    with tracer.noting(replica):
        predict()
    return tracer.found


class _Tracer:
    def __init__(self, replica: Replica, batch: Any) -> None:
        self.found = CallGraph()
        self.names, self.buffers = replica.names, {id(buffer) for buffer in replica.model.buffers()}
        self.optimized = parameters_held(replica.optimizer)
        self.parts = {id(part): name for name, part in replica.model.named_modules()}
        self.batch = {id(tensor) for tensor in tensors_in(batch)}
        self.targets = {id(tensor) for tensor in tensors_in(parts(batch)[1])} - {id(main_tensor(parts(batch)[0]))}
        self.made: dict[int, int] = {}
        self.nodes: dict[Any, int] = {}
        self.alive: list[Any] = [batch]
        self.inside: list[str] = []
        self.entered: list[tuple[tuple[Any, ...], tuple[int, ...]]] = []
        self.arguments: set[int] = set()
        self.count: Counter[str] = Counter()
        self.paused = False

    @contextmanager
    def noting(self, replica: Replica) -> Iterator[None]:
        """While the body runs, record each call outside of the optimizer, with the modules that are running."""

        def pause() -> None:
            self.paused = True

        def go_on() -> None:
            self.paused = False

        with (
            forward_hooks_everywhere(self._enter, self._leave),
            optimizer_steps(replica.optimizer, pause, go_on),
            torch_functions(self._call),
        ):
            yield

    def traced_loss(self, loss: Callable[..., Any]) -> Any:
        """A loss whose result is the root of the graph as long as there is no backward pass."""
        return _TracedLoss(self, loss)

    def _enter(self, part: nn.Module, args: Any) -> None:
        name = self.parts.get(id(part))
        if name == "":
            self.arguments |= {id(tensor) for tensor in tensors_in(args)}
        self.inside.append(f"*{type(part).__name__}" if name is None else name)
        given = list(tensors_in(args))
        self.alive += given
        self.entered.append((tuple(map(self._maker, given)), tuple(map(id, given))))

    def _leave(self, part: nn.Module, _: Any, output: Any) -> None:
        if not self.inside:
            return
        name, (inputs, given) = self.inside.pop(), self.entered.pop()
        tensor = main_tensor(output)
        made = None if tensor is None else self.made.get(id(tensor))
        known = tuple(index for index in inputs if index is not None)
        self.found.modules.append(TracedModule(name, part, known, made, part.training, tuple(self.inside), given))
        if name == "" and self.found.output is None:
            self.found.output = made

    def _maker(self, tensor: torch.Tensor) -> Any:
        return self.made.get(id(tensor), INPUT if id(tensor) in self.batch else None)

    def _call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = function_name(func)
        if self.paused or name in _READ_ONLY:
            return func(*args, **kwargs)
        given = list(tensors_in((args, kwargs)))
        needs = any(tensor.requires_grad for tensor in given)
        if name in HEADS and given:
            copies = [tensor.detach().clone() for tensor in given[:2] if tensor.numel() <= _MOST_NUMBERS]
        else:
            copies = []
        if name == "backward" and given:
            self._goes_backward(given[0])
        try:
            result = func(*args, **kwargs)
        except Exception:
            self.found.failed = (name, tuple(tuple(t.shape) for t in given), tuple(self.inside))
            raise
        outputs = [args[0]] if name == "__setitem__" else list(tensors_in(result))
        if outputs or name in _ENDS:
            call = self._note(name, given, outputs, needs, args, kwargs)
            if copies and call.from_batch:
                self.found.heads.append(Head(call, copies[0], copies[1] if len(copies) > 1 else None))
        return result

    def _note(
        self,
        name: str,
        given: list[torch.Tensor],
        outputs: list[torch.Tensor],
        needs: bool,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Call:
        inputs, parameters = self._sources(given)
        if any(isinstance(value, np.ndarray) and value.size > 1 for value in args[:1]):
            inputs = (INPUT,)  # NumPy's functions are not traced: the array may depend on the batch
        detaches = needs or any(i >= 0 and self.found.calls[i].output_requires_grad for i in inputs)
        call = Call(
            len(self.found.calls),
            name,
            self.count[name],
            tuple(self.inside),
            inputs,
            parameters,
            tuple(tuple(tensor.shape) for tensor in given),
            tuple(outputs[0].shape) if outputs else (),
            _options(args, kwargs),
            needs,
            any(tensor.requires_grad for tensor in outputs),
            any(i == INPUT or self.found.calls[i].from_batch for i in inputs),
            _users_line() if detaches and not any(tensor.requires_grad for tensor in outputs) else "",
        )
        self.count[name] += 1
        self.found.calls.append(call)
        self.alive += outputs
        for tensor in outputs:
            if id(tensor) not in self.names:
                self.made[id(tensor)] = call.index
            if tensor.grad_fn is not None:
                self.alive.append(tensor.grad_fn)
                self.nodes[tensor.grad_fn] = call.index
        return call

    def _sources(self, given: list[torch.Tensor]) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """The calls that computed tensors, and the names of parameters among them."""
        inputs: list[int] = []
        parameters: list[str] = []
        for tensor in given:
            known = self._maker(tensor)
            if id(tensor) in self.names:
                parameters.append(self.names[id(tensor)])
            elif known is not None:
                if id(tensor) not in self.targets or tensor.is_floating_point():
                    inputs.append(known)
            elif tensor.grad_fn is not None:
                inputs.append(self._linked(tensor))
            elif tensor.requires_grad:
                self._note_outside(tensor)
                parameters.append(OUTSIDE_TENSOR)
            elif id(tensor) not in self.buffers and tensor.numel() > 1:
                inputs.append(INPUT)  # of unknown origin: it may depend on the batch
        return tuple(dict.fromkeys(inputs)), tuple(dict.fromkeys(parameters))

    def _linked(self, tensor: torch.Tensor) -> int:
        """Add a call for a tensor that no traced function returned, as one of a user-defined `torch.autograd.Function`,
        by its autograd graph. Returns its index."""
        inputs: set[int] = set()
        parameters: set[str] = set()
        awaiting, seen = [tensor.grad_fn], set()
        while awaiting:
            node: Any = awaiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            variable = getattr(node, "variable", None)
            if node in self.nodes:
                inputs.add(self.nodes[node])
            elif variable is None:
                awaiting += [following for following, _ in node.next_functions]
            elif id(variable) in self.names:
                parameters.add(self.names[id(variable)])
            elif id(variable) in self.batch:
                inputs.add(INPUT)
            else:
                self._note_outside(variable)
        name = type(tensor.grad_fn).__name__
        batch = not inputs or any(i == INPUT or self.found.calls[i].from_batch for i in inputs)
        index = len(self.found.calls)
        made = Call(
            index, name, self.count[name], tuple(self.inside), tuple(sorted(inputs)), tuple(sorted(parameters)), (),
            tuple(tensor.shape), {}, True, True, batch,
        )  # fmt: skip
        self.count[name] += 1
        self.found.calls.append(made)
        self.alive += [tensor, tensor.grad_fn]
        self.made[id(tensor)] = index
        self.nodes[tensor.grad_fn] = index
        return index

    def _note_outside(self, tensor: torch.Tensor) -> None:
        if id(tensor) in self.arguments | self.batch | self.buffers:
            return
        known = next((outside for outside in self.found.outside_tensors if outside.tensor is tensor), None)
        if known is None:
            within = any(not name.startswith("*") for name in self.inside)
            before, optimized = tensor.detach().clone(), id(tensor) in self.optimized
            is_parameter = isinstance(tensor, nn.Parameter)
            known = OutsideTensor(tensor, tuple(self.inside), is_parameter, before, optimized, within)
            self.found.outside_tensors.append(known)
        known.calls.append(len(self.found.calls))

    def _goes_backward(self, tensor: torch.Tensor) -> None:
        if not self.found.backward:
            self.found.backward = True
            self.found.root = self._maker(tensor)
            if self.found.root is None and tensor.grad_fn is not None:
                self.found.root = self._linked(tensor)

    def note_loss(self, value: Any) -> None:
        """Called with the result of the loss."""
        tensor = main_tensor(value)
        if tensor is not None and not self.found.backward:
            self.found.root = self.made.get(id(tensor), self.found.root)


class _TracedLoss:
    def __init__(self, tracer: _Tracer, loss: Any) -> None:
        self.tracer, self.loss = tracer, loss

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        value = self.loss(*args, **kwargs)
        self.tracer.note_loss(value)
        return value

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loss, name)


def _users_line() -> str:
    """The line of the innermost frame in the user's code, as `net.py, line 12: z = self.encoder(x).detach()`; empty
    where unknown."""
    frame = users_frame()
    if frame is None:
        return ""
    file, number = frame.f_code.co_filename, frame.f_lineno
    text = linecache.getline(file, number, frame.f_globals).strip()
    return f"{Path(file).name}, line {number}: `{text}`" if text and "`" not in text else ""


def _options(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    named = {str(place): value for place, value in enumerate(args)} | kwargs
    return {key: value for key, value in named.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN) or (
        isinstance(value, tuple | list) and all(isinstance(part, _PLAIN) for part in value)
    )
