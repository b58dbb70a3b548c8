"""From a network and the number of samples to predict to the backend that computes it."""

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
    BackendTrial,
    agreement_of,
    backends_as_trained,
    choose_backend,
    compare_backend,
    fp32_backends,
    prepare_backend,
    why_plain_only,
)
from striate.inference.openvino_network import openvino_version
from striate.inference.plan import PLAIN, InferencePlan, PlanMode, TriedBackend, plan_from_json, require_plan_mode
from striate.inference.plan_key import machine_facts, network_digest
from striate.inference.torch_network import Network
from striate.machine.cache import read_plan, save_plan
from striate.machine.precision import Precision, fp32_products
from striate.models.preserved_state import preserved
from striate.wording import several

LEAST_TOTAL = 1000
"""Fewer samples are too few to tell whether predictions change: only backends as precise as plain fp32 are tried."""
LEAST_FEW = 128
"""Fewer samples are predicted in plain fp32."""
LEAST_SECONDS = 2.0
"""Shorter jobs are done in plain fp32."""
_LEAST_SAMPLE, _MOST_SAMPLE, _SAMPLE_SHARE = 200, 1000, 20
_MOST_NUMBERS = 2**26  # of inputs in the sample, in fp32: 256 MiB
_BATCH_NUMBERS, _MOST_BATCH = 2**22, 512
_TIMED, _TIMED_OF_FEW = 32, 8
"""Samples that are timed first, to estimate the time of the job; fewer in jobs below `LEAST_TOTAL`."""
_CHECKED = 32
"""Samples of such a job whose predictions in the training precision are compared with plain fp32."""

Sample = Callable[[int], torch.Tensor]
"""Gives n normalized inputs (n, *input_shape), evenly spaced over those to be predicted; fewer where some cannot be
read."""


@dataclass(frozen=True)
class Predictor:
    """A network with the backend that computes it; use it within `inference`."""

    module: nn.Module
    """The network itself, never changed."""
    network: Network
    """From normalized batches (B, …) to outputs (B, …) in float32, by the chosen backend."""
    plan: InferencePlan
    """The chosen backend, and why."""


def plain_predictor(module: nn.Module, reason: str = "requested") -> Predictor:
    """The network in plain fp32."""
    return Predictor(module, module, InferencePlan(reason=reason))


@contextmanager
def inference(predictor: Predictor) -> Iterator[Network]:
    """The network of a predictor, without gradients, in eval mode, with fp32 products in fp32 on a GPU too. The module
    is put back as it was."""
    with preserved(predictor.module), torch.inference_mode(), fp32_products(tf32=False):
        yield predictor.network


def batch_size(input_shape: tuple[int, ...]) -> int:
    """The batch size where none is given: 16 MiB of inputs, but 8 to 512 samples."""
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
    mode: PlanMode = "auto",
    recorded: InferencePlan | None = None,
    own: bool = False,
    trained_in: Precision = "fp32",
) -> Predictor:
    """The fastest backend for `total` samples in batches of `batch` whose predictions agree with plain fp32.

    `recorded`: the plan with which the run measured its metrics. The run's `own` samples, and jobs of fewer than 1,000
    samples, are predicted with the same backend; for others it is tried first.

    Plain fp32 is used where `mode` is `plain`, where the job is short, and where no other backend is faster with the
    same predictions (`LEAST_EQUAL`, `MOST_MOVED`), which are compared on at least 200 samples. A job of fewer than
    1,000 samples is computed in the precision that the network was `trained_in`, if 32 predictions agree with those of
    fp32; else in fp32, plainly or with other kernels. The chosen backend is cached for the same weights on the same
    machine; its agreement is measured again on other data. `sample` is called only for longer jobs. Raises UsageError
    for another word than `auto` and `plain`.
    """
    require_plan_mode(mode)
    if mode == "plain":
        return plain_predictor(module)
    if recorded is not None and (own or total < LEAST_TOTAL):
        found = _as_recorded(recorded, module, sample, total=total, batch=batch)
        if found is not None:
            return found
    if total < LEAST_FEW:
        return plain_predictor(
            module, f"{several(total, 'sample is', 'samples are')} too few to search for a faster backend"
        )
    if reason := why_plain_only(module):
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
        known = recorded if recorded is not None and recorded.tried else _read_cached(key | {"total": total})
        if known is None and (seconds := _plain_seconds(module, first, total)) < LEAST_SECONDS:
            return _cached(
                plain_predictor(module, f"{seconds:.1f} s of work are too short to search for a faster backend"),
                key,
                total,
            )
        known = known or _read_cached(key)
        if known is not None and known.backend == PLAIN:
            return Predictor(module, module, known)
        trial = _make_trial(module, task, sample, total=total, batch=batch)
        if len(trial.reference) < min(_LEAST_SAMPLE, total):
            return plain_predictor(
                module, f"only {several(len(trial.reference), 'sample')} to compare predictions with"
            )
        return _cached((known and _follow(known, trial)) or _search(trial, key), key, total)


def _as_recorded(
    recorded: InferencePlan, module: nn.Module, sample: Sample, *, total: int, batch: int
) -> Predictor | None:
    """The network with the backend that the run was measured with; None where that fails here, or takes longer to
    prepare than so few samples are worth."""
    if recorded.backend == PLAIN:
        return Predictor(module, module, recorded)
    if total < LEAST_TOTAL and recorded.backend.engine == "openvino":
        return None
    try:
        with inference(plain_predictor(module)):
            network = prepare_backend(recorded.backend, module, _compared(sample, total)[:batch])
            network(_compared(sample, 1))
    except Exception:  # another machine, other versions
        return None
    return Predictor(module, network, recorded)


def _of_few(
    module: nn.Module, task: ReadsOutputs, sample: Sample, first: torch.Tensor, total: int, trained_in: Precision
) -> Predictor:
    """The network in its training precision, if the predictions agree; else the fastest fp32 backend whose outputs for
    the `first` samples equal those of plain fp32 up to rounding; plain fp32 where the job is short."""
    if (seconds := _plain_seconds(module, first, total)) < LEAST_SECONDS:
        return plain_predictor(module, f"{seconds:.1f} s of work are too short to search for a faster backend")
    began = perf_counter()
    for backend in backends_as_trained(first.device, trained_in):
        inputs = sample(_CHECKED)
        trial = BackendTrial(module, task, [inputs], module(inputs), total, seconds)
        tried, network = compare_backend(backend, trial)
        if network is not None:
            reason = f"as in training: the predictions for {several(len(inputs), 'sample')} equal those of fp32"
            return Predictor(module, network, InferencePlan(backend, reason, (tried,), perf_counter() - began))
    trial = BackendTrial(module, task, [first], module(first), total, seconds)
    choice = choose_backend(trial, module, fp32_backends)
    reason = f"the fastest in fp32: {several(total, 'sample is', 'samples are')} too few to search further"
    return Predictor(
        module, choice.network, InferencePlan(choice.backend, reason, choice.tried, perf_counter() - began)
    )


def _cached(found: Predictor, key: dict[str, Any], total: int) -> Predictor:
    """Cache the plan, so that as many samples are predicted alike next time, however long they seem to take then."""
    plan = replace(found.plan, tried=tuple(map(_without_agreement, found.plan.tried)))
    save_plan("inference", key | {"total": total}, plan.to_json())
    return found


def _search(trial: BackendTrial, key: dict[str, Any]) -> Predictor:
    """Try all backends on real samples, and cache their speed; agreement holds only for these samples."""
    began = perf_counter()
    choice = choose_backend(trial, trial.module)
    found = "the fastest backend that predicts as fp32 does"
    reason = found if choice.backend != PLAIN else "no other backend was faster with the same predictions"
    plan = InferencePlan(choice.backend, reason, choice.tried, perf_counter() - began)
    save_plan("inference", key, replace(plan, tried=tuple(map(_without_agreement, plan.tried))).to_json())
    return Predictor(trial.module, choice.network, plan)


def _plain_seconds(network: Network, x: torch.Tensor, total: int) -> float:
    """Seconds of the job in plain fp32, from the second of two batches, since the first one warms up."""
    seconds = 0.0
    for _ in range(2):
        began = perf_counter()
        network(x).cpu()
        seconds = (perf_counter() - began) * total / len(x)
        if seconds < LEAST_SECONDS:
            break
    return seconds


def _make_trial(module: nn.Module, task: ReadsOutputs, sample: Sample, *, total: int, batch: int) -> BackendTrial:
    """The samples to compare on, and the outputs of plain fp32 for them."""
    batches = _compared(sample, total).split(batch)
    began = perf_counter()
    reference = torch.cat([module(part) for part in batches])
    seconds = (perf_counter() - began) * total / max(1, len(reference))
    return BackendTrial(module, task, batches, reference, total, seconds)


def _compared(sample: Sample, total: int) -> torch.Tensor:
    """The samples on which a backend is prepared and compared."""
    numbers = max(1, sample(1).numel())
    count = max(_LEAST_SAMPLE, min(_MOST_SAMPLE, total // _SAMPLE_SHARE, _MOST_NUMBERS // numbers))
    return sample(min(count, total))


def _read_cached(key: dict[str, Any]) -> InferencePlan | None:
    """The cached plan; None where there is none, or an unreadable one."""
    values = read_plan("inference", key)
    with suppress(KeyError, TypeError):
        return None if values is None else plan_from_json(values)
    return None


def _follow(plan: InferencePlan, trial: BackendTrial) -> Predictor | None:
    """The cached plan's backend, if its predictions for these samples agree with plain fp32; None where they do not, or
    where it cannot be prepared any more."""
    began = perf_counter()
    try:
        network = prepare_backend(plan.backend, trial.module, trial.batches[0])
        agreement = agreement_of(network, trial)
    except Exception:  # a cached plan that cannot be used any more is replaced
        return None
    if agreement.fault(plan.backend.precision):
        return None
    tried = tuple(replace(row, agreement=agreement) if row.backend == plan.backend else row for row in plan.tried)
    return Predictor(trial.module, network, replace(plan, tried=tried, seconds=perf_counter() - began))


def _without_agreement(tried: TriedBackend) -> TriedBackend:
    """The entry without what holds only for these samples."""
    return replace(
        tried, agreement=None, refused="its predictions differed from those of fp32" if tried.differs else tried.refused
    )


def _key(module: nn.Module, task: ReadsOutputs, one: torch.Tensor, batch: int) -> dict[str, Any]:
    """The key of a cached plan: everything that it depends on. It contains the weights, since agreement depends on
    them."""
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
