"""The likelihood of images under a restricted Boltzmann machine: exact for small ones, else by annealed importance
sampling.

log p(v) = −F(v) − log Z. The free energy F is cheap; the partition function Z sums over all states of the smaller
layer. Source: Salakhutdinov and Murray, "On the quantitative analysis of deep belief networks", ICML 2008, section 4.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

from striate.errors import UsageError
from striate.layers.boltzmann import RestrictedBoltzmannMachine
from striate.models.preserved_state import preserved

ENUMERATED = 20
"""Units of the smaller layer up to which Z is computed exactly: 2²⁰ states."""
RUNS, TEMPERATURES = 100, 1000
_ERRORS = 3  # standard errors on each side, as in the paper
_CHUNK = 1 << 14


@dataclass(frozen=True)
class LogPartition:
    """log Z of a machine in nats, with the interval from `low` to `high`: the mean importance weight ± 3 standard
    errors; `low` is −∞ where these exceed the mean. All three are equal if log Z is exact."""

    value: float
    low: float
    high: float
    method: Literal["exact", "annealed importance sampling"]


@dataclass(frozen=True)
class LogLikelihood:
    """The mean log p(v) of `n` images of zeros and ones, in nats, with the interval that follows from that of log Z."""

    value: float
    low: float
    high: float
    n: int
    method: str


def log_likelihood(machine: RestrictedBoltzmannMachine, v: torch.Tensor, partition: LogPartition) -> LogLikelihood:
    """The mean log-likelihood of visible units v (N, V), zeros and ones."""
    with torch.no_grad():
        energy = float(torch.cat([machine.free_energy(part) for part in v.split(1000)]).double().mean())
    ends = -energy - partition.high, -energy - partition.low
    return LogLikelihood(-energy - partition.value, *ends, len(v), partition.method)


def log_partition(machine: RestrictedBoltzmannMachine, base: torch.Tensor | None = None, seed: int = 0) -> LogPartition:
    """log Z: exact if one layer has at most 20 units, else by `annealed_log_partition`."""
    if min(machine.hidden.weight.shape) <= ENUMERATED:
        value = exact_log_partition(machine)
        return LogPartition(value, value, value, "exact")
    return annealed_log_partition(machine, base, seed=seed)


@torch.no_grad()
def exact_log_partition(machine: RestrictedBoltzmannMachine) -> float:
    """log Z as a sum over all states of the smaller layer. Raises UsageError for gaussian units, and where both layers
    have more than 20 units."""
    _refuse_gaussian(machine)
    weight, inner, outer = (t.double() for t in (machine.hidden.weight, machine.hidden.bias, machine.offset.bias))
    if len(weight) > weight.shape[1]:  # enumerate the visible side
        weight, inner, outer = weight.T, outer, inner
    units = len(weight)
    if units > ENUMERATED:
        got, remedy = f"{weight.shape[1]} and {units} units", "annealed_log_partition(machine)"
        raise UsageError("machine", got, f"at most {ENUMERATED} units on one side", remedy)
    numbers, found = torch.arange(2**units, device=weight.device), []
    for part in numbers.split(_CHUNK):
        states = (part[:, None] >> torch.arange(units, device=weight.device) & 1).double()
        found.append(states @ inner + functional.softplus(states @ weight + outer).sum(1))
    return float(torch.cat(found).logsumexp(0))


@torch.no_grad()
def annealed_log_partition(
    machine: RestrictedBoltzmannMachine,
    base: torch.Tensor | None = None,
    *,
    runs: int = RUNS,
    temperatures: int = TEMPERATURES,
    seed: int = 0,
) -> LogPartition:
    """log Z by annealed importance sampling: `runs` chains from a machine with zero weights and visible biases `base`
    (V,), zeros by default, to this machine, over `temperatures` intermediate distributions.

        p*_β(v) = exp((1 − β) base·v + β a·v) Π_j (1 + exp(β (b_j + W_j v))),   Z_0 = 2^H Π_i (1 + exp(base_i))

    Random numbers depend on `seed` only; torch's random state does not change. Raises UsageError for gaussian units.
    """
    _refuse_gaussian(machine)
    weight, own = machine.hidden.weight, machine.offset.bias
    base = torch.zeros_like(own) if base is None else base.to(own)
    betas = torch.linspace(0, 1, temperatures + 1, dtype=torch.float64).tolist()
    with preserved(machine):
        torch.manual_seed(seed)
        v = torch.bernoulli(torch.sigmoid(base).expand(runs, -1))
        logs = torch.zeros(runs, dtype=torch.float64, device=v.device)
        inputs, shift = machine.hidden(v), v @ (own - base)
        for before, beta in itertools.pairwise(betas):
            change = functional.softplus(beta * inputs).sum(1) - functional.softplus(before * inputs).sum(1)
            logs += (change + (beta - before) * shift).double()
            h = torch.bernoulli(torch.sigmoid(beta * inputs))
            sums = (1 - beta) * base + beta * functional.linear(h, weight.T, own)
            v = torch.bernoulli(torch.sigmoid(sums))
            inputs, shift = machine.hidden(v), v @ (own - base)
    first = len(weight) * math.log(2) + float(functional.softplus(base.double()).sum())
    return _estimate(first, logs)


def base_biases(v: torch.Tensor) -> torch.Tensor:
    """Visible biases (V,) with which, at zero weights, each unit has its mean over images v (N, V); the mean includes
    one additional image of ones and one of zeros."""
    share = (v.sum(0) + 1) / (len(v) + 2)
    return torch.log(share / (1 - share))


def _estimate(first: float, logs: torch.Tensor) -> LogPartition:
    largest = float(logs.max())
    weights = (logs - largest).exp()
    mean, error = float(weights.mean()), _ERRORS * float(weights.std()) / math.sqrt(len(weights))
    low = first + largest + math.log(mean - error) if error < mean else -math.inf
    value, high = (first + largest + math.log(part) for part in (mean, mean + error))
    return LogPartition(value, low, high, "annealed importance sampling")


def _refuse_gaussian(machine: RestrictedBoltzmannMachine) -> None:
    if machine.visible != "binary":
        expected = "binary units, whose likelihood is defined for zeros and ones"
        raise UsageError("machine", "gaussian visible units", expected, "rbm(500,visible=binary)")
