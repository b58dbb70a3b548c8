"""From a network and the number of samples to predict, to the network as it is best computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from torch import nn

from striate.inference.agreement import ReadsOutputs
from striate.inference.choose import (
    Trial,
    agreement_of,
    as_fine_as_fp32,
    as_trained,
    choose_backend,
    compare_backend,
    prepare_backend,
    why_left_alone,
)
from striate.inference.openvino_network import openvino_version
from striate.inference.plan import PLAIN, Asked, InferencePlan, Tried, plan_from_json, require_asked
from striate.inference.plan_key import machine_facts, network_digest
from striate.inference.torch_network import Network
from striate.machine.cache import read_plan, save_plan
from striate.machine.precision import Precision, fp32_products
from striate.models.preserved_state import preserved
from striate.wording import several

LEAST_TOTAL = 1000
"""Of fewer samples not enough are compared to tell whether predictions change: only backends are tried that round
numbers as finely as plain fp32 does."""
LEAST_FEW = 128
"""So few samples are predicted plainly."""
LEAST_SECONDS = 2.0
"""So short a job is done plainly."""
_LEAST_SAMPLE, _MOST_SAMPLE, _SAMPLE_SHARE = 200, 1000, 20
_MOST_NUMBERS = 2**26  # of inputs in the sample, in fp32: 256 MiB
_BATCH_NUMBERS, _MOST_BATCH = 2**22, 512
_TIMED, _TIMED_OF_FEW = 32, 8
"""Samples in the first look at how long the job takes; of jobs below `LEAST_TOTAL`, which the look is to pay for."""
_CHECKED = 32
"""Samples of such a job whose predictions are compared with plain fp32, in the precision of training."""

Sample = Callable[[int], torch.Tensor]
"""Gives so many normalized inputs (n, *input_shape), or as many as can be read, from all over those to be
predicted."""


@dataclass(frozen=True)
class Predictor:
    """`network` gives outputs (B, …) in float32 for normalized batches; use it within `inference`. `module` is the
    network as it was given, never changed."""

    module: nn.Module
    network: Network
    plan: InferencePlan


def plain_predictor(module: nn.Module, reason: str = "asked for") -> Predictor:
    """The network as it is."""
    return Predictor(module, module, InferencePlan(reason=reason))


@contextmanager
def inference(answering: Predictor) -> Iterator[Network]:
    """The network for a while without gradients, in eval mode, fp32 being fp32 on a GPU too; the given module is put
    back as it was."""
    with preserved(answering.module), torch.inference_mode(), fp32_products(tf32=False):
        yield answering.network


def batch_size(input_shape: tuple[int, ...]) -> int:
    """The batch size where none is set: as many as make 16 MiB of inputs, 8 to 512."""
    numbers = 1
    for size in input_shape:
        numbers *= size
    return max(8, min(_MOST_BATCH, _BATCH_NUMBERS // max(1, numbers)))


def plan_predictor(
    module: nn.Module,
    task: ReadsOutputs,
    sample: Sample,
    *,
    total: int,
    batch: int,
    asked: Asked = "auto",
    written: InferencePlan | None = None,
    own: bool = False,
    trained_in: Precision = "fp32",
) -> Predictor:
    """The network as it is best computed for `total` samples in batches of `batch`.

    A run has `written` how its figures were computed: its `own` samples, and fewer than are worth a comparison, are
    predicted in the same way again; for others that is tried first.

    Plainly in fp32 where that is asked, where the job is short, or where nothing else is faster and gives the same
    predictions (`LEAST_EQUAL`, `MOST_MOVED`): at least 200 samples are predicted by both for it. Jobs of fewer than
    1,000 samples are computed in the precision that the network was `trained_in`, where 32 of them are predicted as
    by fp32; else in fp32, plainly or by other kernels whose outputs are the same. The chosen backend is
    cached for the same weights on the same machine, but not that its predictions are those of fp32: other data are
    compared again. The module is not changed; `sample` is called only for longer jobs. Raises UsageError for another
    word than `auto` and `plain`."""
    require_asked(asked)
    if asked == "plain":
        return plain_predictor(module)
    if written is not None and (own or total < LEAST_TOTAL):
        found = _as_written(written, module, sample, total=total, batch=batch)
        if found is not None:
            return found
    if total < LEAST_FEW:
        return plain_predictor(
            module, f"{several(total, 'sample is', 'samples are')} too few to search for a faster backend"
        )
    if reason := why_left_alone(module):
        return plain_predictor(module, reason)
    with inference(plain_predictor(module)):
        first = sample(min(batch, _TIMED if total >= LEAST_TOTAL else _TIMED_OF_FEW))
        if not len(first):
            return plain_predictor(module, "no sample can be read")
        if not isinstance(module(first[:1]), torch.Tensor):
            return plain_predictor(module, "the network outputs several tensors")
        if total < LEAST_TOTAL:
            return _of_few(module, task, sample, first, total, trained_in)
        key = _key(module, task, first, batch)
        known = written if written is not None and written.tried else _read_cached(key | {"total": total})
        if known is None and (seconds := _plain_seconds(module, first, total)) < LEAST_SECONDS:
            return _cached(
                plain_predictor(module, f"{seconds:.1f} s of work are too short to search for a faster backend"),
                key,
                total,
            )
        known = known or _read_cached(key)
        if known is not None and known.way == PLAIN:
            return Predictor(module, module, known)
        trial = _make_trial(module, task, sample, total=total, batch=batch)
        if len(trial.reference) < min(_LEAST_SAMPLE, total):
            return plain_predictor(
                module, f"only {several(len(trial.reference), 'sample')} to compare predictions with"
            )
        return _cached((known and _follow(known, trial)) or _look(trial, key), key, total)


def _as_written(
    written: InferencePlan, module: nn.Module, sample: Sample, *, total: int, batch: int
) -> Predictor | None:
    """The network as the run computed its figures; None where that cannot be done here, or takes longer to prepare
    than so few samples are worth."""
    if written.way == PLAIN:
        return Predictor(module, module, written)
    if total < LEAST_TOTAL and written.way.engine == "openvino":
        return None
    try:
        with inference(plain_predictor(module)):
            network = prepare_backend(written.way, module, _compared(sample, total)[:batch])
            network(_compared(sample, 1))
    except Exception:  # another machine, other versions
        return None
    return Predictor(module, network, written)


def _of_few(
    module: nn.Module, task: ReadsOutputs, sample: Sample, first: torch.Tensor, total: int, trained_in: Precision
) -> Predictor:
    """The network as it was trained, if that predicts the same; else the fastest backend that is fp32 with other
    kernels, whose outputs for the `first` samples are those of plain fp32 up to rounding; plainly where the job is
    short."""
    if (seconds := _plain_seconds(module, first, total)) < LEAST_SECONDS:
        return plain_predictor(module, f"{seconds:.1f} s of work are too short to search for a faster backend")
    began = perf_counter()
    for way in as_trained(first.device, trained_in):
        inputs = sample(_CHECKED)
        trial = Trial(module, task, [inputs], module(inputs), total, seconds)
        tried, network = compare_backend(way, trial)
        if network is not None:
            reason = f"as in training: the predictions for {several(len(inputs), 'sample')} equal those of fp32"
            return Predictor(module, network, InferencePlan(way, reason, (tried,), perf_counter() - began))
    trial = Trial(module, task, [first], module(first), total, seconds)
    choice = choose_backend(trial, module, as_fine_as_fp32)
    reason = f"the fastest in fp32: {several(total, 'sample is', 'samples are')} too few to search further"
    return Predictor(module, choice.network, InferencePlan(choice.way, reason, choice.tried, perf_counter() - began))


def _cached(found: Predictor, key: dict[str, Any], total: int) -> Predictor:
    """The same again for as many samples, however long they then seem to take."""
    plan = replace(found.plan, tried=tuple(map(_without_agreement, found.plan.tried)))
    save_plan("inference", key | {"total": total}, plan.to_json())
    return found


def _look(trial: Trial, key: dict[str, Any]) -> Predictor:
    """Try all backends on real samples, and cache their speed: agreements are those of these samples."""
    began = perf_counter()
    choice = choose_backend(trial, trial.module)
    found = "the fastest backend that predicts as fp32 does"
    reason = found if choice.way != PLAIN else "no other backend was faster with the same predictions"
    plan = InferencePlan(choice.way, reason, choice.tried, perf_counter() - began)
    save_plan("inference", key, replace(plan, tried=tuple(map(_without_agreement, plan.tried))).to_json())
    return Predictor(trial.module, choice.network, plan)


def _plain_seconds(network: Network, x: torch.Tensor, total: int) -> float:
    """What the job takes plainly, from the second of two batches: the first pays for what is done once."""
    seconds = 0.0
    for _ in range(2):
        began = perf_counter()
        network(x).cpu()
        seconds = (perf_counter() - began) * total / len(x)
        if seconds < LEAST_SECONDS:
            break
    return seconds


def _make_trial(module: nn.Module, task: ReadsOutputs, sample: Sample, *, total: int, batch: int) -> Trial:
    """The samples to compare with, and what plain fp32 predicts for them."""
    batches = _compared(sample, total).split(batch)
    began = perf_counter()
    reference = torch.cat([module(part) for part in batches])
    seconds = (perf_counter() - began) * total / max(1, len(reference))
    return Trial(module, task, batches, reference, total, seconds)


def _compared(sample: Sample, total: int) -> torch.Tensor:
    """The samples that a backend is prepared for and compared on."""
    numbers = max(1, sample(1).numel())
    count = max(_LEAST_SAMPLE, min(_MOST_SAMPLE, total // _SAMPLE_SHARE, _MOST_NUMBERS // numbers))
    return sample(min(count, total))


def _read_cached(key: dict[str, Any]) -> InferencePlan | None:
    """What was found earlier; None where nothing was, or nothing that is a plan."""
    values = read_plan("inference", key)
    with suppress(KeyError, TypeError):
        return None if values is None else plan_from_json(values)
    return None


def _follow(plan: InferencePlan, trial: Trial) -> Predictor | None:
    """A plan that was found earlier, where its predictions for these samples, too, are those of plain fp32; None where
    they are not, or it cannot be prepared any more."""
    began = perf_counter()
    try:
        network = prepare_backend(plan.way, trial.module, trial.batches[0])
        agreement = agreement_of(network, trial)
    except Exception:  # a plan is advice: one that cannot be followed is looked for anew
        return None
    if agreement.fault(plan.way.precision):
        return None
    tried = tuple(replace(row, agreement=agreement) if row.way == plan.way else row for row in plan.tried)
    return Predictor(trial.module, network, replace(plan, tried=tried, seconds=perf_counter() - began))


def _without_agreement(tried: Tried) -> Tried:
    """What is true of other samples, too."""
    return replace(
        tried, agreement=None, refused="its predictions differed from those of fp32" if tried.differs else tried.refused
    )


def _key(module: nn.Module, task: ReadsOutputs, one: torch.Tensor, batch: int) -> dict[str, Any]:
    """All that a plan depends on: weights too, since whether predictions stay the same does."""
    return {
        "network": network_digest(module, weights=True),
        "task": task.name,
        "input": list(one.shape[1:]),
        "batch": batch,
        "device": one.device.type,
        "machine": machine_facts(one.device),
        "threads": torch.get_num_threads(),
        "openvino": openvino_version(),
    }
