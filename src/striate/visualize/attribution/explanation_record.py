"""The explanation of one prediction as one record, with its text and its HTML."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate import notebook
from striate.data.media.clip.clip_picture import in_flow_colors
from striate.data.media.medium import Preparation
from striate.data.media.volume.slices_picture import in_gray
from striate.visualize.attribution.change import Covering
from striate.visualize.attribution.checks import NOT_TRUSTED, Maps
from striate.visualize.attribution.nearest import Nearest
from striate.wording import filled, percent, probability_text, several, shorten_middle, show_shape

_SIDE = 160  # pixels of a picture in a notebook


@dataclass(frozen=True, eq=False)
class NudgeShown:
    """The smallest change that gradients find toward the second class."""

    changed: NDArray[Any]
    """The changed input, raw, of the shape of the explanation's `input`."""
    typical: float
    """Root mean square of the changes, in `unit`."""
    largest: float
    """The largest change, in `unit`."""
    unit: str
    """The unit, in words."""
    prediction: str
    """The class that is predicted then."""
    probability: float
    """Probability of that class."""

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object, without the input."""
        return {key: value for key, value in vars(self).items() if key != "changed"}


@dataclass(frozen=True, eq=False)
class Explanation:
    """The explanation of one prediction."""

    subject: str
    """The input by name."""
    network: str
    """The network by name."""
    fields: dict[str, Any]
    """The prediction as in a `predict --json` line: `label`, `probability`, `top`; or `value` or `values`."""
    classes: tuple[str, ...]
    """Names of all classes; empty without classes."""
    input: NDArray[Any]
    """The input of the network before normalization, (C, *spatial) or (F,)."""
    features: tuple[str, ...]
    """Names of the features of a table; empty for other inputs."""
    maps: Maps
    """The maps with their checks, the one to show first in front."""
    covering: Covering | None
    """The smallest blurred rectangle that changes the prediction; None where none that was tried does, or without
    classes."""
    nudge: NudgeShown | None
    """The smallest change that changes the prediction; None where no change that was tried does, or without classes."""
    nearest: Nearest
    """The most similar training samples."""
    notes: tuple[str, ...] = ()
    """What else the reader must know, a sentence each."""
    said: str = ""
    """The prediction in words."""
    part: str = ""
    """Which part of the prediction is explained; empty: all of it."""
    rule: str = ""
    """How the class is chosen; empty: as the most probable one."""
    preparation: Preparation | None = None
    """How the input was prepared; None where that is not known."""
    played: bytes = b""
    """A file to play, of a sound; else empty."""

    @property
    def of_class(self) -> bool:
        """Whether a class is explained, which can change into another one."""
        return self.label is not None or not self.maps.prediction_check.number

    @property
    def label(self) -> str | None:
        """The predicted class; None where the network predicts numbers."""
        return self.fields.get("label")

    @property
    def runner_up(self) -> tuple[str, float] | None:
        """The most probable of the other classes and its probability."""
        others = [(str(name), float(share)) for name, share in self.fields.get("top", ()) if name != self.label]
        return others[0] if others else None

    @property
    def trusted(self) -> bool:
        """Whether the map that is shown first passes its checks."""
        return self.maps.chosen.check.trusted

    def to_json(self) -> dict[str, Any]:
        """The document of `striate explain --json`: everything but pictures."""
        covering = None
        if self.covering is not None:
            then = {"label": self.classes[self.covering.predicted], "probability": self.covering.probability}
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
            "prediction_check": self.maps.prediction_check.to_json(),
            "maps": [one.to_json() for one in self.maps.maps],
            "left_out": list(self.maps.left_out),
            "change": {"covering": covering, "nudge": None if self.nudge is None else self.nudge.to_json()},
            "nearest": self.nearest.to_json(),
            "notes": list(self.notes),
            **({"part": self.part} if self.part else {}),
            **({"rule": self.rule} if self.rule else {}),
        }

    def _repr_html_(self) -> str:
        return _notebook_page(self)

    def __str__(self) -> str:
        return explanation_text(self)


def as_pixels(raw: NDArray[Any]) -> NDArray[np.uint8]:
    """A raw input (C, H, W) as a picture (H, W, 3): bytes unchanged; other numbers scaled from the smallest, black, to
    the largest, white. One channel, or the mean of channels other than three, is gray. A clip (C, T, H, W) gives its
    frames (T, H, W, 3), in the colors of its flow if it has no others; a volume (C, D, H, W) its slices (D, H, W, 3),
    with the first channel from its 1st to its 99th percentile."""
    if raw.ndim == 4 and raw.dtype != np.uint8:
        return np.repeat(in_gray(raw)[..., None], 3, -1)
    if raw.ndim == 4:
        return in_flow_colors(raw) if len(raw) == 2 else np.ascontiguousarray(np.moveaxis(raw[:3], 0, -1))
    values = raw.astype(np.float64)
    if raw.dtype != np.uint8:
        low, high = float(values.min()), float(values.max())
        values = (values - low) * (255 / (high - low) if high > low else 0.0)
    planes = values if len(values) == 3 else np.repeat(values.mean(0, keepdims=True), 3, 0)
    return np.ascontiguousarray(planes.round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def explanation_text(explained: Explanation, width: int = 80) -> str:
    """The prediction, the maps with their checks, what would change it, and the nearest training samples, in lines of
    at most `width` letters where names allow it."""
    parts = [
        "\n".join(
            filled(line, width)
            for line in (prediction_line(explained), *part_lines(explained), *trust_lines(explained))
        ),
        _map_table(explained, width),
        "\n".join(filled(line, width) for line in change_lines(explained)),
        _nearest(explained, width),
        "\n".join(filled(note, width) for note in explained.notes),
    ]
    return "\n\n".join(part for part in parts if part)


def prediction_line(explained: Explanation) -> str:
    """`subject: cat, 93.1 %; then dog, 5.0 %`."""
    if explained.label is None:
        fields = explained.fields
        if not fields.keys() & {"value", "values"}:
            return f"{explained.subject}: {explained.said}"
        values = fields.get("values") or {"": fields.get("value")}
        return f"{explained.subject}: " + ", ".join(f"{name} {value:.4g}".strip() for name, value in values.items())
    then = (
        ""
        if explained.runner_up is None
        else f"; then {explained.runner_up[0]}, {probability_text(explained.runner_up[1])}"
    )
    return f"{explained.subject}: {explained.label}, {probability_text(explained.fields['probability'])}{then}"


def part_lines(explained: Explanation) -> list[str]:
    """Which part of the prediction is explained, if not all of it."""
    return [f"Explained: {explained.part}."] if explained.part else []


def trust_lines(explained: Explanation) -> list[str]:
    """Whether to trust the maps, and which one is shown first."""
    verdict = "" if explained.trusted else f"{NOT_TRUSTED[0].upper()}{NOT_TRUSTED[1:]}. "
    return [f"{verdict}{explained.maps.why}", explained.maps.prediction_check.sentence()]


def change_lines(explained: Explanation) -> list[str]:
    """What would change the prediction, a sentence each."""
    if not explained.of_class:
        return []
    return [line for line in (covering_line(explained), nudge_line(explained)) if line]


def covering_line(explained: Explanation) -> str:
    """A sentence on the smallest rectangle whose blurring changes the prediction; empty for a table."""
    if explained.input.ndim != 3:
        return ""
    found = explained.covering
    if found is None:
        return "No blurred rectangle up to half of the input's area changes the prediction."
    place = f"{show_shape(found.size)} at row {found.first[0]}, column {found.first[1]}"
    return (
        f"Blurring a rectangle of {place} ({percent(found.share, 0)} of the input) changes {_it(explained)} to "
        f"{explained.classes[found.predicted]}, {probability_text(found.probability)}: the smallest of those tried."
    )


def nudge_line(explained: Explanation) -> str:
    """A sentence on the smallest change toward the second class."""
    found = explained.nudge
    if explained.rule:
        return f"The predicted class is {explained.rule}; the smallest change is not computed for such a rule."
    if found is None:
        return "Following the gradients finds no change that makes the second class more probable."
    return (
        f"A change along the gradients of {found.typical:.3g} {found.unit} (root mean square; {found.largest:.3g} at "
        f"most) changes {_it(explained)} to {found.prediction}, {probability_text(found.probability)}."
    )


def _it(explained: Explanation) -> str:
    return "them" if explained.part else "the prediction"


def _map_table(explained: Explanation, width: int) -> str:
    rows = [("map", "shuffled", "deletion", "")]
    for one in explained.maps.maps:
        check = one.check
        alike = "–" if check.alike is None else f"{check.alike:.2f}"
        rows.append((shorten_middle(one.name, 32), alike, f"{check.gain:.2f}", "" if check.trusted else NOT_TRUSTED))
    sentences = [
        f"{one.name[0].upper()}{one.name[1:]}: {'; '.join(one.check.reasons)}."
        for one in explained.maps.maps
        if one.check.reasons
    ]
    sentences += [f"Not computed: {reason}." for reason in explained.maps.left_out]
    lines = [*_aligned(rows), "", *(filled(line, width) for line in (*LEGEND, *sentences))]
    return "\n".join(lines)


LEGEND = (
    "Shuffled: rank correlation with the maps of copies with shuffled weights; trusted up to 0.50.",
    "Deletion: how much more the prediction falls, on average, when what the map marks is removed first instead of in "
    "random order; trusted from 0.05.",
)


def _nearest(explained: Explanation, width: int) -> str:
    found = explained.nearest
    if found.missing:
        return filled(found.missing, width)
    head = f"Most similar of {several(found.looked_at, 'training sample')} ({found.source}):"
    rows = [(f"{one.similarity:.3f}", one.label, shorten_middle(one.path, 48)) for one in found.neighbors]
    return "\n".join([filled(head, width), *(f"  {a}  {b}  {c}" for a, b, c in rows)])


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    return [f"{a:{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in rows]


def _notebook_page(explained: Explanation) -> str:
    """The prediction, the input beside the map that is shown first, and the checks, as HTML."""
    chosen, pictures = explained.maps.chosen, ""
    if explained.input.ndim == 3 and chosen.values.ndim == 2:
        strength = np.abs(chosen.values.astype(np.float64))
        gray = (255 * strength / (strength.max() or 1.0)).round().astype(np.uint8)
        pictures = _image(as_pixels(explained.input), "the input") + _image(
            gray, f"{chosen.name}: bright where it matters"
        )
    columns = ("map", "correlation with shuffled weights", "deletion gain", "verdict")
    rows = ((one.name, one.check.alike, one.check.gain, one.check.verdict) for one in explained.maps.maps)
    return notebook.page(
        prediction_line(explained),
        pictures,
        *map(notebook.line, trust_lines(explained)),
        notebook.table(columns, rows),
        *map(notebook.line, change_lines(explained)),
        notebook.items(explained.notes),
    )


def _image(pixels: NDArray[np.uint8], words: str) -> str:
    picture, file = Image.fromarray(pixels), io.BytesIO()
    times = _SIDE / max(picture.size)
    size = max(1, round(picture.width * times)), max(1, round(picture.height * times))
    small = picture.resize(size, Image.Resampling.NEAREST if times > 1 else Image.Resampling.LANCZOS)
    small.save(file, "PNG")
    return notebook.image(b64encode(file.getvalue()).decode("ascii"), words)
