"""The lectures' table of processors: what each can do at most, beside what a machine was measured to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SOURCE = "deck A, slides “CPU vs GPU”, after Stanford CS231n; peaks as their makers state them, about 2017"


@dataclass(frozen=True)
class Processor:
    """A processor as the lectures have it; rates in GFLOP/s, None where the table has none. `other_rate` is in the
    precision that `other` names (`?` where the table does not say)."""

    name: str
    kind: str
    cores: str
    clock_ghz: float | None
    memory: str
    price: str
    fp32_rate: float | None
    other_rate: float | None = None
    other: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as a JSON object."""
        return asdict(self)


LECTURE_PROCESSORS = (
    Processor("Intel Core i7-7700K", "CPU", "4", 4.2, "RAM", "$339", 540.0),
    Processor("NVIDIA GTX 1080 Ti", "GPU", "3,584", 1.6, "11 GB", "$699", 11_400.0),
    Processor("NVIDIA Titan V", "GPU", "5,120 + 640", 1.5, "12 GB", "$2,999", 14_000.0, 112_000.0, "fp16"),
    Processor("Google Cloud TPU", "TPU", "?", None, "64 GB", "$6.50/h", None, 180_000.0, "?"),
)
