"""Robustness as sentences, and as text for a terminal of 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from striate.errors import one_line
from striate.wording import paragraph

if TYPE_CHECKING:
    from striate.evaluation.robustness.record import Curve, Robustness

_WIDTH = 80
_LABEL = 27


def strength_text(strength: float, unit: str) -> str:
    """`30°`, `2×`, `4 pixels`, `quality 30`, `−2 stops`."""
    number = f"{strength:g}".replace("-", "−")
    if unit == "quality":
        return f"quality {number}"
    unit = {"pixels": "pixel", "fragments": "fragment"}.get(unit, unit) if strength == 1 else unit
    return f"{number}{unit}" if unit[0] in "°×" else f"{number} {unit}"


def summarize(found: Robustness) -> str:
    """What costs most and least, and how far answers stay under a shift."""
    worst, least = found.worst, max(found.curves, key=lambda curve: curve.mean)
    low = worst.lowest
    doubt = f", within what {found.n:,} images can tell" if low.interval.high >= found.interval.low else ""
    said = [
        f"Of what was tried, {worst.name} costs the most: {_points(found.accuracy - worst.mean)} points on average over"
        f" its strengths, from {_percent(found.accuracy)} % right to {_percent(low.accuracy)} % at"
        f" {strength_text(low.strength, worst.unit)}{doubt}."
    ]
    if least is not worst:
        said.append(
            f"{least.name[0].upper()}{least.name[1:]} costs the least ({_points(found.accuracy - least.mean)})."
        )
    shift = next((curve for curve in found.curves if curve.name == "shift"), None)
    if shift is not None:
        ends = [shift.levels[0], shift.levels[-1]] if len(shift.levels) > 1 else [shift.levels[0]]
        parts = " and ".join(f"{_percent(e.unchanged)} % after {strength_text(e.strength, 'pixels')}" for e in ends)
        said.append(f"Of the answers, {parts} of shift are what they were.")
    return " ".join(said)


def render(found: Robustness) -> str:
    """Two lines a kind: strengths, and the accuracy at each; then the summary."""
    low, high = found.interval.low, found.interval.high
    count = f"{found.n:,} images" if found.n == found.of else f"{found.n:,} of {found.of:,} images, evenly spaced"
    title = (
        f"{one_line(found.data)}, {found.split} split: {count}; as they are, {_percent(found.accuracy)} % are right"
        f" (95 %: {_percent(low)} to {_percent(high)})."
    )
    widest = max(100 * (v.interval.high - v.interval.low) / 2 for curve in found.curves for v in curve.levels)
    lines = [paragraph(title, _WIDTH), ""]
    for curve in found.curves:
        lines += _curve_lines(curve)
    note = (
        f"Right answers in percent; 95 % intervals (Wilson) reach at most {widest:.1f} points either way."
        " Averages depend on the strengths that were tried."
    )
    return "\n".join([*lines, "", paragraph(found.summary, _WIDTH), paragraph(note, _WIDTH)])


def _curve_lines(curve: Curve) -> list[str]:
    def row(label: str, cells: list[str]) -> str:
        return f"{label:<{_LABEL}}" + "".join(f"{cell:>6}" for cell in cells)

    head = row(f"{curve.name}, {curve.unit}", [f"{v.strength:g}".replace("-", "−") for v in curve.levels])
    lines = [head, row("  right", [_percent(v.accuracy) for v in curve.levels])]
    if curve.name == "shift":
        lines.append(row("  answer unchanged", [_percent(v.unchanged) for v in curve.levels]))
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _points(share: float) -> str:
    return f"{100 * share:.1f}".replace("-", "−")
