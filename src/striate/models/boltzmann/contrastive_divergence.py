"""Contrastive divergence, CD-k and persistent: the learning rule of Boltzmann machines."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from striate.errors import UsageError
from striate.layers.boltzmann import ConvolutionalBoltzmannMachine, RestrictedBoltzmannMachine

Machine = RestrictedBoltzmannMachine | ConvolutionalBoltzmannMachine

FIRST_MOMENTUM, MOMENTUM = 0.5, 0.9
MOMENTUM_FROM = 0.1
"""Share of the run after which the larger momentum is used, once the large early changes are done (Hinton 2010, 9)."""
CHAINS = 100


@dataclass(frozen=True)
class Divergence:
    """How the model's term of the gradient is estimated, and the regularization of the weights."""

    k: int = 1
    """Steps of Gibbs sampling for each training step."""
    persistent: bool = False
    """Whether chains continue from the previous training step instead of starting at the data (PCD)."""
    weight_cost: float = 2e-4
    """L2 decay of weights (Hinton 2010, section 10)."""
    sparsity: float = 0.0
    """Target of the mean activation of hidden units, which changes their biases; 0 for no target (Lee 2009)."""
    sparsity_rate: float = 0.0
    """Step size of these changes, independent of the learning rate."""


class ContrastiveDivergence(nn.Module):
    """The learning rule with its state, in buffers: velocities of the momentum, the states of persistent chains,
    (chains, *visible_shape), and `begun`, whether these have been set.

    Sources: Hinton, "Training products of experts by minimizing contrastive divergence", Neural Computation 14, 2002;
    Tieleman, "Training restricted Boltzmann machines using approximations to the likelihood gradient", ICML 2008.
    """

    chains: torch.Tensor
    begun: torch.Tensor

    def __init__(self, machine: Machine, visible_shape: tuple[int, ...], divergence: Divergence) -> None:
        super().__init__()
        self.divergence = divergence
        for name, parameter in machine.named_parameters():
            self.register_buffer(_velocity(name), torch.zeros_like(parameter, requires_grad=False))
        if divergence.persistent:
            self.register_buffer("chains", torch.zeros(CHAINS, *visible_shape))
            self.register_buffer("begun", torch.tensor(False))

    @torch.no_grad()
    def learn(self, machine: Machine, v: torch.Tensor, rate: float, progress: float, *, scale: float = 1.0) -> None:
        """One step, in place: θ += rate · scale · (mean of −∂E/∂θ with v from the data − with v from the chains), with
        momentum, and weights decay by rate · `weight_cost`. `v` is a batch of visible units, `progress` the share of
        steps that are done. Raises UsageError for binary units with values that are not probabilities."""
        refuse_beyond_unit(machine, v)
        hidden = probabilities(machine, v)
        found, imagined = machine.statistics(v, hidden), self._of_the_model(machine, v)
        momentum = FIRST_MOMENTUM if progress < MOMENTUM_FROM else MOMENTUM
        if self.divergence.persistent:
            momentum = 0.0  # persistent chains must keep up with the weights (Tieleman 2008)
        for name, parameter in machine.named_parameters():
            gradient = scale * (found[name] - imagined[name])
            if parameter.ndim > 1:
                gradient -= self.divergence.weight_cost * parameter
            velocity = self.get_buffer(_velocity(name)).mul_(momentum).add_(gradient, alpha=rate)
            parameter.add_(velocity)
        if self.divergence.sparsity:
            activity = hidden.transpose(0, 1).flatten(1).mean(1)
            missing = self.divergence.sparsity - activity
            machine.get_parameter("hidden.bias").add_(missing, alpha=self.divergence.sparsity_rate)

    def _of_the_model(self, machine: Machine, v: torch.Tensor) -> dict[str, torch.Tensor]:
        if not self.divergence.persistent:
            end = gibbs_chain(machine, v, self.divergence.k)
            return machine.statistics(end, probabilities(machine, end))
        if not bool(self.begun):
            rows = torch.arange(CHAINS, device=v.device) % len(v)
            self.chains.copy_(v[rows])
            self.begun.fill_(True)
        self.chains.copy_(gibbs_chain(machine, self.chains, self.divergence.k))
        return machine.statistics(self.chains, probabilities(machine, self.chains))


def probabilities(machine: Machine, v: torch.Tensor) -> torch.Tensor:
    """P(h = 1 | v) of each hidden unit, for either kind of machine."""
    found: torch.Tensor = machine.detections(v) if isinstance(machine, ConvolutionalBoltzmannMachine) else machine(v)
    return found


def gibbs_chain(machine: Machine, v: torch.Tensor, steps: int) -> torch.Tensor:
    """Visible units after `steps` steps of block Gibbs sampling, which draw h from P(h | v), then v from P(v | h), by
    torch's random state."""
    for _ in range(steps):
        v = machine.sample_visible(machine.sample_hidden(v))
    return v


def refuse_beyond_unit(machine: Machine, v: torch.Tensor) -> None:
    """UsageError for binary visible units with values below 0 or above 1, which are not probabilities of being on."""
    if machine.visible != "binary":
        return
    low, high = (float(end) for end in v.aminmax())
    if low < 0 or high > 1:
        got = f"values from {low:.3g} to {high:.3g} for binary visible units"
        remedy = "divide bytes by 255 (images / 255), or use gaussian units: visible=gaussian"
        raise UsageError("inputs", got, "values from 0 to 1, the probabilities that a unit is on", remedy)


def _velocity(name: str) -> str:
    return f"velocity_{name.replace('.', '_')}"
