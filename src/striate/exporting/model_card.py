"""The model card of a run, from the files of the run alone.

Mitchell et al., "Model cards for model reporting", 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Preparation
from striate.errors import one_line
from striate.tasks.groups import FEWEST
from striate.tasks.registry import metric_named
from striate.wording import several

_FITTED = {
    "crop": "cropped to the center where proportions differ",
    "stretch": "stretched where proportions differ",
    "pad": "with black borders where proportions differ",
}
_WHOLE = {
    "crop": "in training; whole images are scaled until they cover this size",
    "stretch": "in training; whole images are stretched to this size",
    "pad": "in training; whole images are scaled until they fit into this size",
}
_SPLITS = {"val": "validation", "test": "test"}


def card_facts(
    metrics: Mapping[str, Any], assessment: Mapping[str, Any] | None, shown: tuple[str, ...], source: str
) -> dict[str, Any]:
    """The facts of the card, from metrics.json and evaluation.json; `shown` are the keys of the task's metrics."""
    assessment = assessment or {}
    test = assessment.get("splits", {}).get("test") or assessment.get("splits", {}).get("val") or {}
    return {
        "source": source,
        "counts": {
            name: metrics[name].get("of", metrics[name]["n"])
            for name in ("train", "val", "test")
            if metrics.get(name, {}).get("n")
        },
        "metrics": {
            name: {key: value for key, value in metrics[name].items() if key in shown or key.endswith("_interval")}
            for name in _SPLITS
            if isinstance(metrics.get(name), dict)
        },
        "shown": list(shown),
        "params": metrics.get("params"),
        "macs": metrics.get("macs"),
        "epochs": metrics.get("epochs"),
        "train_seconds": metrics.get("train_seconds"),
        "device": metrics.get("device"),
        "findings": [
            f"{found['why'].removesuffix('.')} ({found['measured']})."
            for found in metrics.get("findings", ())
            if found["severity"] in ("error", "warning")
        ],
        "gap": (assessment.get("gap") or {}).get("sentence"),
        "temperature": assessment.get("temperature"),
        "slices": [part for part in test.get("slices", ()) if part.get("differs")],
    }


def model_card(facts: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    return "\n".join(_lines(facts)) + "\n"


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    card, classes = facts["card"], facts["classes"]
    name = f"{facts['model']} on {facts['data']}"
    yield from ("---", "library_name: striate", "tags:", f"- {facts['task']}", "---", "")
    yield from (f"# {_safe(name)}", "")
    yield f"A network for the task `{facts['task']}`, trained by striate {facts['striate']}."
    if classes:
        yield f"Classes: {', '.join(_safe(c) for c in classes)}."
    yield from ("", "## Metrics", "")
    yield from _metric_rows(card, len(classes))
    yield from ("", *_intervals(card), "## Data", "")
    counts = ", ".join(f"{count:,} {split}" for split, count in card["counts"].items())
    yield f"{_safe(card['source'])}: {counts} samples. Inputs: {input_text(facts)}."
    yield "The test samples were used once, after training, and selected nothing."
    yield from ("", "## Training", "")
    yield (
        f"{several(card['params'], 'parameter')}, {several(card['macs'], 'multiply–accumulate')} for one input; "
        f"{several(card['epochs'], 'epoch')} in {card['train_seconds']:,.0f} s on {card['device']}."
    )
    if begun := card.get("weights"):
        license = f"license {begun['license']}" if begun["license"] else "license unknown"
        yield f"Training started from the weights {_safe(begun['name'])}, {_safe(license)}."
    yield from ("", "## Limits", "")
    yield from (f"- {line}" for line in _limits(card))
    yield from ("", "## Use", "", "```python", "from load import load", "", "network, config = load()")
    yield f"outputs = network(inputs)  # {input_shape_text(facts)} in; {', '.join(facts['outputs'])} out"
    yield "```"
    if facts["input"]["name"] == "image":
        yield ""
        yield (
            "Give pictures upright, as their EXIF says, with transparency over white, and 16-bit values divided by 257."
        )


def _metric_rows(card: Mapping[str, Any], classes: int) -> Iterator[str]:
    splits = list(card["metrics"])
    yield "| | " + " | ".join(f"{_SPLITS[split]}, n = {card['counts'].get(split, 0):,}" for split in splits) + " |"
    yield "|---|" + "---|" * len(splits)
    for key in card["shown"]:
        metric = metric_named(key, card["shown"])
        there = any(isinstance(card["metrics"][split].get(key), int | float) for split in splits)
        if there and metric.tells(classes):
            cells = [_cell(key, card["metrics"][split]) for split in splits]
            yield f"| {metric.name} | {' | '.join(cells)} |"


def _cell(key: str, metrics: Mapping[str, Any]) -> str:
    value, ends = metrics.get(key), metrics.get(f"{key}_interval")
    metric = metric_named(key)
    if not isinstance(value, int | float):
        return "–"
    return metric.text(value) + (f" ({metric.text(ends[0])} to {metric.text(ends[1])})" if ends else "")


def _intervals(card: Mapping[str, Any]) -> Iterator[str]:
    """What the intervals of the table are, or why it has none."""
    if any(f"{key}_interval" in metrics for metrics in card["metrics"].values() for key in card["shown"]):
        yield from ("Intervals are 95 % confidence intervals.", "")
    elif all(card["counts"].get(split, 0) < FEWEST for split in card["metrics"]):
        yield from (f"The metrics have no confidence intervals: fewer than {FEWEST} samples.", "")


def input_shape_text(facts: Mapping[str, Any]) -> str:
    """The axes of the input, and its type: `(N, H, W, 3) uint8`."""
    return f"({', '.join(map(str, facts['input']['shape']))}) {facts['input']['type']}"


def input_text(facts: Mapping[str, Any]) -> str:
    """The network's input in training, and what its axes mean."""
    preparation = facts["preparation"]
    shape = " × ".join(map(str, preparation["input_shape"]))
    if facts["input"]["name"] != "image":
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in preparation.items()}
        known = Preparation(**fields)
        medium = medium_of(known.kind)
        parts = [f"numbers of shape {shape}: {medium.describe(known.input_shape)}", medium.axes(known).rstrip(".")]
        if known.intensity:
            limits = " to ".join(f"{limit:g}" for limit in known.limits)
            parts.append(f"Intensities: {known.intensity}" + (f", {limits} become 0 to 1" if limits else ""))
        return ". ".join(part for part in parts if part)
    how = (_WHOLE if facts["whole"] else _FITTED)[preparation["fit"]]
    if facts["whole"] and preparation["native"]:
        how = "the size of the training images; an image of another size is processed whole, at its own size"
    return f"{shape} (channels × height × width in pixels), {how}"


def _limits(card: Mapping[str, Any]) -> Iterator[str]:
    yield from map(_safe, card["findings"])
    if card["gap"]:
        yield _safe(card["gap"])
    if heat := card["temperature"]:
        low, high = heat["interval"]
        sure = "too high" if low > 1 else "too low" if high < 1 else ""
        verdict = f"probabilities are {sure}" if sure else "probabilities are calibrated"
        yield f"On validation, {verdict}: the best temperature is {heat['value']:.3g} ({low:.3g} to {high:.3g})."
    for part in card["slices"][:8]:
        figure = part["value"]["value"]
        yield f"{_safe(part['by'])} {_safe(part['name'])} differs from the rest: {figure:.3g}, n = {part['n']:,}."
    yield "Measured on samples from the source of the training data; performance on other data is unknown."


def _safe(text: object) -> str:
    """The text, such as the name of a file or class, as one line without markup."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in one_line(str(text)))
