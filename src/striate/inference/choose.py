"""Tries the backends that a device offers, one after the other: each is timed against the best so far, and its
predictions are compared with those of plain fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from torch import nn

from striate.inference.agreement import ReadsOutputs, compare_predictions
from striate.inference.openvino_network import openvino_installed
from striate.inference.plan import PLAIN, Backend, PredictionAgreement, Tried
from striate.inference.race import AHEAD, race
from striate.inference.torch_network import Network, prepare_torch
from striate.machine.memory import ran_out
from striate.machine.precision import Precision, bf16_on_cpu, bf16_pays_on_cpu
from striate.models.preserved_state import has_forward_of_its_own, is_lazy


def backends_to_try(device: torch.device) -> tuple[Backend, ...]:
    """Each is worth more seconds of preparation than the one before. On a GPU from the nearest to plain fp32 to the
    farthest; on a CPU what is fastest nearly always first, since little may be tried in a short job."""
    if device.type == "cuda":
        return (
            Backend(memory_format="channels_last", fused=True),
            Backend(precision="tf32", memory_format="channels_last", fused=True),
            Backend(precision="bf16", memory_format="channels_last", fused=True),
            Backend(precision="fp16", memory_format="channels_last", fused=True),
        )
    ways: tuple[Backend, ...] = (Backend(memory_format="channels_last", fused=True),)
    if device.type == "cpu" and bf16_on_cpu():
        half = (Backend(precision="bf16", memory_format="channels_last", fused=True),)
        ways = (*half, *ways) if bf16_pays_on_cpu() else (*ways, *half)
    if device.type == "cpu" and openvino_installed():
        ways += (Backend("openvino", "bf16"), Backend("openvino", "fp32"))
    return ways


def as_fine_as_fp32(device: torch.device) -> tuple[Backend, ...]:
    """Those of torch whose outputs differ from plain fp32 by the order of sums alone."""
    return tuple(way for way in backends_to_try(device) if way.engine == "torch" and way.precision == "fp32")


def as_trained(device: torch.device, precision: Precision) -> tuple[Backend, ...]:
    """Those of torch in the `precision` of a training, where that is less than fp32."""
    ways = (way for way in backends_to_try(device) if way.engine == "torch" and way.precision == precision)
    return () if precision == "fp32" else tuple(ways)


def why_left_alone(module: nn.Module) -> str:
    """Why a copy of the network must not be computed by another backend; "" where it may."""
    if has_forward_of_its_own(module):
        return "a module of the network has a replaced forward"
    if is_lazy(module):
        return "the network has lazy layers without shapes"
    if any(_has_hooks(part) for part in module.modules()):
        return "the network has hooks, which another backend would not call"
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        return "the network is a TorchScript program"
    floating = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    if any(tensor.dtype != torch.float32 for tensor in floating):
        return "not all of its parameters are fp32"
    if not any(isinstance(part, nn.modules.conv._ConvNd) for part in module.modules()):
        return "it has no convolutions"
    return ""


def _has_hooks(part: nn.Module) -> bool:
    return bool(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks)


_PAIRS = 3
_BY_FAR = 1.6  # times as fast as plain
_SLOWER = "not faster than the backend before it"
_COMPARISON_SHARE = 0.02  # of the plain seconds of the whole job, for timing one backend
_LEAST_TIMED = 8  # samples
_SEARCH_SHARE = 0.15  # of the same: later backends are left untried
_OPENVINO_SECONDS = 20.0  # of the job by the best backend so far: reading a network into OpenVINO takes up to ten


@dataclass(frozen=True)
class Trial:
    """What backends are tried on: normalized `batches` of real samples, the outputs of plain fp32 for them
    (`reference`), and `seconds` that plain fp32 needs for the whole job of `total` samples."""

    module: nn.Module
    task: ReadsOutputs
    batches: Sequence[torch.Tensor]
    reference: torch.Tensor
    total: int
    seconds: float


@dataclass(frozen=True)
class Choice:
    """The chosen backend with the network prepared for it, and what was found of all that were tried."""

    way: Backend
    network: Network
    tried: tuple[Tried, ...]


def choose_backend(
    trial: Trial, plain: Network, offered: Callable[[torch.device], tuple[Backend, ...]] = backends_to_try
) -> Choice:
    """The fastest backend of those `offered` whose predictions agree with plain fp32; `plain` computes the latter. Call
    in inference mode."""
    began, seconds, tried = perf_counter(), trial.seconds, list[Tried]()
    best, network = PLAIN, plain
    for way in offered(trial.batches[0].device):
        if any(done.way.engine == way.engine == "openvino" and not done.refused for done in tried):
            continue  # in fp32 only where bf16 changes predictions
        if way.engine == best.engine and best.precision == "bf16" and trial.seconds > _BY_FAR * seconds:
            continue  # fp32 gains less
        if refused := _not_worth_it(way, perf_counter() - began, seconds, trial.seconds):
            tried.append(Tried(way, refused=refused))
            continue
        found, prepared = _try(way, trial, plain, network)
        if found.refused and found.refused != _SLOWER and way.fused:
            tried.append(found)
            found, prepared = _try(replace(way, fused=False), trial, plain, network)
        tried.append(found)
        if prepared is not None and found.speedup is not None:
            best, network = found.way, prepared
            seconds = trial.seconds / found.speedup
    return Choice(best, network, tuple(tried))


def _not_worth_it(way: Backend, spent: float, seconds: float, plain_seconds: float) -> str:
    if spent > _SEARCH_SHARE * plain_seconds:
        return "not tried: the search has used its share of the time"
    if way.engine == "openvino" and seconds < _OPENVINO_SECONDS:
        return f"not tried: {seconds:.0f} s of work are too short to convert the network to OpenVINO"
    return ""


def _try(way: Backend, trial: Trial, plain: Network, best: Network) -> tuple[Tried, Network | None]:
    """What is measured of a backend, and the network prepared for it where it is to be taken."""
    first = trial.batches[0]
    timed = first[: max(_LEAST_TIMED, round(_COMPARISON_SHARE / 2 * trial.total))]
    try:
        network = prepare_backend(way, trial.module, first)
        network(timed)  # what is done once is not timed
        rate, best_rate, plain_rate = _rates(timed, (network, best, plain), _COMPARISON_SHARE * trial.seconds)
        found = Tried(way, rate, plain_rate)
        if rate < (1 + AHEAD) * best_rate:
            return replace(found, refused=_SLOWER), None
        agreement = agreement_of(network, trial)
    except Exception as error:  # whatever a network of one's own, or a library that reads it, raises
        return Tried(way, refused=_why_not(error)), None
    refused = agreement.fault(way.precision)
    return replace(found, agreement=agreement, refused=refused), None if refused else network


def _why_not(error: Exception) -> str:
    return "not enough memory" if ran_out(error) else f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def compare_backend(way: Backend, trial: Trial) -> tuple[Tried, Network | None]:
    """How far the predictions of a backend agree, and the network prepared for it where they do; nothing is timed."""
    try:
        network = prepare_backend(way, trial.module, trial.batches[0])
        agreement = agreement_of(network, trial)
    except Exception as error:  # whatever a network of one's own raises
        return Tried(way, refused=_why_not(error)), None
    refused = agreement.fault(way.precision)
    return Tried(way, agreement=agreement, refused=refused), None if refused else network


def prepare_backend(way: Backend, module: nn.Module, sample: torch.Tensor) -> Network:
    """The network computed by `way`, made for batches like `sample`. Raises whatever keeps it from that."""
    if way == PLAIN:
        return module
    if way.engine == "openvino":
        from striate.inference.openvino_network import prepare_openvino

        return prepare_openvino(way.precision, module, sample)
    return prepare_torch(way, module, sample)


def agreement_of(network: Network, trial: Trial) -> PredictionAgreement:
    """How far the predictions agree with plain fp32, also for a batch of three: a network may have been read for one
    number of samples only."""
    outputs = torch.cat([network(batch) for batch in trial.batches])
    few = network(trial.batches[0][:3])
    if few.shape != trial.reference[:3].shape:
        outputs = few
    whole = compare_predictions(trial.task, trial.reference, outputs)
    least = compare_predictions(trial.task, trial.reference[:3], few)
    return replace(whole, rounding=max(whole.rounding, least.rounding), moved=max(whole.moved, least.moved / 3))


def _rates(batch: torch.Tensor, networks: Sequence[Network], seconds: float) -> tuple[float, ...]:
    """Samples a second of each network, the best of up to three rounds in about `seconds`."""

    def measure(number: int, count: int) -> float:
        return sum(_seconds(batch, networks[number]) for _ in range(count))

    about = seconds / (_PAIRS * len(networks))
    timings, failed = race(
        measure, range(len(networks)), seconds, about, fewest=1, most=_PAIRS, warm=range(len(networks))
    )
    if failed:
        raise RuntimeError(next(iter(failed.values())))
    return tuple(len(batch) / timings[number].fastest for number in range(len(networks)))


def _seconds(batch: torch.Tensor, network: Callable[[torch.Tensor], torch.Tensor]) -> float:
    if batch.device.type == "cuda":
        torch.cuda.synchronize(batch.device)
    began = perf_counter()
    network(batch)
    if batch.device.type == "cuda":
        torch.cuda.synchronize(batch.device)
    return max(perf_counter() - began, 1e-9)
