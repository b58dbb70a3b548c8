"""Record one forward pass of a network: the operations of each layer, and their tensors as they were when an operation
read or returned them."""

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
    """Holds one tensor, which is copied before an operation writes into it."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class SavedTensors:
    """Slots of all saved tensors, and the `bytes` of their memory, without that of `apart`.

    Layers that work in place, as ReLU often does, overwrite the output of the layer before: only tensors that are about
    to be overwritten are copied. Raises ModelError beyond `limit` bytes.
    """

    def __init__(self, apart: Iterable[torch.Tensor], limit: int) -> None:
        self.bytes, self.limit = 0, limit
        self._apart = {storage_key(tensor) for tensor in apart}
        self._slots: dict[int, list[Slot]] = {}
        self._before: dict[int, Slot] = {}

    def save(self, tensor: torch.Tensor) -> Slot:
        """A slot with the tensor as it is now."""
        slot, key = Slot(tensor), storage_key(tensor)
        if key not in self._slots and key not in self._apart:
            self._count(tensor.untyped_storage().nbytes())
        self._slots.setdefault(key, []).append(slot)
        return slot

    def about_to_write(self, tensor: torch.Tensor) -> None:
        """Copy the saved tensors that share the tensor's memory."""
        before = Slot(tensor.clone())
        self._count(before.tensor.untyped_storage().nbytes())
        self._before = {id(tensor): before}
        for slot in self._slots.pop(storage_key(tensor), ()):
            saved = slot.tensor
            alike = saved.shape == tensor.shape and saved.stride() == tensor.stride()
            if alike and saved.storage_offset() == tensor.storage_offset():
                slot.tensor = before.tensor
            else:
                slot.tensor = saved.clone()
                self._count(slot.tensor.untyped_storage().nbytes())

    def taken(self, tensor: torch.Tensor) -> Slot:
        """A slot with an argument of the operation that has just run, as it was before the operation."""
        return self._before.pop(id(tensor), None) or self.save(tensor)

    def forget(self) -> None:
        """Free all tensors; `bytes` stays as it is."""
        self._slots.clear()
        self._before.clear()

    def _count(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.limit:
            got = f"more than {size_in_bytes(self.limit)} of feature maps for one image"
            remedy = "a smaller input shape, such as 3x64x64, or a narrower network"
            raise ModelError("watching", got, f"at most {size_in_bytes(self.limit)}", remedy)


@contextmanager
def _copied_before_writes(saved: SavedTensors) -> Iterator[None]:
    """While the body runs, copy saved tensors before an operation writes into them."""

    def copy_first(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for place, argument in enumerate(func._schema.arguments if func._schema.is_mutable else ()):
            given = args[place] if place < len(args) else kwargs.get(argument.name)
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in given if isinstance(given, list | tuple) else [given]:
                    if isinstance(tensor, torch.Tensor):
                        saved.about_to_write(tensor)
        return func(*args, **kwargs)

    with torch_operations(copy_first):
        yield


LARGEST_PASS = 1 << 30
"""Largest size of the saved feature maps of one pass, in bytes."""


@dataclass(frozen=True, eq=False)
class Call:
    """One operation of torch."""

    name: str
    """The operation by name."""
    arguments: dict[str, Any]
    """By name, with slots in place of tensors."""
    outputs: tuple[Slot, ...]
    """The results."""
    fields: Fields | None = None
    """The receptive fields of the results; None where they are not known."""

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
    """One layer of the pass."""

    entry: Entry | None
    """None for operations between layers."""
    calls: list[Call] = field(default_factory=list)
    """The operations, in order."""
    output: Slot | None = None
    """None without a tensor."""
    gives: list[tuple[Entry, ...]] = field(default_factory=list)
    """For each tensor that goes in, of operations between layers, the entries that it is made of."""


class PassRecorder(Observer):
    """An observer that saves tensors; `parts` are the layers of the pass, in order."""

    def __init__(self, module: nn.Module, limit: int = LARGEST_PASS) -> None:
        super().__init__(module)
        self.saved = SavedTensors((*module.parameters(), *module.buffers()), limit)
        self._calls: list[tuple[Call, list[Entry]]] = []
        self._outputs: dict[int, Slot] = {}
        self._end_entry = self.entries.end
        self.entries.end = self._save_output  # type: ignore[method-assign]

    def forget(self) -> None:
        """Free all tensors: observers are part of reference cycles, which would keep them until a garbage
        collection."""
        self._calls.clear()
        self._outputs.clear()
        self.saved.forget()

    def note(self, operation: Operation) -> None:
        """Record an operation that has run."""
        before = len(self.entries.done)
        stack = [frame.entry for frame in self.entries.stack]
        between = self.entries.between()
        super().note(operation)
        cost = arithmetic(operation)
        works = operation.name == "cat" or cost is None or bool(cost.operations)
        if between and works and len(self.entries.done) == before and any(map(_depends_on_input, operation.inputs())):
            self.entries.add_product(operation.name, operation.inputs(), operation.outputs()[0], Arithmetic())
        if between and len(self.entries.done) > before:
            stack = [self.entries.done[-1]]
            self._outputs[id(stack[0])] = self.saved.save(operation.outputs()[0])
        self._calls.append((self._call(operation), stack))

    def _call(self, operation: Operation) -> Call:
        names = [argument.name for argument in operation.func._schema.arguments]
        arguments = {name: self._saved(operation.get(name)) for name in names}
        outputs = operation.outputs()
        fields = get_fields(outputs[0]) if outputs else None
        return Call(operation.name, arguments, tuple(map(self.saved.save, outputs)), fields)

    def _saved(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.saved.taken(value)
        if isinstance(value, list | tuple):
            return [self.saved.taken(item) if isinstance(item, torch.Tensor) else item for item in value]
        return value

    def _save_output(self, output: object) -> None:
        entry = self.entries.stack[-1].entry
        self._end_entry(output)
        first = next(iter(tensors_in(output)), None)
        if first is not None and self.entries.done and self.entries.done[-1] is entry:
            self._outputs[id(entry)] = self.saved.save(first)

    def parts(self) -> list[Part]:
        """The layers of the pass, in order, and the operations between layers that compute something.

        A call belongs to the outermost layer that it ran in.
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
"""Operations that change neither the numbers nor their order."""
_ALL_MOVEMENTS = MOVEMENTS | frozenset((*_MOVED.split(), "_reshape_alias", "expand"))


def is_movement(call: Call) -> bool:
    """Whether an operation only copies or reorders numbers."""
    return call.name in _ALL_MOVEMENTS


def _depends_on_input(tensor: torch.Tensor) -> bool:
    return get_fields(tensor) is not None


def run_pass(module: nn.Module, x: torch.Tensor, limit: int = LARGEST_PASS) -> tuple[PassRecorder, torch.Tensor]:
    """Record the network's pass over one input (1, *shape) in eval mode; the recorder and the output. The network stays
    as it is.

    Raises ModelError where feature maps exceed `limit` bytes, or where the output is not a tensor.
    """
    recorder = PassRecorder(module, limit)
    try:
        with on_trial(module), torch.inference_mode(False), torch.no_grad(), _copied_before_writes(recorder.saved):
            output = recorder.run(module, x)
    except BaseException:
        recorder.forget()
        raise
    return recorder, next(iter(tensors_in(output)))
