"""What training minimizes: the task's loss, and the terms that the configuration adds to it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from striate.errors import ConfigError
from striate.models.weights.auxiliary_outputs import Answers, answers
from striate.tasks.protocol import Task
from striate.tasks.views import answer_views
from striate.training.auxiliary import AuxiliaryHeads, turned
from striate.training.config import Config, RegularizeConfig
from striate.training.hidden_units import hidden_activity, silent_and_all, sparsity_penalty
from striate.training.mix import Mix


@dataclass(frozen=True)
class Objective:
    """The loss of a batch with its tally.

    The tally is the task's, followed, where they are in use, by those of the auxiliary classifiers, by the correct
    and all answers of the rotation head, and by the silent and all outputs of hidden units: sums, as in `Task`.
    """

    task: Task
    config: Config
    heads: AuxiliaryHeads | None = None

    def training_loss(
        self,
        module: nn.Module,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        mix: Mix | None = None,
        place: tuple[int, int] = (0, 0),
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scalar loss with all its terms, and the tally. Of blended samples the tally counts the larger part's
        target. `place` is the step and the part of its batch, from which random turns follow."""
        outputs, terms, tally = self._forward(module, inputs, targets, mix, place)
        loss = self._mixed(outputs, targets, mix)
        for term in (*terms, *self._weight_penalties(module)):
            loss = loss + term
        return loss, tally

    @torch.no_grad()
    def tally(self, module: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, number: int = 0) -> torch.Tensor:
        """The tally alone, for validation, of the mean over `evaluation.views`; `number` is that of the batch, from
        which turns follow. Auxiliary heads and hidden units are measured on the images as they are."""
        views = self.config.evaluation.views or "none"
        if views == "none":
            return self._forward(module, inputs, targets, None, (0, number))[2]
        own = self.task.tally(answer_views(module, inputs, views), targets)
        if self.heads is None and not self._penalizes:
            return own
        return torch.cat([own, self._forward(module, inputs, targets, None, (0, number))[2][len(own) :]])

    def summarize(self, tally: torch.Tensor) -> dict[str, float]:
        """The task's epoch metrics, then `<layer>_<headline>`, `rotation_accuracy` and `hidden_sparsity` (the share of
        hidden outputs that are silent), as far as they are in use."""
        rotation, sparsity = self._rotates, self._penalizes
        layers = self.heads.layers if self.heads is not None else ()
        size = (len(tally) - 2 * rotation - 2 * sparsity) // (1 + len(layers))
        metrics = self.task.summarize(tally[:size])
        for place, layer in enumerate(layers, start=1):
            own = self.task.summarize(tally[place * size : (place + 1) * size])
            metrics[f"{layer}_{self.task.headline}"] = own[self.task.headline]
        rest = tally[(1 + len(layers)) * size :].tolist()
        names = ["rotation_accuracy"] * rotation + ["hidden_sparsity"] * sparsity
        return metrics | {name: rest[2 * k] / rest[2 * k + 1] for k, name in enumerate(names)}

    @property
    def _rotates(self) -> bool:
        return self.heads is not None and self.heads.rotation is not None

    @property
    def _penalizes(self) -> bool:
        return self.config.regularize.sparsity > 0

    def _forward(
        self, module: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, mix: Mix | None, place: tuple[int, int]
    ) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """Outputs, additional loss terms, and the tally."""
        named = self._counted(targets, mix)
        if self.heads is None and not self._penalizes:
            given = answers(module, module(inputs))
            return (
                given.outputs,
                self._own_auxiliary(given, targets, mix),
                self.task.tally(given.outputs.detach(), named),
            )
        count, quarters = len(inputs), None
        if self._rotates:
            images, quarters = turned(inputs, self.config.seed, *place, 6)
            inputs = torch.cat([inputs, images])
        with ExitStack() as stack:
            found = stack.enter_context(self.heads.watching(module)) if self.heads is not None else {}
            hidden = stack.enter_context(hidden_activity(module)) if self._penalizes else []
            given = answers(module, module(inputs))
        outputs = given.outputs[:count]
        terms = self._own_auxiliary(given, targets, mix)
        tallies = [self.task.tally(outputs.detach(), named)]
        if self.heads is not None:
            more_terms, more_tallies = self._auxiliary(self.heads, found, count, targets, mix, quarters)
            terms, tallies = terms + more_terms, tallies + more_tallies
        if self._penalizes:
            terms.append(self.config.regularize.sparsity * sparsity_penalty(hidden))
            tallies.append(silent_and_all(hidden))
        return outputs, terms, torch.cat(tallies)

    def _own_auxiliary(self, given: Answers, targets: torch.Tensor, mix: Mix | None) -> list[torch.Tensor]:
        """The losses of the network's own auxiliary classifiers, times the weights that it states."""
        return [weight * self._mixed(more[: len(targets)], targets, mix) for weight, more in given.auxiliary]

    def _auxiliary(
        self,
        heads: AuxiliaryHeads,
        found: dict[str, torch.Tensor],
        count: int,
        targets: torch.Tensor,
        mix: Mix | None,
        quarters: torch.Tensor | None,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The loss terms and the tallies of the heads."""
        terms, tallies = [], []
        for layer, classifier in zip(heads.layers, heads.classifiers, strict=True):
            outputs = classifier(found[layer][:count].float())
            terms.append(self.config.auxiliary.weight * self._mixed(outputs, targets, mix))
            tallies.append(self.task.tally(outputs.detach(), self._counted(targets, mix)))
        if heads.rotation is not None and quarters is not None:
            logits = heads.rotation(found[""][count:].float())
            terms.append(self.config.auxiliary.rotation * functional.cross_entropy(logits, quarters))
            correct = (logits.argmax(1) == quarters).sum()
            tallies.append(torch.stack([correct.double(), torch.full_like(correct, len(quarters)).double()]))
        return terms, tallies

    def _mixed(self, outputs: torch.Tensor, targets: torch.Tensor, mix: Mix | None) -> torch.Tensor:
        loss = self.task.loss(outputs, targets)
        if mix is None:
            return loss
        return mix.share * loss + (1 - mix.share) * self.task.loss(outputs, targets[mix.partner])

    @staticmethod
    def _counted(targets: torch.Tensor, mix: Mix | None) -> torch.Tensor:
        return targets if mix is None or mix.share >= 0.5 else targets[mix.partner]

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
                "weights to penalize: biases and normalization are left alone",
                f"leave out --regularize.{name}",
            )
