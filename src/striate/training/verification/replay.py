"""A stretch of a run done again from a checkpoint, and held against what the run wrote down.
Two states of a training, compared bit by bit.
"""

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
"""What a row of the history says of the time that its epoch took."""
_COMPARED = ("model", "ema", "auxiliary", "optimizer", "scaler", "step", "best_score", "tally", "skipped", "history")
"""Entries of a checkpoint that a run which goes on depends on; the others tell times, and what the network is."""


def state_differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    """Names of what differs between two checkpoints of a run, in the order of the network: `model.conv1.weight`,
    `optimizer.state.0.exp_avg`, …; times are left out."""
    return [name for key in _COMPARED for name in _differences(one.get(key), two.get(key), key)]


def layers_of(names: Sequence[str]) -> list[str]:
    """The layers that names of weights (`conv1.weight`) belong to, each once, in order."""
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
class Parting:
    """Where a replay parts from the run: the first `step` (from 1, in `epoch`, from 1) whose loss is another, with both
    losses; and the `layers` whose weights are others at the first step `seen` where that is known. `others` names what
    else differs at the end."""

    step: int
    epoch: int
    recorded: float | None
    replayed: float | None
    seen: int | None = None
    layers: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

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
class Replay:
    """Steps `begin` + 1 to `end` were done again; `whole` where that came to the last checkpoint, with which weights,
    optimizer, tallies and history were then compared; `parting` is None where all bits agree."""

    begin: int
    end: int
    whole: bool
    parting: Parting | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def replay(prepared: Prepared, goal: Mapping[str, Any], most: int | None = None) -> Replay:
    """Train `prepared`, which is where the checkpoint before `goal` was, up to `goal` (`most` steps at most), comparing
    losses at each step and sums of the weights where the run has noted them. Ends early once it is known where and in
    which layers they part."""
    state, trace, begin = prepared.state, trace_from_dict(goal["trace"]), prepared.state.step
    parting: Parting | None = None
    whole = state.step == goal["step"] and len(state.history) == len(goal["history"])
    events = training_events(state, prepared.objective, prepared.splits, prepared.config, prepared.normalize)
    for event in events:
        if isinstance(event, StepDone):
            parting = _look(event, prepared, trace, parting)
            if parting is not None and parting.layers:
                break
        whole = state.step == goal["step"] and len(state.history) == len(goal["history"])
        if whole or (most is not None and state.step - begin >= most and isinstance(event, StepDone)):
            break
    if whole:
        parting = _compare_end(prepared, goal, parting)
    return Replay(begin, state.step, whole, parting)


def _look(event: StepDone, prepared: Prepared, trace: Trace, parting: Parting | None) -> Parting | None:
    """What is known of the parting after this step."""
    place, loss = event.step - trace.begin - 1, event.loss.item()
    recorded = trace.losses[place] if place < len(trace.losses) else None
    if parting is None and loss != recorded:
        parting = Parting(event.step, event.epoch, recorded, loss)
    expected = trace.sums.get(event.step)
    if expected is None:
        return parting
    other = (weight_sums(prepared.state.module).cpu() != expected).tolist()
    names = [name for name, differs in zip(prepared.state.module.state_dict(), other, strict=True) if differs]
    if not names:
        return parting
    parting = parting or Parting(event.step, event.epoch, None, None)
    layers = tuple(layers_of(names))
    return Parting(parting.step, parting.epoch, parting.recorded, parting.replayed, event.step, layers)


def _compare_end(prepared: Prepared, goal: Mapping[str, Any], parting: Parting | None) -> Parting | None:
    names = state_differences(goal, prepared.checkpoint())
    if not names:
        return parting
    weights = [name.removeprefix("model.") for name in names if name.startswith("model.")]
    others = tuple(name for name in names if not name.startswith("model."))
    step = prepared.state.step
    epoch = len(prepared.state.history) + (prepared.state.tally is not None)
    found = parting or Parting(step, epoch, None, None)
    return Parting(
        found.step, found.epoch, found.recorded, found.replayed, step, found.layers or tuple(layers_of(weights)), others
    )
