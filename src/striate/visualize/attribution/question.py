"""The output of a network that is explained, for one input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from striate.errors import ModelError, UsageError
from striate.visualize.inside.passes import run
from striate.wording import show_shape

Kind = Literal["logits", "probabilities", "number"]
"""The meaning of outputs (N, K): logits of classes, their probabilities, or separate numbers."""

Choose = Callable[[torch.Tensor], Any]

_BATCH_NUMBERS, _MOST_BATCH = 2**21, 64
_EXPECTED, _REMEDY = "a tensor with a row of numbers for each input", "explain the part of the network that classifies"


@dataclass(frozen=True)
class Question:
    """Why does a network give this output for this input?"""

    module: nn.Module
    """The network."""
    x: torch.Tensor
    """A normalized batch of one, (1, C, *spatial) or (1, F)."""
    target: int
    """Number of the output that is explained."""
    kind: Kind = "logits"
    """`logits` or `probabilities` of classes, or `number`."""
    choose: Choose | None = None
    """Gives class numbers (N,) for probabilities (N, K); None: the most probable class is predicted."""

    def predicted(self, probabilities: torch.Tensor) -> torch.Tensor:
        """(N,) class numbers of probabilities (N, K)."""
        return probabilities.argmax(1) if self.choose is None else torch.as_tensor(self.choose(probabilities))

    @property
    def spatial(self) -> tuple[int, ...]:
        """Sides of the input; the number of features of a table."""
        return tuple(self.x.shape[2:] or self.x.shape[1:])

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """(N,) the probability of the class, or the number, without gradients."""
        outputs = self.outputs(x)
        return outputs[:, self.target] if self.kind == "number" else self.probabilities(outputs)[:, self.target]

    def probabilities(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, K) probabilities of outputs."""
        return outputs if self.kind == "probabilities" else outputs.softmax(1)

    def outputs(self, x: torch.Tensor) -> torch.Tensor:
        """(N, K) float32 outputs on the CPU, without gradients, computed in batches."""
        with torch.no_grad():
            return torch.cat([outputs_of(self.module, part).float().cpu() for part in _parts(x)])


class LogOdds(nn.Module):
    """The network of a question with the output (N, 1) that maps explain: of a class the log-odds, log p / (1 - p), so
    that evidence against the other classes counts as evidence for it; of a number, the number. The names of the
    network's modules begin with `module.`."""

    def __init__(self, question: Question) -> None:
        super().__init__()
        self.module, self.target, self.kind = question.module, question.target, question.kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = outputs_of(self.module, x)
        own = outputs[:, self.target : self.target + 1]
        if self.kind == "number":
            return own
        if self.kind == "probabilities":
            outputs, own = outputs.clamp_min(1e-12).log(), own.clamp_min(1e-12).log()
        others = torch.cat([outputs[:, : self.target], outputs[:, self.target + 1 :]], 1)
        return own - others.logsumexp(1, keepdim=True)


def outputs_of(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """(N, K) outputs for (N, …). Raises ModelError for other outputs."""
    outputs = run(module, x.clone())  # a network may write into its input
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2 or len(outputs) != len(x):
        got = f"outputs of {show_shape(outputs.shape)}" if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise ModelError(f"model {type(module).__name__}", got, _EXPECTED, _REMEDY)
    return outputs


def make_question(
    module: nn.Module,
    x: torch.Tensor,
    target: int | None = None,
    *,
    kind: Kind | None = None,
    choose: Choose | None = None,
) -> Question:
    """The question why the network gives this output for `x` (1, …): `target` is a class, by default the predicted one,
    or one of several numbers, by default the first.

    If `kind` is None, outputs that are nonnegative and sum to 1 are probabilities, a single output is a number, others
    are logits. Raises ModelError; UsageError for an output that does not exist.
    """
    with torch.no_grad():
        outputs = outputs_of(module, x).float().cpu()
    if not bool(torch.isfinite(outputs).all()):
        got, remedy = "outputs that are NaN or Inf", "train again with a smaller learning rate"
        raise ModelError(f"model {type(module).__name__}", got, "finite ones", remedy)
    kind = kind or _kind_of(outputs)
    count = outputs.shape[1]
    if target is None:
        target = 0 if kind == "number" else int(outputs.argmax())
    if not 0 <= target < count:
        raise UsageError("target", str(target), f"one of the outputs, 0 to {count - 1}", f"target={count - 1}")
    return Question(module, x, target, kind, choose)


def _kind_of(outputs: torch.Tensor) -> Kind:
    if outputs.shape[1] == 1:
        return "number"
    whole = bool((outputs >= 0).all()) and bool(((outputs.sum(1) - 1).abs() < 1e-4).all())
    return "probabilities" if whole else "logits"


def _parts(x: torch.Tensor) -> Iterator[torch.Tensor]:
    size = max(1, min(_MOST_BATCH, _BATCH_NUMBERS // max(1, x[0].numel())))
    return iter(x.split(size))
