"""Attribution maps of one prediction with their checks, as plain frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from striate.visualize.attribution.maps import Method

MOST_ALIKE = 0.5
"""A map whose mean rank correlation with those of shuffled copies is higher does not show what was learned."""
LEAST_GAIN = 0.05
"""A map whose deletion gain is smaller does not show what the prediction depends on."""
LEAST_STRENGTH = 1.5
"""A prediction must stand out by this factor more than the strongest one of the shuffled copies."""
WRITTEN: dict[Method, str] = {
    "saliency": "saliency",
    "integrated-gradients": "integrated gradients",
    "smoothgrad": "SmoothGrad",
    "grad-cam": "Grad-CAM",
    "occlusion": "occlusion",
}
NOT_TRUSTED = "not to be trusted"


@dataclass(frozen=True)
class AnswerCheck:
    """Has the network learned at all?

    `strength`: how far the highest output lies above the mean of all outputs; of a `number`, its standard deviation
        while random halves of the input are removed
    `copies`: the same of copies of the network with shuffled weights

    A network with random weights resembles these copies, so a strength far above theirs is a sign of learning.
    """

    strength: float
    copies: tuple[float, ...]
    number: bool = False

    @property
    def learned(self) -> bool:
        """Whether the strength is at least 1.5 times the strongest copy's."""
        return self.strength >= LEAST_STRENGTH * max(self.copies)

    def sentence(self) -> str:
        """What was found, in one sentence."""
        than = f"{len(self.copies)} copies of the network with shuffled weights"
        most = f"{max(self.copies):.3g} at most (it would have to be {LEAST_STRENGTH:g} times as much)"
        if self.learned:
            most = f"{max(self.copies):.3g} at most"
        if self.number:
            what = "While random halves of the input are removed, the output varies by"
            return f"{what} {self.strength:.3g} (standard deviation); in {than} by {most}."
        return f"The highest output stands {self.strength:.3g} above the mean of all; in {than} {most}."

    def to_json(self) -> dict[str, Any]:
        """Strength of the network and of its copies, and the verdict."""
        return {"strength": self.strength, "shuffled": list(self.copies), "learned": self.learned}


@dataclass(frozen=True)
class MapCheck:
    """How far one map can be trusted.

    `alike`: mean Spearman rank correlation of the map with those of `copies` copies of the network with shuffled
    weights, -1 to 1 (Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018); None where the map is the same
    everywhere. `shares`: parts of the input removed, the most important first; `falling`: what is left of the
    probability (or the number) then; `random`: the same in random order, the mean of several; `gain`: the mean of
    `random` minus that of `falling` (Petsiuk et al., "RISE", BMVC 2018); `first`: whether it fell faster than in each
    of the random orders. `answer`: whether the network has learned at all.
    """

    alike: float | None
    copies: int
    shares: tuple[float, ...]
    falling: tuple[float, ...]
    random: tuple[float, ...]
    gain: float
    first: bool
    answer: AnswerCheck

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not to be trusted; empty where it is."""
        found = []
        if self.alike is None:
            found.append("the map is the same everywhere")
        elif self.alike > MOST_ALIKE:
            found.append("networks with shuffled weights give nearly the same map")
        if self.gain < LEAST_GAIN or not self.first:
            found.append("the prediction does not depend on what the map marks")
        if not self.answer.learned:
            found.append("networks with shuffled weights predict as confidently")
        return tuple(found)

    @property
    def trusted(self) -> bool:
        """Whether all checks are passed."""
        return not self.reasons

    @property
    def verdict(self) -> str:
        """`trusted`, or `not to be trusted: ` and why."""
        return "trusted" if self.trusted else f"{NOT_TRUSTED}: {'; '.join(self.reasons)}"

    def to_json(self) -> dict[str, Any]:
        """All figures, the thresholds they are held against, and the verdict."""
        return {
            "rank_correlation": self.alike,
            "most_rank_correlation": MOST_ALIKE,
            "shuffled_copies": self.copies,
            "deletion_gain": self.gain,
            "least_deletion_gain": LEAST_GAIN,
            "deletion": {"share": list(self.shares), "map": list(self.falling), "random": list(self.random)},
            "trusted": self.trusted,
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True, eq=False)
class AttributionMap:
    """One map with its check. `values` (*spatial) or (F,) float32, of each position or feature; `signed` where negative
    ones are evidence against the prediction; `layer` of Grad-CAM."""

    method: Method
    layer: str | None
    values: NDArray[np.float32]
    signed: bool
    check: MapCheck

    @property
    def name(self) -> str:
        """The method as it is written, and its layer."""
        return WRITTEN[self.method] + ("" if self.layer is None else f" at {self.layer}")

    @property
    def peak(self) -> tuple[int, ...]:
        """Where the mean over a window of a tenth of each side is highest; of a table, the highest feature."""
        window = tuple(max(1, side // 10) if self.values.ndim > 1 else 1 for side in self.values.shape)
        means = uniform_filter(self.values.astype(np.float64), window, mode="constant")
        return tuple(int(place) for place in np.unravel_index(int(means.argmax()), means.shape))

    def to_json(self) -> dict[str, Any]:
        """Method, layer, the position of the highest value, and the check; the values themselves of a table."""
        values = {"values": self.values.tolist()} if self.values.ndim == 1 else {}
        return {"method": self.method, "layer": self.layer, "peak": list(self.peak)} | values | self.check.to_json()


@dataclass(frozen=True)
class Maps:
    """Maps of one prediction; `why` the first is shown first; `left_out`: why others could not be made."""

    maps: tuple[AttributionMap, ...]
    why: str
    left_out: tuple[str, ...]
    answer: AnswerCheck

    @property
    def chosen(self) -> AttributionMap:
        """The first one."""
        return self.maps[0]
