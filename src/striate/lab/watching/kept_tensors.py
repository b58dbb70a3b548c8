"""Tensors of a forward pass, as they were when an operation took or gave them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from striate.account.observing.live_memory import storage_key
from striate.account.observing.shapes_only import ShapesOnly
from striate.errors import ModelError
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

    def _count(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.limit:
            got = f"more than {size_in_bytes(self.limit)} of feature maps for one image"
            remedy = "a smaller input shape, such as 3x64x64, or a narrower network"
            raise ModelError("watching", got, f"at most {size_in_bytes(self.limit)}", remedy)


class BeforeWrites(ShapesOnly):
    """While it is active, `kept` is told before an operation writes into a tensor."""

    def __init__(self, kept: KeptTensors) -> None:
        super().__init__()
        self.kept = kept

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func._schema.is_mutable:
            for place, argument in enumerate(func._schema.arguments):
                given = args[place] if place < len(args) else kwargs.get(argument.name)
                if argument.alias_info is not None and argument.alias_info.is_write:
                    for tensor in given if isinstance(given, list | tuple) else [given]:
                        if isinstance(tensor, torch.Tensor):
                            self.kept.about_to_write(tensor)
        return func(*args, **kwargs)
