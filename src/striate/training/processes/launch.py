"""What the launcher (`torchrun`) says about this process; free of torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from striate.errors import UsageError

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Launch:
    """This process among those of a launch."""

    rank: int = 0
    """Its number, from 0."""
    count: int = 1
    """The number of processes."""
    local_rank: int = 0
    """Its number on this machine, from 0."""
    local_count: int = 1
    """The number of processes on this machine."""

    @property
    def several(self) -> bool:
        """Whether there are several processes."""
        return self.count > 1


def launched(environment: Mapping[str, str] | None = None) -> Launch:
    """This process as `torchrun` started it; a single process without a launcher. Raises UsageError for variables that
    are not as `torchrun` sets them."""
    known = os.environ if environment is None else environment
    if not all(name in known for name in _NEEDED):
        return Launch()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    texts = [known.get(name, default) for name, default in zip(names, ("", "", "0", known["WORLD_SIZE"]), strict=True)]
    numbers = [int(text) if text.isascii() and text.isdigit() else -1 for text in texts]
    rank, count, local_rank, local_count = numbers
    if not (0 <= rank < count and 0 <= local_rank < local_count <= count):
        raise UsageError(
            "environment",
            ", ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True)),
            "the variables that torchrun sets",
            "torchrun --nproc_per_node=2 --no-python striate train mnist5k; or unset RANK WORLD_SIZE for one process",
        )
    return Launch(rank, count, local_rank, local_count)


def first_process() -> bool:
    """Whether this is the first process, or the only one: the one that prints."""
    return os.environ.get("RANK", "0") == "0" or "MASTER_ADDR" not in os.environ
