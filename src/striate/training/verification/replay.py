"""Repeats steps of a run from a checkpoint, and compares them bit by bit with what the run recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from striate.training.events import StepDone
from striate.training.loop import training_events
from striate.training.prepare import Prepared
from striate.training.saving import Trace, bits, trace_from_dict, weight_sums

_TIMED = ("seconds", "data_wait", "augment_share")
"""Fields of a history row that are times."""
_COMPARED = ("model", "ema", "auxiliary", "optimizer", "scaler", "step", "best_score", "tally", "skipped", "history")
"""Entries of a checkpoint that a resumed run depends on; the others are times, and the description of the network."""


def state_differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    """Names of what differs between two checkpoints of a run, in the order of the network: `model.conv1.weight`,
    `optimizer.state.0.exp_avg`, …. Times are not compared."""
    return [name for key in _COMPARED for name in _differences(one.get(key), two.get(key), key)]


def layers_of(names: Sequence[str]) -> list[str]:
    """The layers of these weights (`conv1.weight`), each once, in order."""
    return list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))


def _differences(one: Any, two: Any, name: str) -> Iterator[str]:
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        if one.shape != two.shape or one.dtype != two.dtype or not torch.equal(bits(one.cpu()), bits(two.cpu())):
            yield name
    elif isinstance(one, Mapping) and isinstance(two, Mapping):
        for key in dict.fromkeys([*one, *two]):
            if key not in _TIMED or not name.startswith("history"):
                yield from _differences(one.get(key), two.get(key), f"{name}.{key}")
    elif isinstance(one, list | tuple) and isinstance(two, list | tuple) and len(one) == len(two):
        for k, (a, b) in enumerate(zip(one, two, strict=True)):
            yield from _differences(a, b, f"{name}.{k}")
    elif one != two:
        yield name


@dataclass(frozen=True)
class ReplayDifference:
    """Where a replay differs from the run."""

    step: int
    """The first step, from 1, with another loss; else the first with other weights."""
    epoch: int
    """Its epoch, from 1."""
    recorded: float | None
    """The loss of the run. None: losses are equal."""
    replayed: float | None
    """The loss of the replay. None: losses are equal."""
    seen: int | None = None
    """The step after which other weights were found. None: not found."""
    layers: tuple[str, ...] = ()
    """The layers with other weights then."""
    others: tuple[str, ...] = ()
    """What else differs at the end."""

    def __str__(self) -> str:
        losses = "" if self.recorded is None else f": the loss was {self.recorded!r} and is now {self.replayed!r}"
        text = f"the replay differs from the run at step {self.step:,} in epoch {self.epoch}{losses}"
        if self.layers:
            more = f" and {len(self.layers) - 5} more" if len(self.layers) > 5 else ""
            text += f"; different weights after step {self.seen:,} in: {', '.join(self.layers[:5])}{more}"
        if self.others:
            more = f" and {len(self.others) - 3} more" if len(self.others) > 3 else ""
            text += f"; also different: {', '.join(self.others[:3])}{more}"
        return text


@dataclass(frozen=True)
class RunReplay:
    """Steps of a run that were repeated from a checkpoint."""

    begin: int
    """Steps done before the first repeated one."""
    end: int
    """Steps done after the last repeated one."""
    complete: bool
    """Whether the replay reached the last checkpoint, whose weights, optimizer, sums and history were then compared."""
    first_difference: ReplayDifference | None
    """The first difference. None: all bits are equal."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def replay(prepared: Prepared, goal: Mapping[str, Any], most: int | None = None) -> RunReplay:
    """Train `prepared`, which is at the checkpoint before `goal`, up to `goal` (at most `most` steps), and compare the
    losses of each step, and the sums of the weights where the run recorded them. Ends early once the differing layers
    are known."""
    state, trace, begin = prepared.state, trace_from_dict(goal["trace"]), prepared.state.step
    first_difference: ReplayDifference | None = None
    complete = state.step == goal["step"] and len(state.history) == len(goal["history"])
    events = training_events(state, prepared.objective, prepared.splits, prepared.config, prepared.normalize)
    for event in events:
        if isinstance(event, StepDone):
            first_difference = _compare_step(event, prepared, trace, first_difference)
            if first_difference is not None and first_difference.layers:
                break
        complete = state.step == goal["step"] and len(state.history) == len(goal["history"])
        if complete or (most is not None and state.step - begin >= most and isinstance(event, StepDone)):
            break
    if complete:
        first_difference = _compare_end(prepared, goal, first_difference)
    return RunReplay(begin, state.step, complete, first_difference)


def _compare_step(
    event: StepDone, prepared: Prepared, trace: Trace, first_difference: ReplayDifference | None
) -> ReplayDifference | None:
    """The difference as known after this step; None without one."""
    place, loss = event.step - trace.begin - 1, event.loss.item()
    recorded = trace.losses[place] if place < len(trace.losses) else None
    if first_difference is None and loss != recorded:
        first_difference = ReplayDifference(event.step, event.epoch, recorded, loss)
    expected = trace.sums.get(event.step)
    if expected is None:
        return first_difference
    other = (weight_sums(prepared.state.module).cpu() != expected).tolist()
    names = [name for name, differs in zip(prepared.state.module.state_dict(), other, strict=True) if differs]
    if not names:
        return first_difference
    first_difference = first_difference or ReplayDifference(event.step, event.epoch, None, None)
    layers = tuple(layers_of(names))
    return ReplayDifference(
        first_difference.step,
        first_difference.epoch,
        first_difference.recorded,
        first_difference.replayed,
        event.step,
        layers,
    )


def _compare_end(
    prepared: Prepared, goal: Mapping[str, Any], first_difference: ReplayDifference | None
) -> ReplayDifference | None:
    names = state_differences(goal, prepared.checkpoint())
    if not names:
        return first_difference
    weights = [name.removeprefix("model.") for name in names if name.startswith("model.")]
    others = tuple(name for name in names if not name.startswith("model."))
    step = prepared.state.step
    epoch = len(prepared.state.history) + (prepared.state.tally is not None)
    found = first_difference or ReplayDifference(step, epoch, None, None)
    return ReplayDifference(
        found.step, found.epoch, found.recorded, found.replayed, step, found.layers or tuple(layers_of(weights)), others
    )
