"""speed.slow-plan: is the same step much faster in another number format or memory format, or without anomaly
detection?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.speed.small_batch import fastest_step, timed_trials
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change, Trial
from striate.doctor.setup.replicas import Replica, to_float32
from striate.machine.precision import bf16_pays_on_cpu
from striate.records import Finding
from striate.wording import percent

_DOUBLE_SECONDS = 0.004
_DOUBLE_FASTER = 1.4
_LONG = 0.02
_FASTER = 1.3
_AGREE = 0.05
_BATCHES = 2


def _run(evidence: Evidence) -> Iterator[Finding]:
    trial = evidence.trial
    if trial.error is not None or not trial.rows:
        return
    if evidence.calls.anomaly:
        yield _anomaly(evidence)
        return
    wide = any(parameter.dtype == torch.float64 for parameter in evidence.setup.model.parameters())
    if wide and evidence.step_seconds >= _DOUBLE_SECONDS:
        yield from _single_precision(evidence)
    elif not wide and min(row.seconds for row in trial.rows) >= _LONG:  # by the fastest: other work makes steps slow
        yield from _other_plans(evidence)


def _anomaly(evidence: Evidence) -> Finding:
    batches = evidence.train.raw[:_BATCHES]
    off = Change(around=lambda *_: torch.autograd.set_detect_anomaly(False))
    trials = timed_trials(evidence, {"on": (Change(), batches), "off": (off, batches)})
    on, without = fastest_step(trials["on"]), fastest_step(trials["off"])
    cost = f": a step takes {on * 1000:.1f} ms, without it {without * 1000:.1f} ms"
    return _finding(
        "the training step",
        "anomaly detection is on in each step" + (cost if on > 1.05 * without else ""),
        "It records the call stack of every operation and checks every gradient. It is meant only for finding a fault.",
        "remove `torch.autograd.set_detect_anomaly(True)` and `detect_anomaly()`",
        "any anomaly detection",
    )


def _single_precision(evidence: Evidence) -> Iterator[Finding]:
    batches = evidence.train.raw[:_BATCHES]
    in_float32 = [_as_float32(batch) for batch in batches]
    variants = {"float64": (Change(), batches), "float32": (Change(prepare=to_float32), in_float32)}
    trials = timed_trials(evidence, variants)
    if not _agree(trials["float64"], trials["float32"]):
        return
    slow, fast = fastest_step(trials["float64"]), fastest_step(trials["float32"])
    if slow < _DOUBLE_FASTER * fast:
        return
    yield _finding(
        "the network",
        f"a step takes {slow * 1000:.1f} ms in float64 and {fast * 1000:.1f} ms in float32: {slow / fast:.1f} times as "
        f"fast, with the same loss ({trials['float64'].losses[0]:.5g} and {trials['float32'].losses[0]:.5g})",
        "float64 moves twice the memory for digits that are lost in the noise of a batch.",
        "`model.float()`, and inputs as `x.float()`; remove `torch.set_default_dtype(torch.float64)`",
        f"{_DOUBLE_FASTER:g} times as fast in float32, timed in turns, where a step takes {_DOUBLE_SECONDS * 1000:g} "
        "ms or more",
    )


def _other_plans(evidence: Evidence) -> Iterator[Finding]:
    plain = evidence.train.raw[:_BATCHES]
    grid = any(parameter.ndim == 4 for parameter in evidence.setup.model.parameters())
    variants: dict[str, tuple[Change, Any]] = {"as it is": (Change(), plain)}
    device = evidence.setup.device.type
    half = device != "cpu" or bf16_pays_on_cpu()  # emulated, a step could take minutes
    bfloat16 = partial(torch.autocast, device, dtype=torch.bfloat16)
    if half:
        variants["bfloat16"] = (Change(around=lambda *_: bfloat16()), plain)
    if grid:
        last = [_channels_last(batch) for batch in plain]
        variants["channels last"] = (Change(prepare=_to_channels_last), last)
    if grid and half:
        both = Change(prepare=_to_channels_last, around=lambda *_: bfloat16())
        variants["channels last and bfloat16"] = (both, last)
    if len(variants) == 1:
        return
    trials = timed_trials(evidence, variants, 0.25)
    known = {name: fastest_step(t) for name, t in trials.items() if name == "as it is" or _agree(trials["as it is"], t)}
    chosen = min(known, key=lambda name: known[name])
    speedup = known["as it is"] / known[chosen]
    if speedup < _FASTER or known["as it is"] < _LONG:
        return
    table = ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in known.items())
    yield _finding(
        "the training step",
        f"a step takes: {table}; {chosen} is {speedup:.1f} times as fast, with the same loss within "
        f"{percent(_AGREE, 0)}",
        "The network learns the same in less time.",
        _remedy(chosen, device),
        f"{_FASTER:g} times as fast, timed in turns, with a loss within {percent(_AGREE, 0)}, where a step takes "
        f"{_LONG * 1000:g} ms or more",
    )


def _remedy(chosen: str, device: str) -> str:
    lines = []
    if "channels last" in chosen:
        lines.append(
            "`model.to(memory_format=torch.channels_last)` and `x = x.to(memory_format=torch.channels_last)` for inputs"
        )
    if "bfloat16" in chosen:
        lines.append(f'`with torch.autocast("{device}", dtype=torch.bfloat16):` around forward and loss')
    return "; ".join(lines)


def _agree(plain: Trial, other: Trial) -> bool:
    if plain.error is not None or other.error is not None or not plain.rows or not other.rows:
        return False
    return abs(plain.losses[0] - other.losses[0]) <= _AGREE * max(abs(plain.losses[0]), 1e-6)


def _to_channels_last(replica: Replica) -> None:
    replica.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _as_float32(batch: Any) -> Any:
    return _each(batch, lambda tensor: tensor.float() if tensor.dtype == torch.float64 else tensor)


def _channels_last(batch: Any) -> Any:
    return _each(batch, lambda t: t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t)


def _each(value: Any, act: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return act(value)
    if isinstance(value, Mapping):
        return {key: _each(part, act) for key, part in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_each(part, act) for part in value)
    return value


def _finding(where: str, measured: str, why: str, remedy: str, limit: str) -> Finding:
    return SLOW_PLAN.finding(
        severity="note",
        where=where,
        measured=measured,
        limit=limit,
        why=why,
        remedy=remedy,
    )


SLOW_PLAN = Check(
    codes=("speed.slow-plan",),
    run=_run,
    quick=False,
)
