"""The search space of a sweep: parses `optim.lr=1e-4..1e-1` to checked dimensions, before anything runs. And the rungs
of successive halving: short complete trainings first, longer ones for the best third of them."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from striate.errors import ConfigError, UsageError
from striate.training.config import Config
from striate.training.config_file import field_names, get_field, with_fields
from striate.training.request import merge_request
from striate.wording import type_of

LOG_FROM = 20
"""A range of positive numbers whose ends differ by this factor or more is searched on a logarithmic scale."""
AROUND = 10
"""Without a search space, the recipe's learning rate and weight decay are searched within this factor."""

_SAMPLES = "validation scores on other samples cannot be compared"
_REFUSED = {
    "data.source": (_SAMPLES, "a sweep for each"),
    "data.val_fraction": (_SAMPLES, "--data.val_fraction 0.2 for all"),
    "data.test_fraction": (_SAMPLES, "--data.test_fraction 0.2 for all"),
    "data.split_seed": (_SAMPLES, "--data.split_seed 1 for all"),
    "data.layout": (_SAMPLES, "--data.layout NCHW for all"),
    "data.max_pixels": (_SAMPLES, "leave it out"),
    "data.store": ("it changes where inputs are stored, not what they are", "--data.store pack for all"),
    "data.packs": ("it changes where inputs are stored, not what they are", "--data.packs FOLDER for all"),
    "evaluation.train_samples": ("it changes what is measured after a training", "--evaluation.train_samples 5000"),
    "data.fingerprint": ("striate sets it", "leave it out"),
    "model.digest": ("striate sets it", "leave it out"),
    "model.weights_digest": ("striate sets it", "leave it out"),
    "model.weights_license": ("striate sets it", "leave it out"),
    "decided": ("striate sets it", "leave it out"),
    "code": ("striate records it", "leave it out"),
    "task.name": ("scores of other tasks cannot be compared", "--task classify for all"),
    "budget.epochs": ("the sweep divides the epochs itself", "--epochs 12 for the longest trainings"),
    "budget.minutes": ("the sweep divides the epochs itself", "--epochs 12, or --minutes 10 for the whole sweep"),
    "budget.steps": ("the sweep divides the epochs itself", "--epochs 12 for the longest trainings"),
    "budget.steps_before": ("striate sets it", "leave it out"),
    "budget.target": ("all trials would stop at it", "striate train --target 0.94 with the best fields"),
    "recipe": ("it only sets the fields that the sweep leaves open", "--recipe quick for all"),
    "seed": ("a lucky seed does not make a configuration better", "--seeds 5 repeats the best with five seeds"),
    "baseline": ("it changes no training", "--baseline true for the final run"),
    "compare_single": ("it changes no training", "--compare-single for the final run"),
    "data.targets": ("scores of other targets cannot be compared", "--targets age:number,gender:class for all"),
    "cv": ("a sweep selects by the validation split", "leave it out"),
}  # fmt: skip
_SHORT = {"data.size": "size", "optim.lr": "lr", "model.name": "model", "task.name": "task"}
_EXAMPLES = (
    "0.001..0.1",
    "0..0.5",
    "0.5..0.9",
    "1..4",
    "0..3",
    "2..16",
    "8000..16000",
    "true|false",
    "[0.9, 0.99]|[0.8, 0.99]",
    "[0.3]|[0.5]",
    "[A]|[B]",
)
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


@dataclass(frozen=True)
class Range:
    """All numbers of a field from `low` to `high`, both included."""

    field: str
    low: float
    """The smallest value."""
    high: float
    """The largest value."""
    log: bool
    """Whether values are drawn evenly on a logarithmic scale."""
    integer: bool
    """Whether values are whole numbers."""

    @property
    def text(self) -> str:
        """The range as typed, with its scale."""
        low, high = (self.field_value(end) for end in (self.low, self.high))
        return f"{'log' if self.log else 'linear'}:{low}..{high}"

    def field_value(self, drawn: float) -> float | int:
        """A drawn number as the field's value."""
        return int(drawn) if self.integer else float(drawn)

    def drawn(self, value: object) -> float | None:
        """The number that gives the field this `value`; None where it lies outside."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if number and self.low <= value <= self.high else None  # type: ignore[return-value, operator]

    @property
    def ends(self) -> tuple[float | int | str, ...]:
        """The values to check before anything runs."""
        return (self.field_value(self.low), self.field_value(self.high))


@dataclass(frozen=True)
class Choices:
    """Several values of a field."""

    field: str
    options: tuple[str, ...]
    """The values as text."""
    values: tuple[Any, ...]
    """The values as the configuration has them, in the same order."""

    @property
    def text(self) -> str:
        """The choices as typed."""
        return "|".join(self.options)

    def field_value(self, drawn: str) -> object:
        """A drawn option as the field's value."""
        return self.values[self.options.index(drawn)]

    def drawn(self, value: object) -> str | None:
        """The option that gives the field this `value`; None where there is none."""
        return next((text for text, known in zip(self.options, self.values, strict=True) if known == value), None)

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values to check before anything runs."""
        return self.values


Dimension = Range | Choices


def space_texts(over: Mapping[str, str | Sequence[object]] | Iterable[str]) -> tuple[str, ...]:
    """A space given in Python as the texts that `parse_space` reads: `{"batch": [16, 32]}` becomes `batch=16|32`.
    Raises UsageError for a single text."""
    if isinstance(over, str):
        raise UsageError("over", repr(over), "a mapping, or a list of texts", f"over=[{over!r}]")
    if isinstance(over, type) or not hasattr(over, "__iter__"):
        got, remedy = type_of(over), "the network is the third argument: model=…"
        raise UsageError("over", got, "a mapping, or a list of texts", remedy)
    if not isinstance(over, Mapping):
        return tuple(str(text) for text in over)
    texts = []
    for field, spec in over.items():
        if not isinstance(spec, str):
            spec = "|".join("null" if value is None else _choice_text(value) for value in spec)
        texts.append(f"{field}={spec}")
    return tuple(texts)


def _choice_text(value: object) -> str:
    if isinstance(value, tuple | list):
        return str(list(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_space(over: Iterable[str]) -> tuple[Dimension, ...]:
    """The dimensions of texts such as `optim.lr=1e-4..1e-1`, `batch=16|32|64`, `augment.shift=linear:0..3`.

    A range `a..b` is for numbers. Without `log:` or `linear:` it is logarithmic where the field takes fractions, and
    both ends are positive and differ by a factor of 20 or more. Raises UsageError, ConfigError.
    """
    space: dict[str, Dimension] = {}
    for text in over:
        field, equals, spec = text.partition("=")
        field = field.strip()
        if not equals or not spec.strip():
            remedy = "--over optim.lr=1e-4..1e-1, or --over 'batch=16|32|64'"
            raise UsageError("--over", repr(text), "FIELD=LOW..HIGH or FIELD=A|B|C", remedy)
        if field in space:
            raise UsageError(f"--over {field}", "the same field twice", "each field once", f"leave out --over {text}")
        space[field] = _dimension(field, spec.strip())
    return tuple(space.values())


def default_space(decided: Config, request: Config) -> tuple[Dimension, ...]:
    """Learning rate and weight decay within a factor of ten of the recipe's values, unless `request` sets them. Raises
    UsageError where it sets both."""
    space: list[Dimension] = []
    for field in ("optim.lr", "optim.weight_decay"):
        value = get_field(decided, field)
        open_ = get_field(request, field) is None or field in request.decided
        if open_ and value:
            low, high = float(f"{value / AROUND:.3g}"), float(f"{value * AROUND:.3g}")
            space.append(Range(field, low, high, log=True, integer=False))
    if not space:
        raise UsageError(
            "striate sweep",
            "nothing to search: optim.lr and optim.weight_decay are given",
            "--over FIELD=LOW..HIGH",
            "--over augment.shift=0..3",
        )
    return tuple(space)


def refuse_fixed(over: Iterable[str], fixed: Mapping[str, Any]) -> None:
    """Raise UsageError where a field is both searched and given. `over`: the texts of `parse_space`."""
    for text in over:
        name, _, spec = (part.strip() for part in text.partition("="))
        if fixed.get(name) is not None:
            remedy = f"leave out --over {name} or --{_SHORT.get(name, name)}"
            raise UsageError(name, f"both {spec} and {fixed[name]}", "either a search or a value", remedy)


def _dimension(field: str, spec: str) -> Dimension:
    if field not in field_names():
        with_fields(Config(), {field: None}, where="--over")  # raises, with a suggestion
    refused = _REFUSED.get(field)
    if field.startswith("execution."):
        refused = ("it changes the speed, not the accuracy", f"--{field} for all")
    if refused:
        raise ConfigError(f"--over {field}", refused[0], "a field that affects the metric", refused[1])
    kinds = _kinds(field)
    ranged = re.fullmatch(rf"(?:(\w+):)?({_NUMBER})\.\.({_NUMBER})", spec)
    if ranged and kinds & {int, float}:
        return _range(field, spec, *ranged.groups(), integer=float not in kinds)
    if ".." in spec and "|" not in spec and not kinds & {str}:
        expected = "a choice such as true|false" if not kinds & {int, float} else "LOW..HIGH, two numbers"
        raise ConfigError(f"--over {field}", spec, expected, f"--over '{field}={_example(field)}'")
    return _choices(field, spec)


def _range(field: str, spec: str, scale: str | None, left: str, right: str, *, integer: bool) -> Range:
    where, remedy = f"--over {field}", f"--over '{field}={_example(field)}'"
    if scale not in (None, "log", "linear"):
        raise ConfigError(where, f"{scale}:", "log:, linear: or no prefix", f"--over {field}=log:{left}..{right}")
    if integer and not (re.fullmatch(r"[+-]?\d+", left) and re.fullmatch(r"[+-]?\d+", right)):
        raise ConfigError(where, spec, "whole numbers", remedy)
    low, high = float(left), float(right)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(where, spec, "finite numbers", remedy)
    if low >= high:
        swapped = f"--over {field}={right}..{left}" if high < low else f"--{field} {left}, or {remedy}"
        raise ConfigError(where, f"{spec}: an empty range", "the smaller number first", swapped)
    if scale == "log" and low <= 0:
        raise ConfigError(
            where, f"a logarithmic range from {left}", "a positive number", f"{where}=linear:{left}..{right}"
        )
    log = scale == "log" or (scale is None and not integer and low > 0 and high / low >= LOG_FROM)
    dimension = Range(field, low, high, log, integer)
    for end in dimension.ends:
        _checked(field, end, remedy)
    return dimension


def _choices(field: str, spec: str) -> Choices:
    options = tuple(option.strip() for option in spec.split("|"))
    remedy = f"--over '{field}={_example(field)}'"
    if len(options) < 2:
        example = f"--{field} '{spec}' for all, or {remedy}"
        raise ConfigError(f"--over {field}", f"the one value {spec}", "a range, or two values or more", example)
    values: list[Any] = []
    for option in options:
        value = _checked(field, option, remedy)
        if value in values:
            raise ConfigError(f"--over {field}", f"{option} twice", "each value once", f"leave out one {option}")
        values.append(value)
    return Choices(field, options, tuple(values))


def _checked(field: str, value: object, remedy: str) -> Any:
    """The value as the configuration has it. Raises ConfigError with a remedy for sweeps."""
    if value == "":
        raise ConfigError(f"--over {field}", "an empty choice", "a value between the | characters", remedy)
    try:
        if field == "data.size":
            return merge_request(Config(), size=value, fields={}).data.size
        return get_field(with_fields(Config(), {field: value}), field)
    except ConfigError as error:
        raise ConfigError(f"--over {field}", error.got, error.expected, remedy) from None
    except UsageError as error:
        raise ConfigError(f"--over {field}", error.got, error.expected, remedy) from None


def _example(field: str) -> str:
    """A valid space of this field."""
    kind = _hint(field)
    literals = [str(arg) for part in _members(kind) for arg in get_args(part) if isinstance(arg, str | int)]
    if literals and bool in _members(kind):
        literals = ["true", "false", *literals]
    if len(literals) > 1:
        return "|".join(literals[:3])
    if field == "data.size":
        return "32|48"
    if field == "model.name":
        return "lenet5|mlp(64)"
    for example in _EXAMPLES:
        try:
            for end in re.split(r"\.\.|\|", example):
                with_fields(Config(), {field: end})
        except ConfigError:
            continue
        return example
    return "A|B"


def _kinds(field: str) -> set[type]:
    """The plain types that a field takes, without None."""
    return {get_origin(part) or part for part in _members(_hint(field))} - {type(None)}


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _hint(field: str) -> Any:
    kind: Any = Config
    for part in field.split("."):
        kind = get_type_hints(kind)[part]
        if not is_dataclass(kind):
            break
    return kind


SHARES = (1 / 9, 1 / 3, 1.0)
"""The rungs: shares of a trial's epochs. Each is a separate training from the first step to the last."""
REDUCTION_FACTOR = 3
"""One in this many trials goes on to the next rung."""


def rung_epochs(epochs: int) -> tuple[int, ...]:
    """The epochs of each rung of a training of `epochs`, at least 1; equal where there are too few."""
    return tuple(max(1, round(share * epochs)) for share in SHARES)


def is_promoted(score: float, earlier: Sequence[float]) -> bool:
    """Whether a trial is among the best third of those that came this far, itself included; or the best of fewer than
    six. `earlier`: the scores of the earlier trials at this rung, higher being better; among equals the earlier one is
    better.

    The rule of asynchronous successive halving (Li et al., "A system for massively parallel hyperparameter tuning",
    2020), applied once, when the trial arrives: it depends only on earlier trials, so a repetition decides alike.
    """
    places = max(1, (len(earlier) + 1) // REDUCTION_FACTOR)
    return sum(other >= score for other in earlier) < places
