"""Tries the backends of a device one after the other: times each against the best so far, and compares its predictions
with those of plain fp32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from torch import nn

from striate.inference.agreement import ReadsOutputs, compare_predictions
from striate.inference.openvino_network import openvino_installed
from striate.inference.plan import PLAIN, Backend, PredictionAgreement, TriedBackend
from striate.inference.race import AHEAD, race
from striate.inference.torch_network import Network, prepare_torch
from striate.machine.memory import ran_out
from striate.machine.precision import Precision, bf16_on_cpu, bf16_pays_on_cpu
from striate.models.preserved_state import has_forward_of_its_own, is_lazy


def backends_to_try(device: torch.device) -> tuple[Backend, ...]:
    """The backends to try, in order; each takes longer to prepare than the one before. On a GPU, the nearest to plain
    fp32 comes first. On a CPU, the one that is nearly always fastest comes first, since a short job has time for
    few."""
    if device.type == "cuda":
        return (
            Backend(memory_format="channels_last", fused=True),
            Backend(precision="tf32", memory_format="channels_last", fused=True),
            Backend(precision="bf16", memory_format="channels_last", fused=True),
            Backend(precision="fp16", memory_format="channels_last", fused=True),
        )
    backends: tuple[Backend, ...] = (Backend(memory_format="channels_last", fused=True),)
    if device.type == "cpu" and bf16_on_cpu():
        half = (Backend(precision="bf16", memory_format="channels_last", fused=True),)
        backends = (*half, *backends) if bf16_pays_on_cpu() else (*backends, *half)
    if device.type == "cpu" and openvino_installed():
        backends += (Backend("openvino", "bf16"), Backend("openvino", "fp32"))
    return backends


def fp32_backends(device: torch.device) -> tuple[Backend, ...]:
    """The backends of torch whose outputs differ from plain fp32 only by the order of sums."""
    return tuple(
        backend for backend in backends_to_try(device) if backend.engine == "torch" and backend.precision == "fp32"
    )


def backends_as_trained(device: torch.device, precision: Precision) -> tuple[Backend, ...]:
    """The backends of torch in the `precision` of the training, where that is lower than fp32."""
    backends = (
        backend for backend in backends_to_try(device) if backend.engine == "torch" and backend.precision == precision
    )
    return () if precision == "fp32" else tuple(backends)


def why_plain_only(module: nn.Module) -> str:
    """Why the network must be computed plainly; "" where other backends may be tried."""
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
_BY_FAR = 1.6  # times as fast as plain: no fp32 backend of the same library gains as much
_SLOWER = "not faster than the backend before it"
_COMPARISON_SHARE = 0.02  # of the seconds of the whole job in plain fp32, for timing one backend
_LEAST_TIMED = 8  # samples of a timed batch at least
_SEARCH_SHARE = 0.15  # of the same, for the whole search: after it no further backend is tried
_OPENVINO_SECONDS = 20.0  # of the job by the best backend so far: converting a network for OpenVINO takes up to 10 s


@dataclass(frozen=True)
class BackendTrial:
    """What backends are tried on."""

    module: nn.Module
    task: ReadsOutputs
    """Compares predictions."""
    batches: Sequence[torch.Tensor]
    """Normalized batches of real samples."""
    reference: torch.Tensor
    """The outputs of plain fp32 for them."""
    total: int
    """Samples of the whole job."""
    seconds: float
    """Seconds that plain fp32 needs for the whole job."""


@dataclass(frozen=True)
class BackendChoice:
    """The result of trying backends."""

    backend: Backend
    """The chosen backend."""
    network: Network
    """The network as the chosen backend computes it."""
    tried: tuple[TriedBackend, ...]
    """The backends that were tried, in order."""


def choose_backend(
    trial: BackendTrial, plain: Network, offered: Callable[[torch.device], tuple[Backend, ...]] = backends_to_try
) -> BackendChoice:
    """The fastest of the `offered` backends whose predictions agree with plain fp32, which `plain` computes. Call it in
    inference mode."""
    began, seconds, tried = perf_counter(), trial.seconds, list[TriedBackend]()
    best, network = PLAIN, plain
    for backend in offered(trial.batches[0].device):
        if any(done.backend.engine == backend.engine == "openvino" and not done.refused for done in tried):
            continue  # OpenVINO in fp32 is tried only where bf16 changes predictions
        if backend.engine == best.engine and best.precision == "bf16" and trial.seconds > _BY_FAR * seconds:
            continue  # fp32 gains less
        if refused := _not_worth_it(backend, perf_counter() - began, seconds, trial.seconds):
            tried.append(TriedBackend(backend, refused=refused))
            continue
        found, prepared = _try(backend, trial, plain, network)
        if found.refused and found.refused != _SLOWER and backend.fused:
            tried.append(found)
            found, prepared = _try(replace(backend, fused=False), trial, plain, network)
        tried.append(found)
        if prepared is not None and found.speedup is not None:
            best, network = found.backend, prepared
            seconds = trial.seconds / found.speedup
    return BackendChoice(best, network, tuple(tried))


def _not_worth_it(backend: Backend, spent: float, seconds: float, plain_seconds: float) -> str:
    if spent > _SEARCH_SHARE * plain_seconds:
        return "not tried: the search has used its share of the time"
    if backend.engine == "openvino" and seconds < _OPENVINO_SECONDS:
        return f"not tried: {seconds:.0f} s of work are too short to convert the network to OpenVINO"
    return ""


def _try(backend: Backend, trial: BackendTrial, plain: Network, best: Network) -> tuple[TriedBackend, Network | None]:
    """What was measured of a backend, and the network prepared for it; None where it is not to be chosen."""
    first = trial.batches[0]
    timed = first[: max(_LEAST_TIMED, round(_COMPARISON_SHARE / 2 * trial.total))]
    try:
        network = prepare_backend(backend, trial.module, first)
        network(timed)  # warms up
        rate, best_rate, plain_rate = _rates(timed, (network, best, plain), _COMPARISON_SHARE * trial.seconds)
        found = TriedBackend(backend, rate, plain_rate)
        if rate < (1 + AHEAD) * best_rate:
            return replace(found, refused=_SLOWER), None
        agreement = agreement_of(network, trial)
    except Exception as error:  # whatever the user's network, or a library that reads it, raises
        return TriedBackend(backend, refused=_why_not(error)), None
    refused = agreement.fault(backend.precision)
    return replace(found, agreement=agreement, refused=refused), None if refused else network


def _why_not(error: Exception) -> str:
    return "not enough memory" if ran_out(error) else f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def compare_backend(backend: Backend, trial: BackendTrial) -> tuple[TriedBackend, Network | None]:
    """How far the predictions of a backend agree with plain fp32, without timing it; and the network prepared for it,
    None where they do not agree."""
    try:
        network = prepare_backend(backend, trial.module, trial.batches[0])
        agreement = agreement_of(network, trial)
    except Exception as error:  # whatever the user's network raises
        return TriedBackend(backend, refused=_why_not(error)), None
    refused = agreement.fault(backend.precision)
    return TriedBackend(backend, agreement=agreement, refused=refused), None if refused else network


def prepare_backend(backend: Backend, module: nn.Module, sample: torch.Tensor) -> Network:
    """The network as the backend computes it, prepared for batches like `sample`. Raises whatever prevents that."""
    if backend == PLAIN:
        return module
    if backend.engine == "openvino":
        from striate.inference.openvino_network import prepare_openvino

        return prepare_openvino(backend.precision, module, sample)
    return prepare_torch(backend, module, sample)


def agreement_of(network: Network, trial: BackendTrial) -> PredictionAgreement:
    """How far the predictions agree with plain fp32; also for a batch of three, since a backend may have fixed the
    number of samples."""
    outputs = torch.cat([network(batch) for batch in trial.batches])
    few = network(trial.batches[0][:3])
    if few.shape != trial.reference[:3].shape:
        outputs = few
    whole = compare_predictions(trial.task, trial.reference, outputs)
    least = compare_predictions(trial.task, trial.reference[:3], few)
    return replace(whole, rounding=max(whole.rounding, least.rounding), moved=max(whole.moved, least.moved / 3))


def _rates(batch: torch.Tensor, networks: Sequence[Network], seconds: float) -> tuple[float, ...]:
    """Samples per second of each network, the best of up to three rounds in about `seconds`."""

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
