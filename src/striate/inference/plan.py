"""The inference plan: the backends, what was measured of each, and which was chosen; free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from striate.errors import UsageError
from striate.machine.precision import Precision
from striate.wording import percent, several

Engine = Literal["torch", "openvino"]
Layout = Literal["contiguous", "channels_last"]
PlanMode = Literal["auto", "plain"]

LEAST_EQUAL = 0.995
"""Share of predictions (classes, or pixels of masks) that must equal those of fp32: at most 0.5 % may change."""
MOST_MOVED = 0.01
"""How far predictions may move on average: total variation of class probabilities (0 to 1), or root mean square of the
difference of numbers over the standard deviation of the predictions."""


@dataclass(frozen=True)
class Tolerance:
    """Allowed relative errors (L2 norm) of a precision, against plain fp32."""

    outputs: float
    """Of the outputs."""
    loss: float
    """Of the loss of a training step."""
    gradient: float
    """Of the gradient of a training step."""
    noise: float
    """Also allowed for the gradient: this share of how much it would differ for other samples."""


TOLERANCES = {
    "fp32": Tolerance(outputs=1e-4, loss=1e-4, gradient=1e-4, noise=0.05),
    "tf32": Tolerance(outputs=0.01, loss=0.004, gradient=0.03, noise=0.1),
    "fp16": Tolerance(outputs=0.01, loss=0.004, gradient=0.03, noise=0.1),
    "bf16": Tolerance(outputs=0.06, loss=0.015, gradient=0.15, noise=0.5),
}


def require_plan_mode(mode: str) -> None:
    """Raise UsageError unless `mode` is one of `PlanMode`."""
    if mode not in get_args(PlanMode):
        raise UsageError("plan", repr(mode), " or ".join(get_args(PlanMode)), 'plan="auto"')


@dataclass(frozen=True)
class Backend:
    """One backend to compute outputs, always on a copy of the network."""

    engine: Engine = "torch"
    """The library."""
    precision: Precision = "fp32"
    """Precision of convolutions and matrix products."""
    memory_format: Layout = "contiguous"
    """Memory format of images and kernels."""
    fused: bool = False
    """Whether batch normalizations are folded into the convolutions before them; on a CPU, additions and ReLU after a
    convolution are computed with it."""

    @property
    def name(self) -> str:
        """`bf16, channels_last, fused`; `OpenVINO, bf16`; `plain fp32`."""
        if self == PLAIN:
            return "plain fp32"
        if self.engine == "openvino":
            return f"OpenVINO, {self.precision}"
        extras = [self.memory_format] if self.memory_format != "contiguous" else []
        return ", ".join([self.precision, *extras, *(["fused"] if self.fused else [])])


PLAIN = Backend()
"""The network itself, computed by torch in fp32."""


@dataclass(frozen=True)
class PredictionAgreement:
    """How far the predictions of a backend agree with those of plain fp32 for the same samples."""

    samples: int
    """Number of samples."""
    equal: float | None
    """Share of equal classes, or pixels of masks. None for numbers."""
    moved: float
    """Mean change of the predictions, as in `MOST_MOVED`; 0 for masks."""
    rounding: float
    """Relative error of the outputs (L2 norm)."""

    def fault(self, precision: Precision) -> str:
        """Why the backend must not be chosen, in words; "" where it may."""
        allowed = TOLERANCES["fp32"].outputs
        if precision == "fp32" and not self.rounding <= allowed:
            return f"outputs off by {self.rounding:.1e}, more than rounding ({allowed:g})"
        if self.equal is not None and not self.equal >= LEAST_EQUAL:
            equal, needed = percent(self.equal, 2), f"{100 * LEAST_EQUAL:g} %"
            return f"only {equal} of the predictions equal those of fp32; {needed} are required"
        if not self.moved <= MOST_MOVED:
            return f"predictions move by {self.moved:.2g} on average, more than {MOST_MOVED:g}"
        return ""


@dataclass(frozen=True)
class TriedBackend:
    """One backend and what was measured of it."""

    backend: Backend
    rate: float | None = None
    """Samples per second. None: not timed."""
    plain_rate: float | None = None
    """Samples per second of plain fp32, timed in turns with it. None: not timed."""
    agreement: PredictionAgreement | None = None
    """With plain fp32. None: not compared."""
    refused: str = ""
    """Why it was not chosen; empty where nothing speaks against it."""

    @property
    def differs(self) -> bool:
        """Whether it was refused because its predictions differ from those of plain fp32."""
        return self.agreement is not None and bool(self.refused)

    @property
    def speedup(self) -> float | None:
        """How many times as fast as plain fp32; None where it was not timed."""
        return self.rate / self.plain_rate if self.rate and self.plain_rate else None

    def to_json(self) -> dict[str, Any]:
        """The entry as plain values."""
        speedup = self.speedup and round(self.speedup, 3)
        return asdict(self) | {"name": self.backend.name, "speedup": speedup}


@dataclass(frozen=True)
class InferencePlan:
    """The chosen backend, and all that were tried."""

    backend: Backend = PLAIN
    """The chosen backend."""
    reason: str = ""
    """Why it was chosen."""
    tried: tuple[TriedBackend, ...] = ()
    """The backends that were tried, in order."""
    seconds: float = 0.0
    """Seconds that the search took."""
    cached: bool = False
    """Whether it was found earlier, for the same weights on the same machine. The agreement of the chosen backend is
    always measured anew."""

    @property
    def chosen(self) -> TriedBackend | None:
        """What was measured of the chosen backend; None for plain fp32."""
        return next((tried for tried in self.tried if tried.backend == self.backend), None)

    def line(self) -> str:
        """One line: which backend predicts, how much faster it is, and how well it agrees; "" for plain fp32."""
        if self.backend == PLAIN:
            return ""
        if (found := self.chosen) is None or found.agreement is None:
            return f"predictions computed in {self.backend.name}"
        agreement = found.agreement
        if agreement.equal is not None:
            match = (
                f"{percent(agreement.equal, 2)} of {several(agreement.samples, 'prediction')} equal to those of fp32"
            )
        else:
            match = f"predictions for {several(agreement.samples, 'sample')} within {agreement.moved:.1e} of fp32"
        faster = f"{found.speedup:.1f} × plain fp32, " if found.speedup else ""
        return f"predictions computed in {self.backend.name}: {faster}{match}"

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values, as in metrics.json."""
        return {
            "backend": asdict(self.backend),
            "name": self.backend.name,
            "reason": self.reason,
            "seconds": round(self.seconds, 3),
            "cached": self.cached,
            "tried": [tried.to_json() for tried in self.tried],
        }


def plan_from_json(values: Mapping[str, Any]) -> InferencePlan:
    """The plan that `to_json` wrote, as a cached one. Raises KeyError or TypeError for anything else."""
    tried = tuple(
        TriedBackend(
            Backend(**entry["backend"]),
            entry["rate"],
            entry["plain_rate"],
            None if entry["agreement"] is None else PredictionAgreement(**entry["agreement"]),
            entry["refused"],
        )
        for entry in values["tried"]
    )
    return InferencePlan(Backend(**values["backend"]), str(values["reason"]), tried, 0.0, cached=True)
