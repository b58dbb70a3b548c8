"""Evaluate each stream of a network alone, and compare their fusion with the best of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from striate.evaluation.evaluate import evaluate_split, groups_of
from striate.statistics.paired import LEVEL, Difference, p_text
from striate.tasks.evaluation import Evaluation
from striate.tasks.metric import Metric
from striate.training.execution import measured_at_once
from striate.training.prepare import Prepared
from striate.visualize.page_parts import Section, Table
from striate.wording import formatted


class OneStream(nn.Module):
    """One stream of a network that has `streams`, and whose `alone` returns the outputs of each."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network, self.name = network, name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.network.alone(x)[self.name]  # type: ignore[operator]
        return outputs


@dataclass(frozen=True)
class Streams:
    """The streams of a network and their fusion, on the split that was held out."""

    metric: Metric
    """The headline metric."""
    fused: float
    """The headline metric of the fusion."""
    metrics: Mapping[str, Mapping[str, Any]]
    """All metrics of each stream alone."""
    better: str
    """The better stream by name."""
    difference: Difference
    """By how much the fusion leads the better stream on the same samples."""
    how: str = ""
    """How the streams are fused, where that was chosen; else empty."""

    @property
    def sentence(self) -> str:
        """How the fusion compares with the better stream."""
        values = ", ".join(f"{name} {self.metric.text(of.get(self.metric.key))}" for name, of in self.metrics.items())
        noise = self.difference.p_value >= LEVEL or not self.difference.value
        better = "better" if self.difference.value > 0 else "worse"
        verdict = (
            f"not significantly different from {self.better} alone" if noise else f"{better} than {self.better} alone"
        )
        span, (scale, unit) = "", self.metric.lead
        if self.difference.interval is not None:
            ends = (self.difference.value, self.difference.interval.low, self.difference.interval.high)
            value, low, high = (formatted(scale * end, "+.3g") for end in ends)
            span = f"{value}{unit}, 95 % interval {low} to {high}{unit}, paired; "
        return (
            f"Streams: {self.metric.name} {values}; fused {self.metric.text(self.fused)}, {verdict}"
            f" ({span}p {p_text(self.difference.p_value)})."
        )

    def fusion(self) -> dict[str, Any]:
        """As metrics.json has it under `fusion`."""
        interval = self.difference.interval
        return {
            "metric": self.metric.key,
            "by": self.how or "the mean of the outputs",
            "value": self.fused,
            "better_stream": self.better,
            "difference": self.difference.value,
            "interval": None if interval is None else [interval.low, interval.high],
            "p_value": self.difference.p_value,
            "sentence": self.sentence,
        }

    def section(self, of: str) -> Section:
        """The table and the sentence."""
        named = {**self.metrics, "fused": {self.metric.key: self.fused}}
        rows = tuple((name, self.metric.text(figures.get(self.metric.key))) for name, figures in named.items())
        sentences = tuple(filter(None, (self.how, self.sentence)))
        return Section("What does each stream see?", sentences, (Table(of, ("stream", self.metric.name), rows),))


def measure_streams(
    prepared: Prepared, test: Evaluation, fused: str, announce: Callable[[str], None]
) -> Streams | None:
    """Evaluate each stream of the network alone, on the samples of `test`; None without streams. `fused`: how they are
    fused, in a sentence; empty for their mean."""
    network, task = prepared.state.eval_module, prepared.task
    names = getattr(network, "streams", ())
    if not names:
        return None
    alone = {name: _evaluate_stream(prepared, network, name, test) for name in names}
    headline, ours = task.headline_metric(), task.rows_of(test)
    rows = {name: task.rows_of(found) for name, found in alone.items()}
    better = max(names, key=lambda name: headline.lead(ours, rows[name]))
    found = Streams(
        task.metrics[0],
        headline.value(ours),
        {name: found.metrics for name, found in alone.items()},
        better,
        task.difference(ours, rows[better], groups=groups_of(prepared.data, test.split)),
        fused,
    )
    announce(found.sentence)
    return found


def _evaluate_stream(prepared: Prepared, network: nn.Module, name: str, test: Evaluation) -> Evaluation:
    data = prepared.data
    return evaluate_split(
        OneStream(network, name).eval(),
        prepared.task,
        data.splits[test.split],
        normalize=prepared.normalize,
        device=prepared.device,
        batch=measured_at_once(prepared.config) or 64,
        data_name=data.name,
        split_name=test.split,
        classes=data.classes,
        groups=groups_of(data, test.split),
    )
