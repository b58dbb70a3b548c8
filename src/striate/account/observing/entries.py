"""Every operation of a forward pass, assigned to the call of a layer that it happens in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from striate.account.field.intervals import Fields, get_fields
from striate.account.field.window import Window
from striate.account.ledger import Shape
from striate.account.observing.arithmetic import Arithmetic
from striate.observe.tensors import tensors_in
from striate.observe.torch_calls import Operation

Sources = tuple["Entry", ...]
"""The entries whose outputs a tensor is computed from, through sums, concatenations and other operations without an
entry of their own."""

_KEY = "_striate_sources"


def set_sources(tensors: Iterable[torch.Tensor], sources: Sources) -> None:
    """Attach the sources to tensors."""
    for tensor in tensors:
        tensor.__dict__[_KEY] = sources


def sources_of(tensors: Iterable[torch.Tensor]) -> Sources:
    """The sources of several tensors, each entry once, in the order of the tensors."""
    found: dict[int, Entry] = {}
    for tensor in tensors:
        for entry in tensor.__dict__.get(_KEY, ()):
            found[id(entry)] = entry
    return tuple(found.values())


def follow_sources(operation: Operation, besides: Sources = ()) -> None:
    """Attach to the results of an operation the sources of its inputs, and `besides`."""
    sources = (*sources_of(operation.inputs()), *besides)
    if sources:
        set_sources(operation.outputs(), sources)


@dataclass
class Tally:
    """What one call did: its operations, the parameters that it was the first to use, its windows over its input, and
    the bytes that it saves for the backward pass."""

    macs: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    parameters: list[str] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    saved_bytes: int = 0

    def charge(self, cost: Arithmetic) -> None:
        """Add the cost of one operation."""
        self.macs += cost.macs
        if cost.operations:
            self.operations[cost.function] += cost.operations

    def absorb(self, other: Tally) -> None:
        """Add everything that another call did."""
        self.macs += other.macs
        self.operations += other.operations
        self.parameters += other.parameters
        self.windows += other.windows
        self.saved_bytes += other.saved_bytes


@dataclass
class Entry:
    """A future row of the ledger: a call of a layer or of a function that does what a layer does, or a parameter that
    neither uses."""

    name: str
    kind: str
    tally: Tally
    module: nn.Module | None = None
    in_shape: Shape = ()
    out_shape: Shape = ()
    output_bytes: int = 0
    fields: Fields | None = None
    function: bool = False
    inputs: Sources = ()
    call: int | None = None
    """Number of the call, in the order in which calls begin."""

    def note_output(self, output: object) -> None:
        """Shape, bytes and fields of the first tensor among the results; all of them come from here."""
        set_sources(tensors_in(output), (self,))
        first = next(iter(tensors_in(output)), None)
        if first is not None:
            self.out_shape = sample_shape(first)
            self.output_bytes = first.numel() * first.element_size()
            self.fields = get_fields(first)


@dataclass
class Frame:
    """A call that has begun and not ended. `inner`: whether it has called a module; `start`: the number of entries
    before it."""

    entry: Entry
    start: int
    whole: bool = False
    """Whether it is a layer of torch or of striate, whose functions have no rows of their own."""
    inner: bool = False
    parameters: list[tuple[int, Entry]] = field(default_factory=list)
    """Parameters that it was itself the first to use, each with the number of entries before it."""

    def parameter_names(self) -> list[str]:
        """Their names."""
        return [name for _, entry in self.parameters for name in entry.tally.parameters]


class Entries:
    """The stack of calls that have begun, and the entries of those that have ended."""

    def __init__(self) -> None:
        self.done: list[Entry] = []
        self.stack: list[Frame] = []
        self.early = Tally()  # what happened before there was any entry: for the first one
        self.calls = 0

    def begin(self, entry: Entry, *, whole: bool = False) -> None:
        """Open a call."""
        entry.call, self.calls = self.calls, self.calls + 1
        if self.stack and not entry.function:
            self._open(self.stack[-1])
        self.stack.append(Frame(entry, len(self.done), whole))

    def end(self, output: object) -> None:
        """Close the call that began last."""
        frame = self.stack.pop()
        entry = frame.entry
        parts = self.done[frame.start :]
        if frame.inner or (not self.stack and parts and not entry.function):
            self._open(frame)
            return
        entry.note_output(output)
        entry.tally.parameters += frame.parameter_names()
        # A user's layer that calls no module is one row, whatever functions it is written with.
        del self.done[frame.start :]
        for part in parts:
            entry.tally.absorb(part.tally)
        self._add(entry)

    @property
    def in_layer(self) -> bool:
        """Whether functions that are called now belong to a layer that is one row."""
        return any(frame.whole or frame.entry.function for frame in self.stack)

    @property
    def path(self) -> str:
        """The path of the module that is running."""
        return self.stack[-1].entry.name if self.stack else ""

    def tally(self) -> Tally:
        """Where the cost of the next operation belongs: to the open call or, between the layers of a larger module, to
        the entry before."""
        if self.stack and not self._is_container(self.stack[-1]):
            return self.stack[-1].entry.tally
        return self.done[-1].tally if self.done else self.early

    def between(self) -> bool:
        """Whether no open call can become a row: the next operation runs between layers."""
        return not self.stack or self._is_container(self.stack[-1])

    def add_parameter(self, name: str, parameter: torch.Tensor) -> Entry:
        """Add a parameter that is used for the first time: a row of its own, unless the call that uses it becomes
        one."""
        entry = Entry(name, "Parameter", Tally(parameters=[name]), out_shape=tuple(parameter.shape))
        if self.between():
            self._add(entry)
        else:
            self.stack[-1].parameters.append((len(self.done), entry))
        return entry

    def add_product(self, name: str, inputs: Iterable[torch.Tensor], output: torch.Tensor, cost: Arithmetic) -> None:
        """Add a matrix product between layers."""
        given = list(inputs)
        shape = sample_shape(given[0]) if given else ()
        full = f"{self.path}.{name}" if self.path else name
        entry = Entry(full, name, Tally(), in_shape=shape, function=True, inputs=sources_of(given))
        entry.tally.charge(cost)
        entry.note_output(output)
        self._add(entry)

    def _is_container(self, frame: Frame) -> bool:
        return frame.inner or (len(self.stack) == 1 and len(self.done) > frame.start and not frame.entry.function)

    def _open(self, frame: Frame) -> None:
        """Make no row of a call that turns out to be of a larger module. Its own matrix products become a row, with its
        parameters; without products, each parameter becomes a row and its operations go to the entry before."""
        frame.inner = True
        own, frame.entry.tally = frame.entry.tally, Tally()
        if own.macs:
            own.parameters = frame.parameter_names()
            frame.parameters = []
            name = f"{frame.entry.name}.product" if frame.entry.name else "product"
            before = frame.entry
            self._add(Entry(name, "product", own, in_shape=before.in_shape, function=True, inputs=before.inputs))
            return
        for place, entry in reversed(frame.parameters):
            self._add(entry, place)
        frame.parameters = []
        (self.done[-1].tally if self.done else self.early).absorb(own)

    def _add(self, entry: Entry, place: int | None = None) -> None:
        if not self.done:
            entry.tally.absorb(self.early)
            self.early = Tally()
        self.done.insert(len(self.done) if place is None else place, entry)


def sample_shape(tensor: Any) -> Shape:
    """The shape without the batch axis, where the first axis is a batch of one; else the full shape."""
    shape = tuple(int(side) for side in tensor.shape)
    return shape[1:] if shape[:1] == (1,) else shape
