"""How much memory the tensors of a forward pass take at the most at one time."""

from __future__ import annotations

import weakref
from collections.abc import Iterable

import torch


class LiveMemory:
    """Bytes of the tensors that are alive, parameters and buffers apart, and the most there ever were.

    Tensors that share memory count once. What a kernel takes for itself while it runs is not seen.
    """

    def __init__(self, apart: Iterable[torch.Tensor]) -> None:
        self.now = self.most = 0
        self._apart = {storage_key(tensor) for tensor in apart}
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def note(self, tensor: torch.Tensor) -> None:
        """A tensor that has just been made, or is given."""
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
    """The same number for tensors that share memory, as long as one of them lives."""
    return int(tensor.untyped_storage()._cdata)
