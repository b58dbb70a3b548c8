"""The observer of a forward pass: which modules, functions and operations run, and which tensors are alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from striate.account.field.follow import follow, follow_padding, follow_window, has_rule
from striate.account.field.intervals import Fields, get_fields, input_fields, set_fields
from striate.account.field.window import Window, padding_window, read_padding, read_window
from striate.account.ledger import Shape
from striate.account.observing.arithmetic import arithmetic
from striate.account.observing.entries import (
    Entries,
    Entry,
    Sources,
    Tally,
    follow_sources,
    sample_shape,
    set_sources,
    sources_of,
)
from striate.account.observing.kinds import function_kind, layer_kind
from striate.account.observing.shapes_only import shape_rule
from striate.layers.convolution import LocallyConnected, PartialConvolution
from striate.observe.module_calls import ModuleCall, module_calls
from striate.observe.tensors import tensors_in
from striate.observe.torch_calls import Operation, torch_functions, torch_operations


class LiveMemory:
    """Bytes of the tensors that are alive, without parameters and buffers, and their maximum so far.

    Tensors that share memory count once. The workspace that a kernel allocates while it runs is not included.
    """

    def __init__(self, apart: Iterable[torch.Tensor]) -> None:
        self.now = self.most = 0
        self._apart = {storage_key(tensor) for tensor in apart}
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def note(self, tensor: torch.Tensor) -> None:
        """Count a tensor that has just been made, or is an input."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known or key in self._apart:
            return
        size = storage.nbytes()
        self._known[key] = weakref.ref(storage, lambda _: self._gone(key, size))
        self.now += size
        self.most = max(self.most, self.now)

    def _gone(self, key: int, size: int) -> None:
        del self._known[key]
        self.now -= size


def storage_key(tensor: torch.Tensor) -> int:
    """A number that is the same for tensors that share memory, as long as one of them is alive."""
    return int(tensor.untyped_storage()._cdata)


@dataclass(frozen=True)
class JoinedMap:
    """A map that an operation between layers makes (a sum, a concatenation): its shape without the batch, its receptive
    fields, and the entries that it is made of."""

    shape: Shape
    fields: Fields
    sources: Sources


class Observer:
    """Records a forward pass while it runs. Afterwards, `entries.done` has an entry for each call of a layer.

    `uncounted`: operations that could not be counted, each with the module that called it. `memory`: bytes of the
    tensors that are alive. `unregistered`: the size of each parameter that was used but that no module of the network
    has registered. `joined`: maps that are made between layers, by sums and concatenations.
    """

    def __init__(self, module: nn.Module) -> None:
        self.entries = Entries()
        self.input = Entry("input", "input", Tally())  # the source of all others, without a row
        self.uncounted: dict[str, None] = {}
        self.called: set[str] = set()
        self.parameters = dict(module.named_parameters())
        self.memory = LiveMemory([*module.parameters(), *module.buffers()])
        self.axes = 0
        self.unregistered: dict[int, int] = {}
        self.joined: list[JoinedMap] = []
        self._own = {storage_key(parameter) for parameter in module.parameters()}
        self._unused: dict[int, list[str]] = {}
        for name, parameter in self.parameters.items():
            self._unused.setdefault(storage_key(parameter), []).append(name)

    def run(self, module: nn.Module, given: torch.Tensor) -> object:
        """Run the network on `given`, record everything, and return its output."""
        fields = input_fields(tuple(given.shape))
        self.axes = len(fields)
        set_fields(given, fields)
        set_sources([given], (self.input,))
        self.memory.note(given)
        with self._watching(module), torch_operations(_OperationReporter(self.note)):
            return module(given)

    def run_calls(self, module: nn.Module, given: torch.Tensor) -> object:
        """Run the network on `given`, record only which calls there are, and return its output."""
        with self._watching(module), torch_operations(_OperationReporter(lambda _: None)):
            return module(given)

    @contextmanager
    def _watching(self, module: nn.Module) -> Iterator[None]:
        """While the body runs, calls of modules and of functions that do what layers do become entries."""
        # The modules that compute a weight (parametrizations) belong to the layer that has it.
        parts = {name: part for name, part in module.named_modules() if ".parametrizations." not in f".{name}."}
        with module_calls(parts, self._begin, self._end, self._end, prepend=True), torch_functions(self._run_function):
            yield

    def _begin(self, call: ModuleCall) -> None:
        self.called.add(call.name)
        shape, sources = _inputs((call.args, call.kwargs))
        entry = Entry(call.name, layer_kind(call.module), Tally(), call.module, shape, inputs=sources)
        self.entries.begin(entry, whole=is_whole(call.module))

    def _end(self, call: ModuleCall) -> None:
        if isinstance(call.module, LocallyConnected) and isinstance(call.output, torch.Tensor):
            window = _local_window(call.module)
            self.entries.tally().windows = [window]
            follow_window(call.args[0], call.output, window)
        if isinstance(call.module, PartialConvolution):
            # The layer runs as a dense convolution in which absent connections are zeros.
            tally = self.entries.tally()
            tally.macs = int(tally.macs * call.module.share_connected)
        self.entries.end(call.output)

    def _run_function(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Functions that do what layers do become entries; functions that these call do not arrive here."""
        entries = self.entries
        if func in _LEAVING:
            self.uncounted[f"{entries.path}: leaves torch ({func.__name__})".removeprefix(": ")] = None
        found = None if entries.in_layer else function_kind(func, args, kwargs)
        if found is None:
            out = func(*args, **kwargs)
            if func is nn.functional.pad:
                _note_padding(entries, args, kwargs, out)
            return out
        name, kind = found
        path = f"{entries.path}.{name}" if entries.path else name
        shape, sources = _inputs((args, kwargs))
        entries.begin(Entry(path, kind, Tally(), in_shape=shape, function=True, inputs=sources))
        out = None
        try:
            out = func(*args, **kwargs)
        finally:
            entries.end(out)
        return out

    def note(self, operation: Operation) -> None:
        """Record an operation that has just run."""
        follow(operation, self.axes)
        follow_sources(operation, self._note_parameters(operation))
        for tensor in operation.inputs():
            if type(tensor) is nn.Parameter and (key := storage_key(tensor)) not in self._own:
                self.unregistered[key] = tensor.numel()
        for tensor in operation.outputs():
            self.memory.note(tensor)
        if self.entries.between():
            self._note_joined(operation)
        cost = arithmetic(operation)
        if cost is None:
            place = self.entries.path
            self.uncounted[f"{place}: {operation.name}" if place else operation.name] = None
        elif cost.macs and self.entries.between():
            self.entries.add_product(operation.name, operation.inputs(), operation.outputs()[0], cost)
        else:
            self.entries.tally().charge(cost)
        window = read_window(operation) or read_padding(operation)
        if window is not None:
            self.entries.tally().windows.append(window)

    def _note_joined(self, operation: Operation) -> None:
        """Record the result of an operation if it is a map (N, C, *spatial) with more than one position."""
        for tensor in operation.outputs():
            fields = get_fields(tensor)
            if not fields or tensor.ndim != len(fields) + 2 or max(tensor.shape[2:]) < 2:
                continue
            if all(seen.dim == dim for dim, seen in enumerate(fields, start=2)):
                self.joined.append(JoinedMap(sample_shape(tensor), fields, sources_of([tensor])))

    def _note_parameters(self, operation: Operation) -> Sources:
        """The entries of the parameters that this operation is the first to use."""
        if not self._unused:
            return ()
        found: list[Entry] = []
        for tensor in operation.inputs():
            for name in self._unused.pop(storage_key(tensor), ()):
                found.append(self.entries.add_parameter(name, self.parameters[name]))
        return tuple(found)

    @property
    def unused(self) -> list[str]:
        """Parameters that no operation used, in the order of registration."""
        names = {name for names in self._unused.values() for name in names}
        return [name for name in self.parameters if name in names]


@dataclass(frozen=True)
class _OperationReporter:
    """Runs an operation and reports it to `note`; of a composite operation, the operations that it consists of. (This
    is not a closure: a closure that names itself would keep everything recorded alive until a garbage collection.)"""

    note: Callable[[Operation], None]

    def __call__(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = shape_rule(func, args, kwargs)
        if out is None and _is_composite(func):
            with torch_operations(self):
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
            out = None
        if out is None:
            out = func(*args, **kwargs)
        self.note(Operation(func, args, kwargs, out))
        return out


_COMPOSITE: dict[Any, bool] = {}


def _is_composite(func: Any) -> bool:
    """Whether an operation consists of others. (In inference mode, torch does not decompose it by itself.)"""
    known = _COMPOSITE.get(func)
    if known is None:
        own = func.namespace == "aten" and not has_rule(func)
        known = _COMPOSITE[func] = own and bool(func._can_decompose())
    return known


_LEAVING = {torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.tolist}


def _note_padding(entries: Entries, args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> None:
    x, pads = args[0], kwargs["pad"] if "pad" in kwargs else args[1]
    follow_padding(x, out, pads)
    # All other padding is recorded from the operation itself.
    if "circular" in (*args[2:], kwargs.get("mode")):
        window = padding_window(tuple(x.shape), tuple(out.shape), pads)
        if window is not None:
            entries.tally().windows.append(window)


def _inputs(arguments: object) -> tuple[Shape, Sources]:
    """The shape of the first tensor among the arguments of a call, and the sources of all of them."""
    tensors = list(tensors_in(arguments))
    return sample_shape(tensors[0]) if tensors else (), sources_of(tensors)


def _local_window(layer: LocallyConnected) -> Window:
    before, after = (tuple(pads) for pads in zip(*layer.pads, strict=True))
    ones = (1,) * len(layer.in_size)
    return Window(
        *(layer.in_size, layer.out_size, layer.kernel_size, layer.stride, before, after, ones),
        bias=layer.bias is not None,
        channels=layer.in_channels,
    )


def is_whole(layer: nn.Module) -> bool:
    """Whether a module is a layer of torch or striate: one row, however its forward pass is written."""
    parts = [name for name, _ in layer.named_children() if name != "parametrizations"]
    known = isinstance(layer, nn.MultiheadAttention) or not parts
    return known and any(
        kind.__module__.startswith(("torch.nn.modules.", "striate.layers.")) and kind is not nn.Module
        for kind in type(layer).__mro__
    )
