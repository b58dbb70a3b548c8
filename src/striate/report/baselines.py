"""Measure the baselines, compare the network with them, and describe the result as a table, sentences and a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from striate.report.content import BaselineContent
from striate.report.numbers import columns_of, heading, metric
from striate.tasks.baseline import Baseline, BaselineComparison
from striate.tasks.evaluation import Evaluation
from striate.tasks.registry import metric_named
from striate.tasks.task import Task
from striate.training.prepare import Prepared
from striate.visualize.canvas import of_split, save_figure
from striate.visualize.estimates import baselines_figure
from striate.visualize.page_parts import Picture, Table
from striate.visualize.themed_svg import themed_svg
from striate.wording import number

NETWORK = "this network"
_LEFT_OUT = ("n", "loss", "top5")
_DPI = 144


@dataclass(frozen=True)
class Compared:
    """A baseline, and its comparison with the network."""

    baseline: Baseline
    comparison: BaselineComparison

    def to_json(self) -> dict[str, Any]:
        """One entry of `baselines` in metrics.json: metrics of the test split, how it was fitted, the comparison."""
        return self.baseline.to_json() | {"comparison": self.comparison.to_json()}


def measure_baselines(
    prepared: Prepared, test: Evaluation, announce: Callable[[str], None] = lambda _: None
) -> tuple[Compared, ...]:
    """The baselines of a run's data, each compared with the network's predictions `test` on the test split."""
    # scikit-learn's estimators take a second to load, and only this function needs them.
    from striate.evaluation.baselines import fit_baselines
    from striate.evaluation.evaluate import groups_of

    seed = prepared.config.seed
    fitted = fit_baselines(
        prepared.data, prepared.task.for_network(prepared.state.module), seed=seed, announce=announce
    )
    compare = partial(prepared.task.compare_baseline, test, seed=seed, groups=groups_of(prepared.data, "test"))
    return tuple(Compared(baseline, compare(baseline)) for baseline in fitted)


def baseline_table(baselines: Sequence[Baseline], of: str, network: dict[str, Any] | None = None) -> Table:
    """A row for each method: metrics of the test split, training samples, seconds. `network`, the first row, has the
    keys of a split in metrics.json, `n_train` and `seconds`. `of` names the data of the metrics."""
    rows = [(baseline.name, baseline.to_json()) for baseline in baselines]
    if network is not None:
        rows.insert(0, (NETWORK, network))
    keys = [key for key in columns_of([values for _, values in rows]) if key not in _LEFT_OUT]
    cells = tuple(
        (
            name,
            *(metric(key, values[key]) if key in values else "–" for key in keys),
            number(values["n_train"]) + _unit(name, values),
            f"{values['seconds']:.1f}",
        )
        for name, values in rows
    )
    heads = (heading(key, keys) for key in keys)
    return Table(f"On the {of}", ("method", *heads, "learned from", "seconds"), cells)


def _unit(name: str, values: dict[str, Any]) -> str:
    """The unit of the training samples: of masks, a network learns from whole images, a baseline from pixels."""
    return "" if "iou" not in values else " images" if name == NETWORK else " pixels"


def describe_baselines(compared: Sequence[Compared], network: dict[str, Any], of: str) -> BaselineContent:
    """The content of the report's section "Is the network worth it?"."""
    table = baseline_table([entry.baseline for entry in compared], of, network)
    return BaselineContent(
        table,
        tuple(entry.comparison.sentence for entry in compared),
        tuple(explain_baseline(entry.baseline) for entry in compared),
        min(reversed(compared), key=lambda entry: entry.comparison.difference).comparison.sentence,
    )


def explain_baseline(baseline: Baseline) -> str:
    """How a baseline was fitted, in one paragraph."""
    parts = [f"{baseline.name}: {baseline.what}"]
    if baseline.features != "none" and baseline.features not in baseline.what:
        parts.append(f"Its features: {baseline.features}.")
    if baseline.hyperparameters:
        values = ", ".join(f"{name} = {_plain(value)}" for name, value in _flat(baseline.hyperparameters).items())
        parts.append(f"Chosen on the validation split: {values}.")
    return " ".join(filter(None, [*parts, baseline.note]))


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with those of several targets under their names: `C of color`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = _flat(value) if isinstance(value, Mapping) else None
        found |= {name: value} if inner is None else {f"{key} of {name}": own for key, own in inner.items()}
    return found


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def draw_baselines(folder: Path, compared: Sequence[Compared], test: Evaluation, task: Task) -> Picture:
    """`baselines.png`: the headline metric of the `task` of the network and each baseline."""
    key = task.headline
    measured = [test.metrics, *(entry.baseline.metrics for entry in compared)]
    intervals = [tuple(ends) if (ends := values.get(f"{key}_interval")) else None for values in measured]
    title = of_split(test.data, test.split, test.n)
    figure = baselines_figure(
        [NETWORK, *(entry.baseline.name for entry in compared)],
        [values[key] for values in measured],
        intervals,
        metric=metric_named(key).name,
        title=title,
        share=metric_named(key).is_share,
    )
    direction = "Further right is better." if task.higher_is_better else "Further left is better."
    path = save_figure(figure, folder / "baselines.png", _DPI)
    caption = f"{title}. {direction}"
    return Picture("The network beside its baselines", caption, path, "baselines", (themed_svg(figure, caption),))
