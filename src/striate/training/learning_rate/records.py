"""The records of a search for the learning rate, and the command that trains with the rate it found; free of torch."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from striate.data.sources.objects import is_given_data
from striate.errors import ConfigError
from striate.training.config import Config
from striate.training.config_file import field_names, get_field
from striate.training.request import ConfigSource, read_config
from striate.wording import several

Origin = Literal["recipe", "request"]
"""Who chose the rate that training would use now."""


@dataclass(frozen=True)
class RangePoint:
    """One step of the range test."""

    lr: float
    loss: float
    """Loss of the batch."""
    smoothed: float
    """Exponential moving average of the loss, corrected for its start."""


@dataclass(frozen=True)
class Halving:
    """One short training at a constant rate."""

    lr: float
    loss_start: float
    """Training loss of the first batch; Inf where even that is NaN or Inf."""
    loss_end: float
    """Mean training loss over the last steps."""
    diverged: bool
    """Whether the loss rose, or became NaN or Inf."""


@dataclass(frozen=True)
class RateTrial:
    """One short training with the schedule of the run."""

    lr: float
    """Peak learning rate."""
    seed: int
    """Added to the seed of the run."""
    loss_start: float
    """Training loss of the first batch."""
    loss_end: float
    """Mean training loss over the last steps."""
    held_out: float | None
    """Loss of held-out samples after the training. None: it diverged."""
    diverged: bool
    """Whether the loss became NaN or Inf, or ended clearly above its start."""


@dataclass(frozen=True)
class RateResult:
    """All trials of one learning rate."""

    lr: float
    held_out: float | None
    """Mean held-out loss. None: a trial diverged."""
    lowest: float | None
    """The lowest held-out loss. None: a trial diverged."""
    highest: float | None
    """The highest held-out loss. None: a trial diverged."""
    trials: int
    """Number of trials."""
    good: bool
    """Whether the rate is as good as the best one within noise."""

    @property
    def diverged(self) -> bool:
        """Whether a trial of it diverged."""
        return self.held_out is None


@dataclass(frozen=True)
class LearningRateSearch:
    """The result of a search for the peak learning rate."""

    optimizer: str
    """Name of the optimizer."""
    suggestion: float | None
    """The peak rate to train with, for `run_steps` steps. None: the trials cannot tell."""
    low: float | None
    """Lowest rate that is as good within noise, for `run_steps` steps. None without a suggestion."""
    high: float | None
    """Highest rate that is as good within noise, for `run_steps` steps. None without a suggestion."""
    why: str
    """The reason for the suggestion, or for its absence, in words."""
    configured: float
    """The peak rate that training would use now."""
    origin: Origin
    """Who chose that rate."""
    configured_is_good: bool | None
    """Whether it lies from `low` to `high`. None without a suggestion."""
    diverges_at: float | None
    """The smallest constant rate that diverged. None: none did, or none was tried."""
    start: float
    """Held-out loss before training."""
    constant: float
    """Held-out loss of the best constant prediction."""
    held_out_samples: int
    """Number of held-out samples."""
    steps: int
    """Optimizer steps of a trial."""
    run_steps: int
    """Optimizer steps of the training that the suggestion is for."""
    seconds: float
    """Wall-clock seconds of the search."""
    rates: tuple[RateResult, ...]
    """The rates that were tried, ascending."""
    trials: tuple[RateTrial, ...]
    """In the order in which they were made."""
    halvings: tuple[Halving, ...]
    """The trainings at constant rates, each at half the rate of the one before. Empty: no time for them."""
    range_test: tuple[RangePoint, ...]
    """The steps of the range test. Empty: no time for it, or the first loss is NaN or Inf."""
    command: str | None = None
    """The command or call that trains with the suggestion. None: not asked for."""

    @property
    def informative(self) -> bool:
        """Whether there is a suggestion."""
        return self.suggestion is not None

    def to_json(self) -> dict[str, Any]:
        """The search as one JSON object."""
        return {"informative": self.informative, **asdict(self)}

    def __str__(self) -> str:
        lines = [_row("rate", "held-out loss", "lowest–highest", "trials", ""), *map(_rate_row, self.rates)]
        ends = f"before training {self.start:.4g}, for the best constant prediction {self.constant:.4g}"
        lines += ["", f"held-out loss of {several(self.held_out_samples, 'sample')}; {ends}"]
        lines.append(
            f"{several(len(self.trials), 'trial')} of {several(self.steps, 'step')}; the training has "
            f"{self.run_steps:,}"
        )
        if self.diverges_at is not None:
            lines.append(f"diverges at a constant rate of {self.diverges_at:.2g}")
        lines += ["", *self._verdict()]
        return "\n".join(lines)

    def _verdict(self) -> list[str]:
        if self.suggestion is None:
            return [f"not informative: {self.why}", self._configured("not judged")]
        lines = [f"learning rate {self.suggestion:g}, equally good from {self.low:g} to {self.high:g}: {self.why}"]
        inside = "inside that range" if self.configured_is_good else "outside that range"
        lines.append(self._configured(inside))
        return lines if self.command is None else [*lines, self.command]

    def _configured(self, verdict: str) -> str:
        who = "the recipe would use" if self.origin == "recipe" else "you chose"
        return f"{who} {self.configured:.3g} ({self.optimizer}), {verdict}"


def _row(rate: str, mean: str, span: str, trials: str, mark: str) -> str:
    return f"{rate:>10}  {mean:>13}  {span:>19}  {trials:>6}  {mark}".rstrip()


def _rate_row(rate: RateResult) -> str:
    if rate.held_out is None or rate.lowest is None or rate.highest is None:
        return _row(f"{rate.lr:g}", "diverged", "", str(rate.trials), "")
    span = f"{rate.lowest:.4g}–{rate.highest:.4g}" if rate.trials > 1 else ""
    return _row(f"{rate.lr:g}", f"{rate.held_out:.4g}", span, str(rate.trials), "good" if rate.good else "")


_SHORT = {
    "model.name": "--model",
    "batch": "--batch",
    "seed": "--seed",
    "recipe": "--recipe",
    "task.name": "--task",
    "budget.epochs": "--epochs",
    "budget.minutes": "--minutes",
}
_NAMED_SEPARATELY = ("data.source", "optim.lr", "decided")
_MORE_THAN_TRAINING = ("baseline", "cv")


def refuse_untried(fields: Mapping[str, Any]) -> None:
    """Raise ConfigError for a field that asks for more than a single training."""
    for name in _MORE_THAN_TRAINING:
        if fields.get(name) not in (None, False, "false"):
            raise ConfigError(
                name,
                f"{fields[name]} for a search of the learning rate",
                "fields of a single training",
                f"leave out --{name}, and add it to the command that lr-find ends with",
            )


def refuse_local_rule(config: Config, command: str) -> None:
    """Raise ConfigError for a network with a local learning rule. `command` trains it: the remedy."""
    if config.optim.name == "local-rule":
        raise ConfigError(
            "optim.name",
            f"local-rule, whose usual rate for this network is {config.optim.lr:g}",
            "an optimizer that lowers a loss, by which learning rates are compared",
            command,
        )


def fields_of(config: Config) -> dict[str, Any]:
    """The dotted fields in which a configuration differs from the defaults."""
    values = {name: get_field(config, name) for name in field_names()}
    return {name: value for name, value in values.items() if value != get_field(Config(), name)}


def how_to_train(
    lr: float, data: str | None, fields: Mapping[str, Any], size: object, config: ConfigSource, *, module: bool
) -> str:
    """The command that trains as requested with the rate `lr`; a call in Python where the data or the network
    (`module`) were given there. `config`, `size` and `fields` as in `merge_request`."""
    file = Path(config) if isinstance(config, str | Path) else None
    if file is None and config is not None:
        fields = {**fields_of(read_config(config)), **fields}
    source = data or fields.get("data.source") or (None if file else Config().data.source)
    rest = {name: value for name, value in fields.items() if name not in _NAMED_SEPARATELY}
    if module or (source is not None and is_given_data(source)):
        return _call(lr, source, rest, size, file, module=module)
    return _command(lr, source, rest, size, file)


def _command(lr: float, source: Any, fields: Mapping[str, Any], size: object, file: Path | None) -> str:
    words = ["striate", "train", *([str(source)] if source else [])]
    words += [] if file is None else ["--config", str(file)]
    for name, value in fields.items():
        words += [_SHORT.get(name, f"--{name}"), _text(value)]
    if size is not None:
        words += ["--size", "x".join(map(str, size)) if isinstance(size, tuple | list) else str(size)]
    return shlex.join([*words, "--lr", f"{lr:g}"])


def _call(lr: float, source: Any, fields: Mapping[str, Any], size: object, file: Path | None, *, module: bool) -> str:
    parts = [] if source is None else ["data" if is_given_data(source) else repr(str(source))]
    parts += [] if not module else ["model=module" if source is None else "module"]
    parts += [f"lr={lr:g}"]
    parts += [] if size is None else [f"size={size!r}"]
    parts += [] if file is None else [f"config={str(file)!r}"]
    parts += [f"set={dict(fields)!r}"] if fields else []
    return f"striate.train({', '.join(parts)})"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(list(value) if isinstance(value, tuple) else value)
