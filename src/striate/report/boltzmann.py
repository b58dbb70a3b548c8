"""The report's section on a Boltzmann machine: free energy and likelihood of images, and samples of the machine."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from striate.layers.boltzmann import RestrictedBoltzmannMachine
from striate.models.boltzmann.likelihood import (
    RUNS,
    TEMPERATURES,
    LogLikelihood,
    base_biases,
    log_likelihood,
    log_partition,
)
from striate.models.zoo.boltzmann import BoltzmannNetwork
from striate.training.prepare import Prepared
from striate.visualize.charts import chart
from striate.visualize.inside.gibbs_samples import GibbsSamples, draw_gibbs_samples, gibbs_samples
from striate.visualize.page_parts import Section, Table
from striate.wording import formatted

MOST_IMAGES = 1000
"""Largest number of images of each split for free energy and likelihood."""
CHEAP = 4e11
"""Largest number of operations for annealed importance sampling: some seconds on a core."""
_CHAINS, _STEPS, _FEW_STEPS = 5, (0, 1, 10, 100, 1000), (0, 1, 10, 100)


@dataclass(frozen=True)
class BoltzmannMeasures:
    """The free energy of images under a Boltzmann machine, and images that it generates."""

    images: dict[str, int]
    """Number of images of each split."""
    free_energy: dict[str, float]
    """The mean over these images, in nats."""
    likelihood: dict[str, LogLikelihood]
    """Log-likelihood of each split where it was measured."""
    samples: GibbsSamples
    """The generated images."""

    def to_json(self) -> dict[str, Any]:
        """As metrics.json has it under `boltzmann`."""
        known = {
            split: {"log_likelihood": found.value, "log_likelihood_interval": [_finite(found.low), _finite(found.high)]}
            for split, found in self.likelihood.items()
        }
        return {
            split: {"n": self.images[split], "free_energy": energy, **known.get(split, {})}
            for split, energy in self.free_energy.items()
        }

    @property
    def sentence(self) -> str:
        """The gap of free text, and the likelihood of test images, in words."""
        gap = self.free_energy["val"] - self.free_energy["train"]
        text = (
            f"Free text: validation minus training images: {formatted(gap, '+.2f')} nats; a growing gap means "
            "overfitting."
        )
        if (found := self.likelihood.get("test")) is None:
            return text
        if found.method == "exact":
            return f"{text} Log-likelihood of test images: {_nats(found.value)} nats, exact."
        return (
            f"{text} Log-likelihood of test images: {_nats(found.value)} nats, {_nats(found.low)} to "
            f"{_nats(found.high)} (3 standard errors) by {found.method} with {RUNS} runs over "
            f"{TEMPERATURES:,} temperatures."
        )

    def section(self) -> Section:
        """The section, with a table of the splits and a chart of the chains."""
        rows = tuple(
            (
                split,
                self.images[split],
                round(energy, 2),
                round(self.likelihood[split].value, 2) if split in self.likelihood else None,
            )
            for split, energy in self.free_energy.items()
        )
        columns = ("split", "images", "free energy, nats", "log-likelihood, nats")
        caption = (
            "Chains of Gibbs sampling in the highest machine, a row each: from test images, and from noise. Drawn are "
            "the means of the visible units."
        )
        shown = self.samples.pixels
        ratio = shown.shape[0] * shown.shape[2] / (shown.shape[1] * shown.shape[3])
        drawing = chart(partial(draw_gibbs_samples, samples=self.samples), caption, min(7.0, 3.4 * ratio + 0.5))
        sentences = (
            self.sentence,
            "The likelihood is for binary pixels, sampled with their gray values as probabilities.",
        )
        return Section(
            "What does the machine imagine?",
            sentences if self.likelihood else sentences[:1],
            (Table("Means over images of each split", columns, rows),),
            (drawing,),
            caption,
        )


def measure_boltzmann(prepared: Prepared, announce: Callable[[str], None]) -> BoltzmannMeasures | None:
    """Measure the network's machines; None for a network without any, and for a classifier."""
    network = prepared.state.eval_module
    if not isinstance(network, BoltzmannNetwork) or network.head is not None:
        return None
    splits = {name: _images(prepared, name) for name in prepared.data.splits if len(prepared.data.splits[name])}
    with torch.no_grad():
        energy = {name: float(network.followed(x)[0]) / len(x) for name, x in splits.items()}
    steps = _STEPS if isinstance(network.stack[0], RestrictedBoltzmannMachine) else _FEW_STEPS
    samples = gibbs_samples(network, splits[prepared.data.held_out][:_CHAINS], steps, prepared.config.seed)
    found = BoltzmannMeasures(
        {name: len(x) for name, x in splits.items()}, energy, _likelihood(network, splits), samples
    )
    announce(found.sentence)
    return found


def _likelihood(network: BoltzmannNetwork, splits: dict[str, torch.Tensor]) -> dict[str, LogLikelihood]:
    """The log-likelihoods of each split, for a single machine with binary units if that is cheap; else empty."""
    machine = network.stack[0]
    known = isinstance(machine, RestrictedBoltzmannMachine) and machine.visible == "binary"
    if len(network.stack) > 1 or not known:
        return {}
    assert isinstance(machine, RestrictedBoltzmannMachine)
    if 4 * RUNS * TEMPERATURES * machine.hidden.weight.numel() > CHEAP:
        return {}
    gray = splits["train"].flatten(1)
    partition = log_partition(machine, base_biases(gray))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {name: log_likelihood(machine, torch.bernoulli(x.flatten(1)), partition) for name, x in splits.items()}


def _images(prepared: Prepared, name: str) -> torch.Tensor:
    """At most `MOST_IMAGES` images of a split, evenly spaced, as the network's inputs."""
    split = prepared.data.splits[name]
    rows = torch.arange(min(len(split), MOST_IMAGES)) * len(split) // min(len(split), MOST_IMAGES)
    return prepared.normalize(split.take(rows).inputs[:].to(prepared.device))


def _nats(value: float) -> str:
    return formatted(value, ".2f") if math.isfinite(value) else "∞" if value > 0 else "−∞"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
