"""The metrics of a cross-validation: means and standard deviations over folds, pooled predictions of each repeat, and
sentences on them. Folds share most of their training samples, which the interval of the mean takes into account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.studies.cross_validation.fold import FoldResult, is_number
from striate.tasks.baseline import in_sentence
from striate.tasks.registry import is_known, metric_named, metric_text
from striate.tasks.task import Task
from striate.wording import formatted, several

LEVEL = 0.95
METHOD = "corrected resampled t (Nadeau and Bengio 2003)"


@dataclass(frozen=True)
class ResampledMean:
    """The mean of a metric over folds."""

    mean: float
    interval: tuple[float, float] | None
    """Its 95 % interval. None: one fold, or folds without any variation."""
    p_value: float | None
    """Two-sided p-value of the mean being 0. None as `interval`."""


def resampled_mean(values: Sequence[float], held_share: float) -> ResampledMean:
    """The corrected resampled t-test of `values`, one per fold; `held_share` = n held out / n trained on.

    Folds share training samples, so the variance of their mean is not s²/J: it is estimated by (1/J + held_share) s²,
    with J − 1 degrees of freedom. Source: C. Nadeau and Y. Bengio, "Inference for the generalization error", Machine
    Learning 52, 2003, section 4.
    """
    numbers = np.asarray(values, np.float64)
    count, mean = len(numbers), float(numbers.mean())
    deviation = float(numbers.std(ddof=1)) if count > 1 else 0.0
    # The mean of equal numbers may differ from them by a rounding error, which would pass for a tiny deviation.
    if deviation <= 1e-12 * max(1.0, float(np.abs(numbers).max())):
        return ResampledMean(mean, None, None)
    error = deviation * (1 / count + held_share) ** 0.5
    from scipy.special import stdtr, stdtrit  # takes a tenth of a second to load

    reach = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * error  # quantile and distribution of Student's t
    p = 2 * float(stdtr(count - 1, -abs(mean) / error))
    return ResampledMean(mean, (mean - reach, mean + reach), p)


_FEW = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def summarize_folds(
    results: Sequence[FoldResult], targets: torch.Tensor, task: Task, *, chosen: bool
) -> dict[str, Any]:
    """The entry `cv` of metrics.json.

    `targets` are those of the whole pool, in the order of ids; `chosen` as in `held_share`. `mean` and `std` are over
    all folds of all repeats (std with J − 1 in the divisor, None for one fold); `interval` is that of the mean of the
    headline metric. `per_repeat` pools the predictions of each repeat, which cover every sample once, and measures them
    together (`values`), with their mean and std over repeats (std None for one repeat).
    """
    repeats = sorted({result.repeat for result in results})
    pooled = [_pooled([result for result in results if result.repeat == repeat], targets, task) for repeat in repeats]
    keys = _keys([result.metrics for result in results])
    center = resampled_mean([float(r.metrics[task.headline]) for r in results], held_share(results, chosen=chosen))
    return {
        "folds": len(results) // len(repeats),
        "repeats": len(repeats),
        "n": len(targets),
        "held_out": [len(result.ids) for result in results],
        "mean": {key: _mean([r.metrics[key] for r in results]) for key in keys},
        "std": {key: _std([r.metrics[key] for r in results]) for key in keys},
        "interval": {task.headline: _clipped(center.interval, task.headline)},
        "per_repeat": {
            "mean": {key: _mean([values[key] for values in pooled]) for key in _keys(pooled)},
            "std": {key: _std([values[key] for values in pooled]) for key in _keys(pooled)},
            "values": pooled,
        },
    }


def _pooled(results: Sequence[FoldResult], targets: torch.Tensor, task: Task) -> dict[str, Any]:
    """Metrics of one repeat, with each sample decided by the task of the fold that held it out."""
    decoded = torch.from_numpy(pooled_predictions(results, results[0].repeat))
    tasks = {number: settled for r in results for settled in [r.settled(task)] for number in r.ids.tolist()}
    measured = task.measure_each([tasks[number] for number in sorted(tasks)], decoded, targets)
    if task.headline in measured:
        return measured
    return {task.headline: task.headline_metric().value(task.rows_for(decoded, targets)), **measured}


def held_share(results: Sequence[FoldResult], *, chosen: bool) -> float:
    """Samples held out for each one trained on; validation samples count as trained on where an epoch was `chosen` by
    them."""
    return float(np.mean([len(r.ids) / (r.n_train + chosen * r.n_val) for r in results]))


def pooled_predictions(results: Sequence[FoldResult], repeat: int) -> NDArray[Any]:
    """(N, …) predictions of one repeat in the order of ids, each from the fold that held the sample out."""
    chosen = [result for result in results if result.repeat == repeat]
    order = np.concatenate([result.ids for result in chosen]).argsort()
    pooled: NDArray[Any] = np.concatenate([result.decoded for result in chosen])[order]
    return pooled


def sentences(cv: Mapping[str, Any], sizes: Sequence[int], headline: str) -> tuple[str, ...]:
    """What the metrics show, and what they do not. `sizes`: how many samples each fold held out."""
    label, count = metric_named(headline).name, len(sizes)
    held = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
    over = metric_text(headline, cv["mean"][headline], cv["std"][headline])
    lines = [
        f"{label} {over} over {several(count, 'held-out fold')} of {held} (mean ± standard deviation between folds)."
    ]
    repeats, pooled = cv["repeats"], cv["per_repeat"]
    figure = metric_text(headline, pooled["mean"][headline], pooled["std"][headline])
    if repeats > 1:
        lines.append(
            f"With the predictions of each repeat pooled, the {_few(repeats)} repeats have {figure} "
            "(mean ± standard deviation)."
        )
    else:
        lines.append(f"All {several(cv['n'], 'prediction')} pooled: {figure}.")
    interval = cv["interval"][headline]
    if interval is not None:
        low, high = (metric_text(headline, end) for end in interval)
        lines.append(f"95 % interval of the mean: {low} to {high}, {METHOD}.")
    lines.append(
        "Folds share most of their training samples, so the standard deviation between folds is not the error of the"
        " mean. The one between repeats shows only the effect of folds and seeds, not of other samples."
    )
    return tuple(lines)


def summary_lines(metrics: Mapping[str, Any]) -> list[str]:
    """The lines of metrics.json for a terminal: headline sentences, other metrics, baselines."""
    cv = metrics["cv"]
    headline = next(iter(cv["interval"]))
    others = [
        f"{metric_named(key, cv['mean']).name} {metric_text(key, cv['mean'][key], cv['std'][key])}"
        for key in cv["mean"]
        if is_known(key) and key not in (headline, "top5")
    ]
    lines = list(sentences(cv, cv["held_out"], headline))
    lines.insert(1, ", ".join(others))
    return [*lines, *(entry["comparison"]["sentence"] for entry in metrics.get("baselines", ()))]


def compare_folds(results: Sequence[FoldResult], name: str, task: Task, *, chosen: bool) -> dict[str, Any]:
    """The network against the baseline `name` on the same folds: mean, std, and the paired comparison of the headline
    metric, positive where the network is better; `chosen` as in `held_share`."""
    key, sign = task.headline, 1 if task.higher_is_better else -1
    measured = [result.baselines[name] for result in results]
    leads = [sign * (float(r.metrics[key]) - float(b[key])) for r, b in zip(results, measured, strict=True)]
    lead = resampled_mean(leads, held_share(results, chosen=chosen))
    keys = [k for k in _keys(measured) if k != "seconds"]
    return {
        "name": name,
        "mean": {k: _mean([m[k] for m in measured]) for k in keys},
        "std": {k: _std([m[k] for m in measured]) for k in keys},
        "comparison": {
            "difference": lead.mean,
            "p_value": lead.p_value,
            "interval": None if lead.interval is None else list(lead.interval),
            "beats": lead.mean > 0 and lead.p_value is not None and lead.p_value < 0.05,
            "sentence": _lead_sentence(lead, sign, name, key, len(leads)),
        },
    }


def _lead_sentence(lead: ResampledMean, sign: int, name: str, key: str, folds: int) -> str:
    """`sign` is −1 where lower is better."""
    label, (scale, unit), name = metric_named(key).name, metric_named(key).lead, in_sentence(name)
    if lead.mean == 0:
        return f"The mean {label} of the network and of {name} on the same {several(folds, 'fold')} is the same."

    def shown(value: float) -> str:
        return formatted(scale * value, ".2f" if unit else ".3g")

    direction = "higher" if sign * lead.mean > 0 else "lower"
    than = f"{shown(abs(lead.mean))}{unit} {direction} than that of {name}"
    if lead.p_value is None or lead.interval is None:
        return (
            f"On each of the same {several(folds, 'fold')} the network's {label} is {than}: without a standard "
            "deviation there is no test."
        )
    verdict = "more than noise" if lead.p_value < 0.05 else "not significant"
    low, high = (shown(end) for end in lead.interval)
    p = "p < 0.0001" if lead.p_value < 0.0001 else f"p = {lead.p_value:.2g}"
    return (
        f"On the same {several(folds, 'fold')} the network's {label} is {than}: {verdict} ({p}; 95 % interval of the "
        f"network's lead {low} to {high}; corrected resampled t-test)."
    )


def _keys(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [key for key, value in rows[0].items() if key != "n" and is_number(key, value)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _std(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) == len(values) > 1 else None


def _clipped(interval: tuple[float, float] | None, key: str) -> list[float] | None:
    """The interval within the range of the metric: shares end at 1, and no headline metric is negative."""
    if interval is None:
        return None
    most = 1.0 if metric_named(key).is_share else float("inf")
    return [min(most, max(0.0, end)) for end in interval]


def _few(count: int) -> str:
    return _FEW[count] if count < len(_FEW) else f"{count}"
