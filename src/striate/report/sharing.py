"""Compare a network of several targets with a network for each target, at the same budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from striate.data.loader import batch_bounds
from striate.evaluation.evaluate import evaluate_trained
from striate.statistics.paired import LEVEL, Difference, holm, p_text
from striate.tasks.evaluation import Evaluation
from striate.tasks.metric import Metric
from striate.training.events import EpochDone
from striate.training.execution import execution_settings, measured_at_once
from striate.training.loop import training_events
from striate.training.prepare import Prepared, prepare_data
from striate.visualize.page_parts import Section, Table
from striate.wording import formatted


@dataclass(frozen=True)
class SharedTarget:
    """One target in the network that predicts all targets, and in a network of its own that was trained on the same
    samples for as many steps."""

    name: str
    """The target by name."""
    metric: Metric
    """Its headline metric."""
    together: float | None
    """The metric in the network of all targets; None where it is not defined."""
    alone: float | None
    """The metric in the network of its own; None where it is not defined."""
    difference: Difference
    """Positive where sharing is better."""
    p_value: float
    """Of the difference."""

    @property
    def verdict(self) -> str:
        """`helps`, `hurts`, or `makes no significant difference`."""
        if self.p_value >= LEVEL or not self.difference.value:
            return "makes no significant difference"
        return "helps" if self.difference.value > 0 else "hurts"

    @property
    def sentence(self) -> str:
        """The effect of sharing on this target, in a sentence."""
        values = f"{self.metric.name} {self.metric.text(self.together)} together, {self.metric.text(self.alone)} alone"
        return f"Sharing {self.verdict} for {self.name}: {values} ({self._span}p {p_text(self.p_value)})."

    @property
    def _span(self) -> str:
        interval = self.difference.interval
        if interval is None:
            return ""
        scale, unit = self.metric.lead
        low, high = (formatted(scale * end, "+.3g") for end in (interval.low, interval.high))
        return f"gain {low} to {high}{unit}, paired 95 % interval; "

    def to_json(self) -> dict[str, Any]:
        """As metrics.json has it under `single`."""
        interval = self.difference.interval
        return {
            "metric": self.metric.key,
            "together": self.together,
            "alone": self.alone,
            "difference": self.difference.value,
            "interval": None if interval is None else [interval.low, interval.high],
            "p_value": self.p_value,
            "verdict": self.verdict,
            "sentence": self.sentence,
        }


def measure_sharing(prepared: Prepared, test: Evaluation, announce: Callable[[str], None]) -> tuple[SharedTarget, ...]:
    """Train a network for each target alone, with the configuration of the run, and compare it with the network of all
    on the same samples; p-values are corrected for the number of targets (Holm)."""
    found = []
    for name, fields in prepared.task.single_targets().items():
        announce(f"alone: {name}")
        other = _train_single_target(prepared, fields, test.split)
        found.append((name, *prepared.task.compare_single(name, test, other)))
    corrected = holm([difference.p_value for *_, difference in found])
    return tuple(SharedTarget(*one, p) for one, p in zip(found, corrected, strict=True))


def _train_single_target(prepared: Prepared, fields: Mapping[str, Any], split: str) -> Evaluation:
    before, data = prepared.config, prepared.data
    assert before.batch is not None, "a run has decided it"
    steps = prepared.state.step
    epochs = -(-steps // len(batch_bounds(len(data.splits["train"]), before.batch)))
    budget = replace(before.budget.of(steps), epochs=epochs, minutes=None, target=None, patience=None)
    config = replace(before, task=replace(before.task, **fields), budget=budget, compare_single=False, baseline=False)
    again = prepare_data(config, data, request=config)
    state, best = again.state, None
    with execution_settings(again.config):
        for event in training_events(state, again.objective, again.splits, again.config, again.normalize):
            if isinstance(event, EpochDone) and event.best:
                weights = {key: value.clone() for key, value in state.eval_module.state_dict().items()}
                best = weights, event.row.val
        assert best is not None, "an epoch has ended"
        state.eval_module.load_state_dict(best[0])
        trained = replace(again, task=again.task.settled(best[1])).trained()
        return evaluate_trained(trained, data, split, batch=measured_at_once(again.config))


def sharing_section(found: tuple[SharedTarget, ...], of: str) -> tuple[Section, ...]:
    """The table and a sentence for each target; empty without comparisons."""
    if not found:
        return ()
    rows = tuple(
        (one.name, one.metric.name, one.metric.text(one.together), one.metric.text(one.alone), one.verdict)
        for one in found
    )
    table = Table(f"Together and alone, {of}", ("target", "figure", "together", "alone", "sharing"), rows)
    how = "Each target was also trained alone, with only its loss: same network, samples, steps and seed."
    return (Section("Does sharing help?", (how, *(one.sentence for one in found)), (table,)),)
