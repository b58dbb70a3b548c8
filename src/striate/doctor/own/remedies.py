"""Remedies in the words of striate: options of `striate train` instead of lines of a loop that the user never wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from striate.records import Finding
from striate.training.config import Config

_Remedy = Callable[[Config], str]


def _rate(factor: float) -> _Remedy:
    return lambda config: f"--optim.lr {(config.optim.lr or 1e-3) * factor:.3g}, or ask: striate lr-find"


_REMEDIES: dict[str, _Remedy] = {
    "optim.lr-too-high": _rate(0.1),
    "optim.lr-too-low": _rate(10.0),
    "optim.lr-schedule": lambda _: "--schedule.name one-cycle",
    "optim.clip-too-small": lambda _: "--optim.clip 1",
    "optim.weight-decay-too-high": lambda _: "--optim.weight_decay 0",
    "data.label-noise": lambda _: "look at them: striate data check --labels",
    "data.duplicates": lambda _: "striate data check --quarantine clean.csv, and train on that",
    "data.leak": lambda _: "striate data check --quarantine clean.csv, and train on that",
    "model.saturated": lambda _: "--model.init auto, or bn before the activation",
    "model.vanishing-gradient": lambda _: "--model.init auto, bn, relu instead of tanh, or res[ … ]",
    "model.exploding-gradient": lambda _: "--model.init auto, or bn",
    "model.symmetric-init": lambda _: "--model.init auto",
    "fit.overfit": lambda _: "more data, --augment.shift 2, dropout(0.5), or fewer epochs: --budget.patience 5",
    "fit.underfit": lambda _: "a larger network, or more epochs",
    "speed.small-batch": lambda _: "leave out --batch",
    "speed.slow-plan": lambda _: "leave out --plan plain and --execution.*",
}


def in_own_words(finding: Finding, config: Config) -> Finding:
    """The finding with the option that mends it in a training by striate, where there is one."""
    words = _REMEDIES.get(finding.code)
    return finding if words is None else replace(finding, remedy=f"{words(config)}.")
