"""What training minimizes: the loss of the task with regularization, auxiliary heads and a penalty on activations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from striate.data.targets import Targets
from striate.errors import ConfigError
from striate.layers.code import Code
from striate.models.preserved_state import preserved
from striate.models.weights.auxiliary_outputs import network_outputs
from striate.observe.layer_calls import activation_kind
from striate.observe.module_calls import forward_hooks
from striate.tasks.outputs import Outputs, detached, first_samples
from striate.tasks.task import Task
from striate.training.auxiliary import AuxiliaryHeads, turned
from striate.training.config import Config, RegularizeConfig
from striate.training.measured import Measured, Saved
from striate.training.prepared_batch import Mix

SILENT = 0.01  # of the layer's root mean square: below it, a unit counts as silent


@dataclass(frozen=True)
class Activity:
    """Of one activation in one pass: `magnitude`, the mean absolute output (scalar, with its gradient); `counts` (2,)
    float64: how many outputs are silent (0, or below 0.01 of their root mean square), of how many; of logistic units
    `logistic`, the mean activation of each unit or map, with its gradient."""

    magnitude: torch.Tensor
    counts: torch.Tensor
    logistic: torch.Tensor | None = None


@contextmanager
def hidden_activity(module: nn.Module) -> Iterator[list[Activity]]:
    """Collects the outputs of all activation modules while open. Activations called as functions cannot be seen."""
    found: list[Activity] = []

    def look(module: nn.Module, __: object, output: torch.Tensor) -> None:
        # At once, and of a copy: what comes after may write into the output (`out += x`, an inplace dropout).
        found.append(_activity(output.to(torch.float32, copy=True), logistic=_is_logistic(module)))

    seen = [m for m in module.modules() if activation_kind(m) is not None or isinstance(m, Code)]
    with forward_hooks(after=[(m, look) for m in seen]):
        yield found


def _is_logistic(module: nn.Module) -> bool:
    return isinstance(module, nn.Sigmoid) or (isinstance(module, Code) and module.activation == "sigmoid")


def _activity(output: torch.Tensor, *, logistic: bool = False) -> Activity:
    magnitudes = output.abs()
    with torch.no_grad():
        limit = SILENT * output.square().mean().sqrt()
        silent = (magnitudes <= limit).sum().double()
        counts = torch.stack([silent, torch.full_like(silent, output.numel())])
    units = output.transpose(0, 1).flatten(1).mean(1) if logistic and output.ndim > 1 else None
    return Activity(magnitudes.mean(), counts, units)


def sparsity_penalty(activity: list[Activity]) -> torch.Tensor:
    """Scalar: the mean absolute output of each layer, summed over layers (an L1 penalty on activations)."""
    return torch.stack([layer.magnitude for layer in activity]).sum()


def divergence_penalty(activity: list[Activity], target: float) -> torch.Tensor:
    """Scalar: KL(target ‖ mean activation) = ρ log(ρ / ρ̂) + (1 − ρ) log((1 − ρ) / (1 − ρ̂)), summed over the logistic
    units of all layers (Ng, "Sparse autoencoder", CS294A lecture notes, 2011)."""
    means = torch.cat([layer.logistic for layer in activity if layer.logistic is not None]).clamp(1e-6, 1 - 1e-6)
    on, off = target * (target / means).log(), (1 - target) * ((1 - target) / (1 - means)).log()
    return (on + off).sum()


def silent_and_all(activity: list[Activity]) -> torch.Tensor:
    """(2,) float64: how many outputs of all layers are silent, of how many."""
    return torch.stack([layer.counts for layer in activity]).sum(0)


def refuse_invisible_units(module: nn.Module, config: RegularizeConfig, sample: torch.Tensor) -> None:
    """Raise ConfigError for a penalty on outputs of units where no such module runs; `sample` is a normalized batch."""
    if config.kl_target != RegularizeConfig.kl_target and not config.kl:
        expected = "a weight for this penalty, regularize.kl"
        raise ConfigError("regularize.kl_target", f"{config.kl_target:g} alone", expected, "--regularize.kl 0.01, too")
    if not config.looks_inside:
        return
    with preserved(module), torch.no_grad(), hidden_activity(module) as found:
        module(sample)
    if config.kl and all(layer.logistic is None for layer in found):
        got = f"{config.kl:g} for a network without logistic units"
        expected = "units with values from 0 to 1: sigmoid, or code(n,activation=sigmoid)"
        raise ConfigError("regularize.kl", got, expected, "--regularize.sparsity 0.01, which takes any units")
    if found:
        return
    sparsity = config.sparsity
    there = any(activation_kind(m) is not None for m in module.modules())
    raise ConfigError(
        "regularize.sparsity",
        f"{sparsity:g} for a network {'whose activation modules never run' if there else 'without activation modules'}",
        "activation modules; functions such as torch.relu cannot be observed",
        "use modules (nn.ReLU()) in forward, or leave out --regularize.sparsity",
    )


@dataclass(frozen=True)
class Part:
    """Which samples of the batch of `step` these are: from number `start` on, of `samples` in all. `weight` is the
    task's of the whole batch: what a sum of losses is divided by for its mean."""

    step: int
    start: int
    samples: int
    weight: torch.Tensor | float


def whole_batch(task: Task, targets: Targets, step: int = 0) -> Part:
    """The only part of a batch with these targets."""
    return Part(step, 0, len(targets), task.weight(targets))


@dataclass(frozen=True)
class Seen:
    """What one pass gave: `outputs` of the network, those of its own `auxiliary` classifiers with their weights, those
    of heads on `inner` layers, logits and truth of `turns`, and the outputs of `hidden` units."""

    outputs: Outputs
    auxiliary: tuple[tuple[float, Outputs], ...] = ()
    inner: tuple[torch.Tensor, ...] = ()
    turns: tuple[torch.Tensor, torch.Tensor] | None = None
    hidden: list[Activity] = field(default_factory=list)


@dataclass(frozen=True)
class Objective:
    """The loss of a batch, with what is measured of it (`Measured`)."""

    task: Task
    config: Config
    heads: AuxiliaryHeads | None = None
    follows: tuple[str, ...] = ()
    """What the network follows (`followed_quantities`)."""

    def training_loss(
        self,
        module: nn.Module,
        inputs: torch.Tensor,
        targets: Targets,
        mix: Mix | None = None,
        part: Part | None = None,
    ) -> tuple[torch.Tensor, Measured]:
        """Scalar loss with all its terms, and what is measured. Of blended samples that is by the larger part's
        target. What is given may be a `part` of a batch: the losses of all parts add up to that of the batch."""
        part = part or whole_batch(self.task, targets)
        seen = self._forward(module, inputs, targets, (part.step, 0), part)
        named = targets if mix is None or mix.share >= 0.5 else mix.targets
        loss, named_sum = self._mixed(seen.outputs, targets, mix, part.weight)
        measured = self.empty()
        measured.own.update(detached(seen.outputs), named, named_sum)
        for weight, outputs in seen.auxiliary:
            loss = loss + weight * self._mixed(outputs, targets, mix, part.weight)[0]
        loss = loss if self.config.auxiliary.task == 1 else self.config.auxiliary.task * loss
        for inner, outputs in zip(measured.inner, seen.inner, strict=True):
            term, named_sum = self._mixed(outputs, targets, mix, part.weight)
            loss = loss + self.config.auxiliary.weight * term
            inner.update(detached(outputs), named, named_sum)
        share = len(inputs) / part.samples
        for term in (*self._terms(seen), *self._weight_penalties(module)):
            loss = loss + share * term
        return loss, self._counted(measured, seen, module, inputs)

    @torch.no_grad()
    def measure(self, module: nn.Module, inputs: torch.Tensor, targets: Targets, number: int = 0) -> Measured:
        """What is measured alone, for validation, of the images as they are: `evaluation.views` are for what is
        measured once training is over. `number` is that of the batch, from which turns follow."""
        seen, measured = self._forward(module, inputs, targets, (0, number)), self.empty()
        for part, outputs in zip((measured.own, *measured.inner), (seen.outputs, *seen.inner), strict=True):
            part.update(outputs, targets)
        return self._counted(measured, seen, module, inputs)

    def empty(self) -> Measured:
        """Nothing measured yet."""
        layers = self.heads.layers if self.heads is not None else ()
        return Measured(self.task, layers, rotates=self._rotates, penalizes=self._penalizes, follows=self.follows)

    def restored(self, saved: Saved) -> Measured:
        """What a checkpoint holds of an epoch in progress."""
        measured = self.empty()
        measured.load(saved)
        return measured

    @property
    def _rotates(self) -> bool:
        return self.heads is not None and self.heads.rotation is not None

    @property
    def _penalizes(self) -> bool:
        return self.config.regularize.looks_inside

    def _forward(
        self,
        module: nn.Module,
        inputs: torch.Tensor,
        targets: Targets,
        place: tuple[int, int],
        part: Part | None = None,
    ) -> Seen:
        """One pass through the network and its heads; random turns follow from `place`."""
        if self.heads is None and not self._penalizes:
            result = self.task.outputs_for(module, inputs, targets)
            given = network_outputs(module, result, whole=self.task.reads_tree)
            return Seen(given.outputs, given.auxiliary)
        count, quarters = len(inputs), None
        if self._rotates:
            first, samples = (0, None) if part is None else (part.start, part.samples)
            images, quarters = turned(inputs, self.config.seed, *place, 6, start=first, samples=samples)
            inputs = torch.cat([inputs, images])
        with ExitStack() as stack:
            found = stack.enter_context(self.heads.watching(module)) if self.heads is not None else {}
            hidden = stack.enter_context(hidden_activity(module)) if self._penalizes else []
            result = self.task.outputs_for(module, inputs, targets)
            given = network_outputs(module, result, whole=self.task.reads_tree)
        own = tuple((weight, first_samples(outputs, count)) for weight, outputs in given.auxiliary)
        seen = Seen(first_samples(given.outputs, count), own, hidden=hidden)
        if self.heads is None:
            return seen
        inner = self.heads.inner_outputs(found, count, tuple(inputs.shape[2:]))
        turns = None
        if self.heads.rotation is not None and quarters is not None:
            turns = self.heads.rotation(found[""][count:].float()), quarters
        return replace(seen, inner=inner, turns=turns)

    def _mixed(
        self, outputs: Outputs, targets: Targets, mix: Mix | None, weight: torch.Tensor | float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, by the shares of a blend, and the sum of losses of the target that counts."""
        total = self.task.loss_sum(outputs, targets)
        if mix is None:
            return total / weight, total.detach()
        partners = self.task.loss_sum(outputs, mix.targets)
        # All samples of the batch are partners once: the weights of both are the same.
        loss = (mix.share * total + (1 - mix.share) * partners) / weight
        return loss, (total if mix.share >= 0.5 else partners).detach()

    def _terms(self, seen: Seen) -> list[torch.Tensor]:
        """Further means over the samples, of what was seen."""
        terms = []
        if seen.turns is not None:
            terms.append(self.config.auxiliary.rotation * functional.cross_entropy(*seen.turns))
        if self._penalizes:
            regularize = self.config.regularize
            if regularize.sparsity:
                terms.append(regularize.sparsity * sparsity_penalty(seen.hidden))
            if regularize.kl:
                terms.append(regularize.kl * divergence_penalty(seen.hidden, regularize.kl_target))
        return terms

    def _counted(self, measured: Measured, seen: Seen, module: nn.Module, inputs: torch.Tensor) -> Measured:
        """With turns and hidden units, and what the network follows."""
        if measured.rotation is not None and seen.turns is not None:
            logits, quarters = seen.turns
            counts = torch.full((2,), float(len(quarters)), dtype=torch.float64, device=logits.device)
            counts[0] = (logits.argmax(1) == quarters).sum()
            measured.rotation.add(counts)
        if measured.hidden is not None:
            measured.hidden.add(silent_and_all(seen.hidden))
        if self.follows:
            network: Any = module
            with torch.no_grad():
                sums = network.followed(inputs).double()
            for part, total in zip(measured.followed, sums, strict=True):
                part.add(torch.stack([total, torch.full_like(total, len(inputs))]))
        return measured

    def _weight_penalties(self, module: nn.Module) -> list[torch.Tensor]:
        """L1: Σ|w|. L2: ½ Σw², whose gradient is w. Both over kernels and matrices."""
        l1, l2 = self.config.regularize.l1, self.config.regularize.l2
        if not (l1 or l2):
            return []
        weights = penalized_weights(module)
        terms = [l1 * torch.stack([w.abs().sum() for w in weights]).sum()] if l1 else []
        return terms + ([l2 / 2 * torch.stack([w.square().sum() for w in weights]).sum()] if l2 else [])


def penalized_weights(module: nn.Module) -> list[nn.Parameter]:
    """Kernels and matrices: what L1 and L2 are taken of."""
    return [p for name, p in module.named_parameters() if p.ndim > 1 and not name.endswith("bias")]


def refuse_empty_penalties(module: nn.Module, config: RegularizeConfig) -> None:
    """Raise ConfigError for a penalty on weights that `module` does not have."""
    for name, value in (("l1", config.l1), ("l2", config.l2)):
        if value and not penalized_weights(module):
            raise ConfigError(
                f"regularize.{name}",
                f"{value:g} for a network without kernels and matrices",
                "kernels or matrices; biases and normalization are not penalized",
                f"leave out --regularize.{name}",
            )
