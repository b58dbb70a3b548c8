"""Networks of restricted Boltzmann machines: one alone, a stack of them, and a convolutional one.

Restricted Boltzmann machine: Smolensky, "Information processing in dynamical systems: foundations of harmony theory",
1986 (harmonium); Hinton, "Training products of experts by minimizing contrastive divergence", Neural Computation 14,
2002. New: features learned without labels, as a probability of images.

Deep belief network: Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313,
2006; Hinton, Osindero, Teh, "A fast learning algorithm for deep belief nets", Neural Computation 18, 2006. New: each
layer learns what the one below it says, one after the other; back-propagation begins with their weights.

Convolutional: Lee, Grosse, Ranganath, Ng, "Convolutional deep belief networks", ICML 2009. New: weights shared over the
image, probabilistic max pooling, sparse hidden units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import nn

from striate.errors import ModelError
from striate.layers.boltzmann import ConvolutionalBoltzmannMachine, RestrictedBoltzmannMachine, Visible, drawn
from striate.layers.image_whitening import ImageWhitening
from striate.models.boltzmann.contrastive_divergence import (
    ContrastiveDivergence,
    Divergence,
    Machine,
    gibbs_chain,
    probabilities,
)
from striate.models.initialization.initialize import initialize_output
from striate.models.learning_rule import LearningRule
from striate.wording import show_shape

LEE_SCALE = math.sqrt(0.1)
"""Standard deviation of whitened images, for visible units of the standard deviation `LEE_SIGMA` (Lee's program)."""
LEE_SIGMA = 0.2
_MARGIN = 1e-6  # pixels nearer to 0 and 1 have the logit of this


class BoltzmannNetwork(nn.Module):
    """Machines one upon the other, each of which sees the probabilities of the one below.

    It gives (N, outputs) of a linear layer on the highest units, or after `for_reconstruction` the images that the
    machines make of these again, layer by layer (mean field). In that form it learns without labels, each machine for
    its share of the steps.
    """

    unit_inputs = True
    follows = ("free_energy", "hidden_activity")

    def __init__(
        self,
        machines: Sequence[Machine],
        input_shape: tuple[int, ...],
        units: int,
        outputs: int,
        divergence: Divergence,
        whitening: ImageWhitening | None = None,
    ) -> None:
        super().__init__()
        self.input_shape, self.filter_shape, self.divergence = input_shape, input_shape, divergence
        self.form: Literal["classes", "pixels", "logits"] = "classes"
        self.whitening = whitening
        self.machines = nn.ModuleList(machines)
        for machine in self.stack:
            machine.offset.requires_grad_(False)
        self.learning: nn.ModuleList | None = None
        self.head: nn.Linear | None = nn.Linear(units, outputs)
        initialize_output(self.head)

    @property
    def stack(self) -> list[Machine]:
        """The machines, the lowest first."""
        return cast(list[Machine], list(self.machines))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        code = self.visible(x)
        if self.head is not None:
            for machine in self.stack:
                code = machine(code)
            classes: torch.Tensor = self.head(code.flatten(1))
            return classes
        return self._from_visible(self.mean_field(code), x)

    def visible(self, x: torch.Tensor) -> torch.Tensor:
        """The visible units of the first machine that inputs (N, *input_shape) stand for."""
        if self.whitening is not None:
            x = self.whitening(x)
        first = self.stack[0]
        return first.covered(x) if isinstance(first, ConvolutionalBoltzmannMachine) else x.flatten(1)

    def mean_field(self, v: torch.Tensor) -> torch.Tensor:
        """Visible units to the means that the highest machine's probabilities give them, layer by layer."""
        for machine in self.stack:
            v = probabilities(machine, v)
        for machine in reversed(self.stack):
            v = machine.visible_mean(v)
        return v

    def pixels(self, v: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Visible units as images (N, *input_shape) with values around 0 to 1. Pixels that no block sees are those of
        the offset; mean and contrast of whitened ones those of `x`."""
        if v.ndim < len(self.input_shape) + 1:
            v = v.unflatten(1, self.input_shape)
        if v.shape[1:] != self.input_shape:
            offset = self.stack[0].offset.bias[:, None, None]
            whole = (offset.sigmoid() if self.whitening is None else offset).expand(len(v), *self.input_shape).clone()
            whole[:, :, : v.shape[2], : v.shape[3]] = v
            v = whole
        return v if self.whitening is None else self.whitening.inverse(v, x)

    def _from_visible(self, v: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        pixels = self.pixels(v, x)
        return torch.logit(pixels, eps=_MARGIN) if self.form == "logits" else pixels

    def for_reconstruction(self, *, logits: bool) -> nn.Module:
        """The form that reconstructs images, and learns without labels."""
        self.form, self.head = "logits" if logits else "pixels", None
        shape = self.visible(torch.zeros(1, *self.input_shape, device=self._device)).shape[1:]
        rules = []
        for machine in self.stack:
            machine.offset.requires_grad_(True)
            rules.append(ContrastiveDivergence(machine, tuple(shape), self.divergence))
            shape = probabilities(machine, torch.zeros(1, *shape, device=self._device)).shape[1:]
        self.learning = nn.ModuleList(rules)
        return self

    def fitting(self, saved: dict[str, Any]) -> dict[str, Any]:
        """Of the tensors of a file those that this form has: momentum and chains only serve learning without labels."""
        own = self.state_dict()
        return {key: value for key, value in saved.items() if key in own or not key.startswith("learning.")}

    def learning_rule(self) -> LearningRule | None:
        """Contrastive divergence, of the form that reconstructs."""
        if self.learning is None:
            return None
        convolutional = isinstance(self.stack[0], ConvolutionalBoltzmannMachine)
        persistent, k = self.divergence.persistent, self.divergence.k
        rate = 0.05 if convolutional else 0.1
        if self.stack[0].visible == "gaussian" and not convolutional:
            rate = 0.005  # nothing bounds what real-valued units do (Hinton 2010, section 13.2)
        name = f"persistent contrastive divergence, {k} steps" if persistent else f"contrastive divergence, CD-{k}"
        return LearningRule(
            f"{name} (Hinton 2002)" if not persistent else f"{name} (Tieleman 2008)",
            rate=rate,
            why="usual for mean gradients of minibatches (Hinton 2010, section 7)",
            epochs=20 * len(self.machines),
            schedule="triangle" if persistent else "constant",
            warmup=0.0 if persistent else None,  # linear to 0 (Tieleman 2008, section 4)
            labels=False,
            usual=True,
            batch=100 if not convolutional else 20 if self.whitening is None else 2,
        )

    @torch.no_grad()
    def learn(self, inputs: torch.Tensor, targets: torch.Tensor, rate: float, progress: float) -> None:
        """One step of contrastive divergence of the machine whose share of the steps this is."""
        del targets
        assert self.learning is not None, "only the form that reconstructs learns"
        number = min(int(progress * len(self.machines)), len(self.machines) - 1)
        v = self.visible(inputs)
        for machine in self.stack[:number]:
            v = probabilities(machine, v)
        share = progress * len(self.machines) - number
        rule = cast(ContrastiveDivergence, self.learning[number])
        rule.learn(self.stack[number], v, rate, share, scale=self._scale(v))

    def followed(self, inputs: torch.Tensor) -> torch.Tensor:
        """(2,) sums over samples: the free energy, which each machine adds up for what it sees, in nats, and the mean
        probability of hidden units to be on, the mean over machines."""
        v, energy, activity = self.visible(inputs), inputs.new_zeros(()), inputs.new_zeros(())
        for machine in self.stack:
            energy = energy + machine.free_energy(v).sum()
            v = probabilities(machine, v)
            activity = activity + v.flatten(1).mean(1).sum() / len(self.machines)
        return torch.stack([energy, activity])

    @torch.no_grad()
    def chains(self, x: torch.Tensor, steps: Sequence[int], *, noise: bool = False) -> list[torch.Tensor]:
        """Images (N, *input_shape) with values from 0 to 1, the means of visible units after so many `steps` of Gibbs
        sampling in the highest machine, from what it sees of images x (N, *input_shape) on, or from `noise`; by
        torch's random state. Whitened images get mean and contrast of x."""
        v = self.visible(x)
        *below, top = self.stack
        for machine in below:
            v = probabilities(machine, v)
        if noise:
            v = drawn(torch.full_like(v, 0.5) if top.visible == "binary" else torch.zeros_like(v), top.visible)
        found, done, mean = [], 0, v
        for step in steps:
            if step > done:
                v = gibbs_chain(top, v, step - done - 1)
                mean = top.visible_mean(top.sample_hidden(v))
                v, done = drawn(mean, top.visible, getattr(top, "sigma", 1.0)), step
            seen = mean
            for machine in reversed(below):
                seen = machine.visible_mean(seen)
            found.append(self.pixels(seen, x).clamp(0, 1))
        return found

    def _scale(self, v: torch.Tensor) -> float:
        """Of gradients: they are sums over positions that share the weights, divided by the variance of units."""
        machine = self.stack[0]
        if not isinstance(machine, ConvolutionalBoltzmannMachine):
            return 1.0
        edge = machine.hidden.kernel_size[0] - 1
        return machine.sigma**2 / math.prod(side - edge for side in v.shape[2:])

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device


def dbn(
    input_shape: tuple[int, ...],
    outputs: int,
    sizes: tuple[int, ...] = (500, 500, 2000),
    k: int = 1,
    persistent: bool = False,
    visible: Visible = "binary",
) -> nn.Module:
    """Restricted Boltzmann machines of `sizes` hidden units, each upon the other: (N, *input_shape) to (N, outputs).

    `k` steps of contrastive divergence, in `persistent` chains or from the data; `visible` units of images: `binary`,
    or `gaussian` of whitened images.
    """
    sizes = tuple(sizes) or (500, 500, 2000)
    inputs, machines = math.prod(input_shape), list[Machine]()
    for number, size in enumerate(sizes):
        machines.append(RestrictedBoltzmannMachine(inputs, size, visible if number == 0 else "binary"))
        inputs = size
    whitening = _whitening(input_shape, visible, 1.0)
    return BoltzmannNetwork(machines, input_shape, inputs, outputs, Divergence(k, persistent), whitening)


def rbm(
    input_shape: tuple[int, ...],
    outputs: int,
    units: int = 500,
    k: int = 1,
    persistent: bool = False,
    visible: Visible = "binary",
) -> nn.Module:
    """One restricted Boltzmann machine: `dbn` of one layer."""
    return dbn(input_shape, outputs, (units,), k, persistent, visible)


def crbm(
    input_shape: tuple[int, ...],
    outputs: int,
    filters: int = 24,
    kernel: int = 11,
    pool: int = 2,
    k: int = 1,
    visible: Visible = "binary",
    sparsity: float = 0.02,
) -> nn.Module:
    """A convolutional Boltzmann machine with probabilistic max pooling: (N, C, H, W) to (N, outputs).

    `filters` of `kernel` × `kernel`, blocks of `pool` × `pool`; `sparsity`: the mean activation that hidden units are
    held to, 0 for none. `visible` as for `dbn`: `gaussian`, with whitening, is for natural images.
    """
    if len(input_shape) != 3:
        raise _no_image("a convolutional Boltzmann machine", input_shape, "--model rbm")
    machine = ConvolutionalBoltzmannMachine(input_shape[0], filters, kernel, pool, visible, LEE_SIGMA)
    seen = machine.covered(torch.empty(1, *input_shape, device="meta")).shape[2:]
    units = filters * math.prod((side - kernel + 1) // pool for side in seen)
    cost, speed = _LEE if visible == "gaussian" else (Divergence.weight_cost, _SPARSITY_RATE)
    divergence = Divergence(k, weight_cost=cost, sparsity=sparsity, sparsity_rate=speed if sparsity else 0.0)
    whitening = _whitening(input_shape, visible, LEE_SCALE)
    return BoltzmannNetwork([machine], input_shape, units, outputs, divergence, whitening)


_SPARSITY_RATE = 0.1
_LEE = 0.002, 1.0
"""Weight cost and rate of sparsity of real-valued visible units. A filter whose units fall silent has to be woken by
its bias before its weights have decayed: with Lee's cost of 0.01 and a rate of 0.1 half of the filters were lost."""


def _whitening(input_shape: tuple[int, ...], visible: Visible, scale: float) -> ImageWhitening | None:
    if visible == "binary":
        return None
    if len(input_shape) != 3:
        raise _no_image("gaussian visible units, for which images are whitened,", input_shape, "visible=binary")
    return ImageWhitening(*input_shape[1:], scale)


def _no_image(what: str, input_shape: tuple[int, ...], remedy: str) -> ModelError:
    return ModelError("model", f"{what} for inputs of {show_shape(input_shape)}", "images (C, H, W)", remedy)
