"""The training objective: the loss of the task, regularization, auxiliary heads, and a penalty on activations."""

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

INACTIVE = 0.01  # of the layer's root mean square: a unit below it counts as inactive


@dataclass(frozen=True)
class Activity:
    """The outputs of one activation layer in one forward pass."""

    magnitude: torch.Tensor
    """Scalar: mean absolute output, with its gradient."""
    counts: torch.Tensor
    """(2,) float64: inactive outputs (0, or below 0.01 of their root mean square), and all outputs."""
    logistic: torch.Tensor | None = None
    """(units,): mean activation of each unit or map, with its gradient. None for units that are not logistic."""


@contextmanager
def hidden_activity(module: nn.Module) -> Iterator[list[Activity]]:
    """Collects the outputs of all activation modules while open. Activations that are called as functions are not
    seen."""
    found: list[Activity] = []

    def collect(module: nn.Module, __: object, output: torch.Tensor) -> None:
        # Now, and on a copy: the next layer may write into the output (`out += x`, an inplace dropout).
        found.append(_activity(output.to(torch.float32, copy=True), logistic=_is_logistic(module)))

    seen = [m for m in module.modules() if activation_kind(m) is not None or isinstance(m, Code)]
    with forward_hooks(after=[(m, collect) for m in seen]):
        yield found


def _is_logistic(module: nn.Module) -> bool:
    return isinstance(module, nn.Sigmoid) or (isinstance(module, Code) and module.activation == "sigmoid")


def _activity(output: torch.Tensor, *, logistic: bool = False) -> Activity:
    magnitudes = output.abs()
    with torch.no_grad():
        limit = INACTIVE * output.square().mean().sqrt()
        inactive = (magnitudes <= limit).sum().double()
        counts = torch.stack([inactive, torch.full_like(inactive, output.numel())])
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


def inactive_and_all(activity: list[Activity]) -> torch.Tensor:
    """(2,) float64: inactive outputs of all layers, and all outputs."""
    return torch.stack([layer.counts for layer in activity]).sum(0)


def refuse_invisible_units(module: nn.Module, config: RegularizeConfig, sample: torch.Tensor) -> None:
    """Raise ConfigError for a penalty on outputs of units where no such module runs; `sample` is a normalized batch."""
    if config.kl_target != RegularizeConfig.kl_target and not config.kl:
        expected = "a weight for this penalty, regularize.kl"
        raise ConfigError("regularize.kl_target", f"{config.kl_target:g} alone", expected, "--regularize.kl 0.01, too")
    if not config.penalizes_activations:
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
class BatchPart:
    """Some samples of the batch of a step."""

    step: int
    """The step, from 0."""
    start: int
    """Number of the first sample in the batch."""
    samples: int
    """Samples of the whole batch."""
    weight: torch.Tensor | float
    """The task's weight of the whole batch, by which a sum of losses is divided."""


def whole_batch(task: Task, targets: Targets, step: int = 0) -> BatchPart:
    """A whole batch with these targets as its only part."""
    return BatchPart(step, 0, len(targets), task.weight(targets))


@dataclass(frozen=True)
class ForwardResult:
    """The results of one forward pass."""

    outputs: Outputs
    """Outputs of the network."""
    auxiliary: tuple[tuple[float, Outputs], ...] = ()
    """Weight and outputs of each auxiliary classifier of the network's own."""
    inner: tuple[torch.Tensor, ...] = ()
    """Outputs of the heads on inner layers."""
    turns: tuple[torch.Tensor, torch.Tensor] | None = None
    """Logits and targets of the rotation head. None without one."""
    hidden: list[Activity] = field(default_factory=list)
    """The activation layers; empty without a penalty on them."""


@dataclass(frozen=True)
class Objective:
    """The loss of a batch, and what is measured on it (`Measured`)."""

    task: Task
    """Its loss and metrics."""
    config: Config
    """Regularization, auxiliary heads and evaluation."""
    heads: AuxiliaryHeads | None = None
    """The auxiliary heads. None: the training has none."""
    follows: tuple[str, ...] = ()
    """Quantities that the network follows (`followed_quantities`)."""

    def training_loss(
        self,
        module: nn.Module,
        inputs: torch.Tensor,
        targets: Targets,
        mix: Mix | None = None,
        part: BatchPart | None = None,
    ) -> tuple[torch.Tensor, Measured]:
        """Scalar loss with all its terms, and what is measured; for blended samples, with the target of the larger
        part. The inputs may be a `part` of a batch: the losses of all parts add up to that of the batch."""
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
        """What is measured in validation, on each image once: `evaluation.views` counts only after training. `number`
        of the batch: its random turns follow from it."""
        seen, measured = self._forward(module, inputs, targets, (0, number)), self.empty()
        for part, outputs in zip((measured.own, *measured.inner), (seen.outputs, *seen.inner), strict=True):
            part.update(outputs, targets)
        return self._counted(measured, seen, module, inputs)

    def empty(self) -> Measured:
        """Empty sums."""
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
        return self.config.regularize.penalizes_activations

    def _forward(
        self,
        module: nn.Module,
        inputs: torch.Tensor,
        targets: Targets,
        place: tuple[int, int],
        part: BatchPart | None = None,
    ) -> ForwardResult:
        """One forward pass of the network and its heads; random turns follow from `place`."""
        if self.heads is None and not self._penalizes:
            result = self.task.outputs_for(module, inputs, targets)
            given = network_outputs(module, result, whole=self.task.reads_tree)
            return ForwardResult(given.outputs, given.auxiliary)
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
        seen = ForwardResult(first_samples(given.outputs, count), own, hidden=hidden)
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
        """The loss of a blend, and the summed loss for the target of the larger part."""
        total = self.task.loss_sum(outputs, targets)
        if mix is None:
            return total / weight, total.detach()
        partners = self.task.loss_sum(outputs, mix.targets)
        # Each sample of the batch is a partner once, so both sums have the same weight.
        loss = (mix.share * total + (1 - mix.share) * partners) / weight
        return loss, (total if mix.share >= 0.5 else partners).detach()

    def _terms(self, seen: ForwardResult) -> list[torch.Tensor]:
        """Further terms of the loss: means over the samples."""
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

    def _counted(self, measured: Measured, seen: ForwardResult, module: nn.Module, inputs: torch.Tensor) -> Measured:
        """`measured` with rotation, hidden units, and the quantities that the network follows."""
        if measured.rotation is not None and seen.turns is not None:
            logits, quarters = seen.turns
            counts = torch.full((2,), float(len(quarters)), dtype=torch.float64, device=logits.device)
            counts[0] = (logits.argmax(1) == quarters).sum()
            measured.rotation.add(counts)
        if measured.hidden is not None:
            measured.hidden.add(inactive_and_all(seen.hidden))
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
    """Kernels and matrices: the weights of the L1 and L2 penalties."""
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
