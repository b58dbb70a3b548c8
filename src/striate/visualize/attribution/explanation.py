"""Why a network answers as it does to one input: all that the page shows, as one plain record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.visualize.attribution.change import Covering
from striate.visualize.attribution.nearest import Nearest
from striate.visualize.attribution.record import Maps


@dataclass(frozen=True, eq=False)
class NudgeShown:
    """The smallest change that gradients find toward the runner-up. `changed`: the input then, raw, of the shape of
    the explanation's `input`; `typical`: root of the mean square of the changes, `largest`: the largest one, both in
    `unit`; `answer`: the class then, and its `probability`."""

    changed: NDArray[Any]
    typical: float
    largest: float
    unit: str
    answer: str
    probability: float

    def to_json(self) -> dict[str, Any]:
        """The figures, without the input."""
        return {key: value for key, value in vars(self).items() if key != "changed"}


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a network answers as it does.

    `subject`: the input by name; `network`: the network by name. `fields`: the answer as in a `predict --json` line:
    `label`, `probability`, `top`; or `value` or `values`. `classes`: all names. `input`: as the network was given it,
    before normalization, (C, *spatial) or (F,); `features` name those of a table. `maps`: the maps with their checks,
    the one to look at first in front. `covering` and `nudge`: what it takes to change the answer; None where nothing
    that was tried changes it, or there are no classes. `nearest`: the training samples most alike. `notes`: what else
    the reader must know, a sentence each. `said`: the answer in words. `part`: what of the answer is explained, where
    that is not all of it.
    """

    subject: str
    network: str
    fields: dict[str, Any]
    classes: tuple[str, ...]
    input: NDArray[Any]
    features: tuple[str, ...]
    maps: Maps
    covering: Covering | None
    nudge: NudgeShown | None
    nearest: Nearest
    notes: tuple[str, ...] = ()
    said: str = ""
    part: str = ""

    @property
    def of_class(self) -> bool:
        """Whether what is explained is a class, which can change into another one."""
        return self.label is not None or not self.maps.answer.number

    @property
    def label(self) -> str | None:
        """The most probable class; None where the network answers with numbers."""
        return self.fields.get("label")

    @property
    def runner_up(self) -> tuple[str, float] | None:
        """The second class and its probability."""
        top = self.fields.get("top", ())
        return (str(top[1][0]), float(top[1][1])) if len(top) > 1 else None

    @property
    def trusted(self) -> bool:
        """Whether the map that is shown first passes its checks."""
        return self.maps.chosen.check.trusted

    def to_json(self) -> dict[str, Any]:
        """The document of `striate explain --json`: everything but pictures."""
        covering = None
        if self.covering is not None:
            then = {"label": self.classes[self.covering.answer], "probability": self.covering.probability}
            covering = self.covering.to_json() | then
        runner_up = self.runner_up
        return {
            "subject": self.subject,
            "network": self.network,
            **self.fields,
            "runner_up": None if runner_up is None else list(runner_up),
            "method": self.maps.chosen.method,
            "layer": self.maps.chosen.layer,
            "trusted": self.trusted,
            "why": self.maps.why,
            "answer": self.maps.answer.to_json(),
            "maps": [one.to_json() for one in self.maps.maps],
            "left_out": list(self.maps.left_out),
            "change": {"covering": covering, "nudge": None if self.nudge is None else self.nudge.to_json()},
            "nearest": self.nearest.to_json(),
            "notes": list(self.notes),
            **({"part": self.part} if self.part else {}),
        }

    def _repr_html_(self) -> str:
        from striate.visualize.attribution.notebook import notebook_explanation

        return notebook_explanation(self)

    def __str__(self) -> str:
        from striate.visualize.attribution.text import explanation_text

        return explanation_text(self)


def as_pixels(raw: NDArray[Any]) -> NDArray[np.uint8]:
    """A raw input (C, H, W) as a picture (H, W, 3): bytes as they are; other numbers from their smallest, black, to
    their largest, white; one channel, or the mean of other numbers of channels than three, in gray."""
    values = raw.astype(np.float64)
    if raw.dtype != np.uint8:
        low, high = float(values.min()), float(values.max())
        values = (values - low) * (255 / (high - low) if high > low else 0.0)
    planes = values if len(values) == 3 else np.repeat(values.mean(0, keepdims=True), 3, 0)
    return np.ascontiguousarray(planes.round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
