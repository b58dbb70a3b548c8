"""What follows the metrics and classes of an evaluation on a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size

from striate.errors import one_line
from striate.evaluation.assessment.record import (
    Calibration,
    ClassAnswer,
    ClassificationFigures,
    Estimate,
    Figures,
    RegressionFigures,
    Slice,
    Temperature,
)

_ANSWERS, _SLICES = 5, 8
_AVERAGES = {
    "balanced_accuracy": "balanced accuracy",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "macro_f1": "macro F1",
    "weighted_precision": "weighted precision",
    "weighted_f1": "weighted F1",
    "top2": "top 2",
    "top3": "top 3",
}


def assessment_lines(figures: Figures, temperature: Temperature | None, gap: Mapping[str, Any] | None) -> list[str]:
    """The lines, each part after an empty one."""
    if isinstance(figures, RegressionFigures):
        parts = [*_number_parts(figures), _slice_lines(figures.slices, share=False), _largest_lines(figures)]
    else:
        parts = _class_parts(figures, temperature)
    parts += [_gap_lines(gap), [f"  {_cut(sentence, 78)}" for sentence in figures.left_out]]
    return [line for part in parts if part for line in ("", *part)]


def _class_parts(figures: ClassificationFigures, temperature: Temperature | None) -> list[list[str]]:
    averages = [
        f"  {label:<19}{100 * (figure.value or 0):8.2f} %   {_span(figure, 100, '.2f')}"
        for name, label in _AVERAGES.items()
        if (figure := figures.figures.get(name)) is not None
    ]
    return [
        [f"  {'over all classes':<19}{'':>10}   95 % interval", *averages],
        _calibration_lines(figures, temperature),
        _slice_lines(figures.slices, share=True),
        _answer_lines("most confident mistakes", figures.mistakes),
        _answer_lines("least sure hits", figures.unsure),
    ]


def _calibration_lines(figures: ClassificationFigures, temperature: Temperature | None) -> list[str]:
    raw = figures.calibration
    low, high = raw.ece_by_chance
    lines = [
        f"  calibration: ECE {raw.ece:.4f}; by chance {low:.4f} to {high:.4f} if confidences were true",
        f"    {_verdict(raw)}",
    ]
    if temperature is not None and figures.calibrated is not None:
        value, ends = temperature.value, temperature.interval
        fitted, after = f"fitted on {temperature.fitted_on} (n = {temperature.n:,})", figures.calibrated
        chance = after.ece_by_chance
        lines += [
            f"    a temperature of {value:.3g} ({ends.low:.3g} to {ends.high:.3g}), {fitted},",
            f"    would change ECE {raw.ece:.4f} → {after.ece:.4f}; by chance {chance[0]:.4f} to {chance[1]:.4f}",
            f"    and log loss {raw.nll:.4f} → {after.nll:.4f}",
        ]
        if after.nll >= raw.nll:
            lines.append("    which is no better: leave the probabilities as they are")
    return lines


def _verdict(calibration: Calibration) -> str:
    if calibration.ece <= calibration.ece_by_chance[1]:
        return "confidence and accuracy agree as well as so many samples can tell"
    if calibration.both_ways is not None:
        over, under = calibration.both_ways
        return f"the network is too sure around {100 * over:.0f} %, not sure enough around {100 * under:.0f} %"
    points = f"{abs(100 * calibration.surplus):.1f} points on average"
    return f"the network is {'too sure' if calibration.surplus > 0 else 'not sure enough'}: {points}"


def _slice_lines(slices: Sequence[Slice], *, share: bool) -> list[str]:
    """The slices that differ from all other samples; classes have their table."""
    differing = [entry for entry in slices if entry.differs and entry.by != "class"][:_SLICES]
    if not differing:
        return []
    lines = [f"  {'differ from all others':<38}{'n':>8}  {'accuracy' if share else '    RMSE'}   95 % interval"]
    for entry in differing:
        value = f"{100 * (entry.figure.value or 0):6.2f} %" if share else f"{entry.figure.value or 0:8.4g}"
        span = _span(entry.figure, 100, ".2f") if share else _span(entry.figure, 1, ".4g")
        lines.append(f"  {_fit(f'{entry.by} {entry.name}', 38)}{entry.n:>8,}  {value}   {span}")
    return lines


def _answer_lines(title: str, answers: Sequence[ClassAnswer]) -> list[str]:
    lines = []
    for answer in answers[:_ANSWERS]:
        predicted, true = (one_line(name) for name in (answer.predicted, answer.true))
        if answer.predicted != answer.true:
            said = f"{_cut(true, 18)} taken for {_cut(predicted, 18)}"
        else:
            next_one = f"{_cut(one_line(answer.runner_up), 18)} {100 * answer.runner_up_probability:.1f} %"
            said = f"{_cut(true, 18)} before {next_one}"
        lines.append(f"  {100 * answer.probability:6.1f} %  {_fit(said, 47)} {_cut(one_line(answer.path), 20)}")
    return [f"  {title}", *lines] if lines else []


def _number_parts(figures: RegressionFigures) -> list[list[str]]:
    parts = []
    for target in figures.targets:
        name = _cut(one_line(target.name), 24)
        rows = [(label, target.figures[key]) for key, label in _NUMBERS.items()]
        lines = [f"  {name:<24}{'':>10}   95 % interval (bootstrap)"]
        lines += [f"  {label:<24}{_number(figure):>10}   {_span(figure, 1, '.4g')}" for label, figure in rows]
        parts.append(lines)
        if len(target.ranges) > 1:
            head = f"  {'by true value':<24}{'n':>7} {'bias':>9}   {'95 % interval':<19} {'RMSE':>9}"
            parts.append([head, *(_range_line(part) for part in target.ranges)])
    return parts


_NUMBERS = {"rmse": "RMSE", "mae": "MAE", "bias": "bias", "r2": "R²"}


def _range_line(part: Any) -> str:
    name = f"{part.low:.4g} to {part.high:.4g}"
    bias, rmse = part.figures["bias"], part.figures["rmse"]
    return f"  {name:<24}{part.n:>7,} {_number(bias):>9}   {_span(bias, 1, '.3g'):<19} {_number(rmse):>9}"


def _largest_lines(figures: RegressionFigures) -> list[str]:
    several = len(figures.targets) > 1
    lines = []
    for answer in figures.largest[:_ANSWERS]:
        of = f" ({_cut(one_line(answer.target), 14)})" if several else ""
        said = f"{answer.predicted:.4g} instead of {answer.true:.4g}{of}"
        lines.append(f"  {answer.error:+10.4g}  {_fit(said, 45)} {_cut(one_line(answer.path), 20)}")
    return ["  largest errors", *lines] if lines else []


def _gap_lines(gap: Mapping[str, Any] | None) -> list[str]:
    if gap is None:
        return []
    said, _, judged = one_line(str(gap.get("sentence", ""))).partition(": ")
    return [f"  {_cut(said, 76)}:", f"    {_cut(judged, 76)}"] if judged else []


def _span(figure: Estimate, scale: float, digits: str) -> str:
    if figure.interval is None:
        return "–"
    low, high = (f"{scale * end:{digits}}" for end in (figure.interval.low, figure.interval.high))
    return f"{low} – {high}" + (" %" if scale == 100 else "")


def _number(figure: Estimate) -> str:
    return "–" if figure.value is None else f"{figure.value:.4g}"


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def _fit(text: str, width: int) -> str:
    return set_cell_size(_cut(one_line(text), width), width)
