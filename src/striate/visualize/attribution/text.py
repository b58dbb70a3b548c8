"""An explanation for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from striate.visualize.attribution.explanation import Explanation
from striate.visualize.attribution.record import NOT_TRUSTED
from striate.wording import filled, several, shorten_middle, show_sizes


def explanation_text(explained: Explanation, width: int = 80) -> str:
    """The answer, the maps with their checks, what would change the answer, and the nearest training samples, in lines
    of at most `width` letters where names allow it."""
    parts = [
        "\n".join(
            filled(line, width) for line in (answer_line(explained), *part_lines(explained), *trust_lines(explained))
        ),
        _map_table(explained, width),
        "\n".join(filled(line, width) for line in change_lines(explained)),
        _nearest(explained, width),
        "\n".join(filled(note, width) for note in explained.notes),
    ]
    return "\n\n".join(part for part in parts if part)


def answer_line(explained: Explanation) -> str:
    """`subject: cat, 93.1 %; then dog, 5.0 %`."""
    if explained.label is None:
        fields = explained.fields
        if not fields.keys() & {"value", "values"}:
            return f"{explained.subject}: {explained.said}"
        values = fields.get("values") or {"": fields.get("value")}
        return f"{explained.subject}: " + ", ".join(f"{name} {value:.4g}".strip() for name, value in values.items())
    then = "" if explained.runner_up is None else f"; then {explained.runner_up[0]}, {percent(explained.runner_up[1])}"
    return f"{explained.subject}: {explained.label}, {percent(explained.fields['probability'])}{then}"


def part_lines(explained: Explanation) -> list[str]:
    """Which part of the answer is explained, where that is not all of it."""
    return [f"Explained: {explained.part}."] if explained.part else []


def percent(share: float) -> str:
    """`93.1 %`; no probability is ever written as 0 or 100 unless it is."""
    text = f"{100 * share:.1f}"
    if (text == "100.0" and share < 1) or (text == "0.0" and share > 0):
        return "> 99.9 %" if share > 0.5 else "< 0.1 %"
    return f"{text} %"


def trust_lines(explained: Explanation) -> list[str]:
    """Whether to trust the maps, and which one to look at."""
    verdict = "" if explained.trusted else f"{NOT_TRUSTED[0].upper()}{NOT_TRUSTED[1:]}. "
    return [f"{verdict}{explained.maps.why}", explained.maps.answer.sentence()]


def change_lines(explained: Explanation) -> list[str]:
    """What it would take for the answer to be another one, a sentence each."""
    if not explained.of_class:
        return []
    return [line for line in (covering_line(explained), nudge_line(explained)) if line]


def covering_line(explained: Explanation) -> str:
    """On the smallest square whose blurring changes the answer; empty for a table."""
    if explained.input.ndim < 3:
        return ""
    found = explained.covering
    if found is None:
        return "No blurred square up to half of the image's area changes the answer."
    place = f"{show_sizes(found.size)} pixels at row {found.first[0]}, column {found.first[1]}"
    return (
        f"Blurring a square of {place} ({100 * found.share:.0f} % of the image) makes {_it(explained)} "
        f"{explained.classes[found.answer]}, {percent(found.probability)}: the smallest of those tried."
    )


def nudge_line(explained: Explanation) -> str:
    """On the smallest change toward the runner-up."""
    found = explained.nudge
    if found is None:
        return "Gradients find no change that makes the runner-up more probable."
    return (
        f"A change along the gradients of {found.typical:.3g} {found.unit} (root mean square; {found.largest:.3g} at "
        f"most) makes {_it(explained)} {found.answer}, {percent(found.probability)}."
    )


def _it(explained: Explanation) -> str:
    return "them" if explained.part else "it"


def _map_table(explained: Explanation, width: int) -> str:
    rows = [("map", "shuffled", "deletion", "")]
    for one in explained.maps.maps:
        check = one.check
        alike = "–" if check.alike is None else f"{check.alike:.2f}"
        rows.append((shorten_middle(one.name, 32), alike, f"{check.gain:.2f}", "" if check.trusted else NOT_TRUSTED))
    told = [
        f"{one.name[0].upper()}{one.name[1:]}: {'; '.join(one.check.reasons)}."
        for one in explained.maps.maps
        if one.check.reasons
    ]
    told += [f"Left out: {reason}." for reason in explained.maps.left_out]
    lines = [*_aligned(rows), "", *(filled(line, width) for line in (*LEGEND, *told))]
    return "\n".join(lines)


LEGEND = (
    "Shuffled: rank correlation with the maps of copies with shuffled weights, at most 0.50 to be trusted.",
    "Deletion: how much lower the answer is, on average, when what the map calls important is taken out first, rather "
    "than in random order; at least 0.05 to be trusted.",
)


def _nearest(explained: Explanation, width: int) -> str:
    found = explained.nearest
    if found.missing:
        return filled(found.missing, width)
    head = f"Most alike of {several(found.looked_at, 'training sample')} ({found.source}):"
    rows = [(f"{one.similarity:.3f}", one.label, shorten_middle(one.path, 48)) for one in found.neighbors]
    return "\n".join([filled(head, width), *(f"  {a}  {b}  {c}" for a, b, c in rows)])


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    return [f"{a:{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in rows]
