"""Remedies in the words of striate: options of `striate train` instead of lines of a loop that the user never wrote."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from striate.errors import pasted
from striate.records import Finding
from striate.training.config import Config

_Remedy = Callable[[Finding, Config], str]
_RATE = re.compile(r"lr=([0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?)")


def _rate(finding: Finding, config: Config) -> str:
    """The rate that was tried, with its result in the finding."""
    tried = _RATE.search(finding.remedy)
    ask = f"striate lr-find {pasted(config.data.source)}"
    return f"--optim.lr {tried[1]}; or ask: {ask}" if tried else f"Ask: {ask}"


def _words(text: str) -> _Remedy:
    return lambda _finding, config: text.replace("DATA", pasted(config.data.source))


_REMEDIES: dict[str, _Remedy] = {
    "optim.lr-too-high": _rate,
    "optim.lr-too-low": _rate,
    "optim.lr-schedule": _words("--schedule.name one-cycle"),
    "optim.clip-too-small": _words("--optim.clip 1"),
    "optim.weight-decay-too-high": _words("--optim.weight_decay 0"),
    "data.label-noise": _words("Look at them: striate data check DATA --labels"),
    "data.duplicates": _words("Find and leave out the copies: striate data check DATA --quarantine clean.csv"),
    "data.leak": _words("Find and leave out the copies: striate data check DATA --quarantine clean.csv"),
    "model.saturated": _words("--model.init auto, or bn before the activation"),
    "model.vanishing-gradient": _words("--model.init auto, bn, relu instead of tanh, or res[ … ]"),
    "model.exploding-gradient": _words("--model.init auto, or bn"),
    "model.symmetric-init": _words("--model.init auto"),
    "fit.overfit": _words("More data, --augment.shift 2, dropout(0.5), or fewer epochs: --budget.patience 5"),
    "fit.underfit": _words("A larger network, or more epochs"),
    "speed.small-batch": _words("Leave out --batch"),
}


def in_own_words(finding: Finding, config: Config) -> Finding:
    """The finding with the option that mends it in a training by striate, where there is one."""
    words = _REMEDIES.get(finding.code)
    return finding if words is None else replace(finding, remedy=f"{words(finding, config)}.")
