"""One forward pass of a network, with every operation kept that a layer of it did.
Tensors of a forward pass, as they were when an operation took or gave them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from striate.account.field.intervals import Fields, get_fields
from striate.account.observing.arithmetic import Arithmetic, arithmetic
from striate.account.observing.entries import Entry
from striate.account.observing.observer import Observer, storage_key
from striate.errors import ModelError
from striate.models.preserved_state import on_trial
from striate.observe.tensors import tensors_in
from striate.observe.torch_calls import Operation, torch_operations
from striate.wording import size_in_bytes


class Slot:
    """A place for one tensor, which is copied when something is about to write into it."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class KeptTensors:
    """Slots of all tensors that were kept, and how many `bytes` they hold together, memory of `apart` not counted.

    Layers that work in place, as ReLU often does, would write over what the layer before has given: what they are about
    to write into is copied first, and only that. ModelError beyond `limit` bytes.
    """

    def __init__(self, apart: Iterable[torch.Tensor], limit: int) -> None:
        self.bytes, self.limit = 0, limit
        self._apart = {storage_key(tensor) for tensor in apart}
        self._slots: dict[int, list[Slot]] = {}
        self._before: dict[int, Slot] = {}

    def keep(self, tensor: torch.Tensor) -> Slot:
        """A slot with the tensor as it is now."""
        slot, key = Slot(tensor), storage_key(tensor)
        if key not in self._slots and key not in self._apart:
            self._count(tensor.untyped_storage().nbytes())
        self._slots.setdefault(key, []).append(slot)
        return slot

    def about_to_write(self, tensor: torch.Tensor) -> None:
        """What is kept of the tensor's memory gets memory of its own."""
        before = Slot(tensor.clone())
        self._count(before.tensor.untyped_storage().nbytes())
        self._before = {id(tensor): before}
        for slot in self._slots.pop(storage_key(tensor), ()):
            kept = slot.tensor
            alike = kept.shape == tensor.shape and kept.stride() == tensor.stride()
            if alike and kept.storage_offset() == tensor.storage_offset():
                slot.tensor = before.tensor
            else:
                slot.tensor = kept.clone()
                self._count(slot.tensor.untyped_storage().nbytes())

    def taken(self, tensor: torch.Tensor) -> Slot:
        """A slot with an argument of the operation that has just run, as it was before."""
        return self._before.pop(id(tensor), None) or self.keep(tensor)

    def forget(self) -> None:
        """Let go of all tensors; what they took together stays known."""
        self._slots.clear()
        self._before.clear()

    def _count(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.limit:
            got = f"more than {size_in_bytes(self.limit)} of feature maps for one image"
            remedy = "a smaller input shape, such as 3x64x64, or a narrower network"
            raise ModelError("watching", got, f"at most {size_in_bytes(self.limit)}", remedy)


@contextmanager
def _copied_before_writes(kept: KeptTensors) -> Iterator[None]:
    """While the body runs, `kept` is told before an operation writes into a tensor."""

    def tell(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for place, argument in enumerate(func._schema.arguments if func._schema.is_mutable else ()):
            given = args[place] if place < len(args) else kwargs.get(argument.name)
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in given if isinstance(given, list | tuple) else [given]:
                    if isinstance(tensor, torch.Tensor):
                        kept.about_to_write(tensor)
        return func(*args, **kwargs)

    with torch_operations(tell):
        yield


LARGEST_PASS = 1 << 30
"""Bytes of feature maps that are kept of one pass, at most."""


@dataclass(frozen=True, eq=False)
class Call:
    """One operation of torch: its name, its arguments by name with slots in the place of tensors, and its results."""

    name: str
    arguments: dict[str, Any]
    outputs: tuple[Slot, ...]
    fields: Fields | None = None

    def tensor(self, name: str) -> torch.Tensor | None:
        """An argument that is a tensor, as it was when the operation took it; None where there is none."""
        slot = self.arguments.get(name)
        return slot.tensor.detach() if isinstance(slot, Slot) else None

    def get(self, name: str, default: Any = None) -> Any:
        """Any other argument."""
        return self.arguments.get(name, default)

    @property
    def out(self) -> torch.Tensor:
        """The first result."""
        return self.outputs[0].tensor

    def inputs(self) -> Iterator[Slot]:
        """The tensors among the arguments, those in lists too."""
        for value in self.arguments.values():
            if isinstance(value, Slot):
                yield value
            elif isinstance(value, list):
                yield from (item for item in value if isinstance(item, Slot))


@dataclass(eq=False)
class Part:
    """What one layer did: its entry (None for operations that belong to none), calls in order, and its output."""

    entry: Entry | None
    calls: list[Call] = field(default_factory=list)
    output: Slot | None = None
    gives: list[tuple[Entry, ...]] = field(default_factory=list)
    """For each tensor that goes in, of operations between layers, the entries that it is made of."""


class Passing(Observer):
    """An observer that keeps tensors; `parts` are the layers after the pass, in order."""

    def __init__(self, module: nn.Module, limit: int = LARGEST_PASS) -> None:
        super().__init__(module)
        self.kept = KeptTensors((*module.parameters(), *module.buffers()), limit)
        self._calls: list[tuple[Call, list[Entry]]] = []
        self._outputs: dict[int, Slot] = {}
        self._end_entry = self.entries.end
        self.entries.end = self._keep_output  # type: ignore[method-assign]

    def forget(self) -> None:
        """Let go of all tensors. Observers are part of cycles: these would stay until some garbage collection."""
        self._calls.clear()
        self._outputs.clear()
        self.kept.forget()

    def note(self, operation: Operation) -> None:
        """One operation has run."""
        before = len(self.entries.done)
        stack = [frame.entry for frame in self.entries.stack]
        between = self.entries.between()
        super().note(operation)
        cost = arithmetic(operation)
        works = operation.name == "cat" or cost is None or bool(cost.operations)
        if between and works and len(self.entries.done) == before and any(map(_seeing, operation.inputs())):
            self.entries.add_product(operation.name, operation.inputs(), operation.outputs()[0], Arithmetic())
        if between and len(self.entries.done) > before:
            stack = [self.entries.done[-1]]
            self._outputs[id(stack[0])] = self.kept.keep(operation.outputs()[0])
        self._calls.append((self._call(operation), stack))

    def _call(self, operation: Operation) -> Call:
        names = [argument.name for argument in operation.func._schema.arguments]
        arguments = {name: self._kept(operation.get(name)) for name in names}
        outputs = operation.outputs()
        fields = get_fields(outputs[0]) if outputs else None
        return Call(operation.name, arguments, tuple(map(self.kept.keep, outputs)), fields)

    def _kept(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.kept.taken(value)
        if isinstance(value, list | tuple):
            return [self.kept.taken(item) if isinstance(item, torch.Tensor) else item for item in value]
        return value

    def _keep_output(self, output: object) -> None:
        entry = self.entries.stack[-1].entry
        self._end_entry(output)
        first = next(iter(tensors_in(output)), None)
        if first is not None and self.entries.done and self.entries.done[-1] is entry:
            self._outputs[id(entry)] = self.kept.keep(first)

    def parts(self) -> list[Part]:
        """The layers of the pass, in order; operations that belong to none, where they compute something, among them.

        A call belongs to the outermost layer that it ran in: what that layer called itself is part of it.
        """
        found = {id(entry): Part(entry) for entry in self.entries.done if entry.kind != "Parameter"}
        strangers: list[tuple[int, Part]] = []
        seen: list[int] = []
        for call, stack in self._calls:
            owner = next((id(entry) for entry in stack if id(entry) in found), None)
            if owner is not None:
                found[owner].calls.append(call)
                seen.append(owner)
            elif call.outputs and call.fields is not None and not is_movement(call):
                strangers.append((len(set(seen)), Part(None, [call], call.outputs[0])))
        for key, part in found.items():
            part.output = self._outputs.get(key) or (part.calls[-1].outputs[0] if part.calls else None)
        parts = [part for part in found.values() if part.output is not None]
        for place, part in reversed(strangers):
            parts.insert(place, part)
        return parts


_IN_ORDER = "view _unsafe_view reshape alias clone unsqueeze squeeze flatten unflatten contiguous detach _to_copy"
_MOVED = "t transpose permute slice select split unbind chunk as_strided unfold narrow"
MOVEMENTS = frozenset(_IN_ORDER.split())
"""Operations that leave every number what it is, and in its order."""
_ALL_MOVEMENTS = MOVEMENTS | frozenset((*_MOVED.split(), "_reshape_alias", "expand"))


def is_movement(call: Call) -> bool:
    """Whether an operation only hands numbers on, in whatever order."""
    return call.name in _ALL_MOVEMENTS


def _seeing(tensor: torch.Tensor) -> bool:
    return get_fields(tensor) is not None


def run_pass(module: nn.Module, x: torch.Tensor, limit: int = LARGEST_PASS) -> tuple[Passing, torch.Tensor]:
    """The network's pass over one input (1, *shape), in eval mode, and its output; the network stays as it is.

    ModelError where more feature maps came than are kept, or where the network gives no tensor.
    """
    passing = Passing(module, limit)
    try:
        with on_trial(module), torch.inference_mode(False), torch.no_grad(), _copied_before_writes(passing.kept):
            output = passing.run(module, x)
    except BaseException:
        passing.forget()
        raise
    return passing, next(iter(tensors_in(output)))
