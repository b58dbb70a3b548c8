"""The late fusion of streams, fitted when all are trained: a support vector machine or another rule, chosen on
validation.

Simonyan and Zisserman, "Two-stream convolutional networks for action recognition in videos", NIPS 2014, section 5: a
linear machine on the scores of the training clips, stacked (`stacked_scores`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from striate.data.loader import batches
from striate.layers.late_fusion import LateFusion, stacked_scores
from striate.runs.checkpoint import save_checkpoint
from striate.runs.directory import RunDirectory
from striate.tasks.task import Task
from striate.training.execution import measured_at_once
from striate.training.prepare import Prepared
from striate.training.refusals import has_one_class
from striate.wording import several

COSTS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Values of C to choose from."""
_SCALES = tuple(float(scale) for scale in np.geomspace(0.05, 20, 40))
_NEVER = -20.0  # the decision value of a class that the training clips do not have

Outputs = tuple[torch.Tensor, ...]
"""(N, K) of each stream."""
Known = tuple[Outputs, torch.Tensor]
"""The outputs for some clips, and their targets."""


@dataclass(frozen=True, eq=False)
class Fused:
    """A fusion of streams."""

    name: str
    """In words."""
    share: tuple[float, ...]
    """The weight of each stream in the mean."""
    weight: torch.Tensor | None = None
    """(K, scores) of a support vector machine. None for a mean."""
    bias: torch.Tensor | None = None
    """(K,) of the machine. None for a mean."""

    def __call__(self, outputs: Outputs) -> torch.Tensor:
        """(N, K)."""
        fusion = LateFusion(outputs[0].shape[1], "", len(outputs))
        fusion.take(self.share, self.weight, self.bias)
        result: torch.Tensor = fusion(*outputs)
        return result


def fuse_streams(run: RunDirectory, prepared: Prepared, best: dict[str, Any]) -> str:
    """Fit the fusion of the trained network, as `fit_fusion` does, and save it in best.pt, whose content is `best`.
    Returns a sentence about the choice; empty without a fusion. Raises RunError."""
    if fused := fit_fusion(prepared):
        weights, state = best.get("ema") or best["model"], prepared.state.eval_module.state_dict()
        weights |= {name: value.clone() for name, value in state.items() if name.startswith("fusion.")}
        save_checkpoint(run.best, best)
    return fused


def fit_fusion(prepared: Prepared) -> str:
    """Fit the fusion of the trained network, if it has one. Returns a sentence about the choice; empty without a
    fusion."""
    network = prepared.state.eval_module
    fusion = getattr(network, "fusion", None)
    if not isinstance(fusion, LateFusion) or prepared.task.gives_vector:
        return ""
    classes = has_one_class(prepared.task, prepared.data.splits["train"])
    train, val = (_alone(prepared, name) for name in ("train", "val"))
    loss: Callable[..., tuple[float, float]] = scaled_loss if classes else partial(_loss, prepared.task)
    chosen = choose_fusion(fusion.kind, tuple(network.streams), train if classes else None, val, loss)  # type: ignore[arg-type]
    fusion.take(chosen.share, chosen.weight, chosen.bias)
    return f"Fusion: {chosen.name}, chosen on {several(len(val[1]), 'validation clip')} by their loss."


def choose_fusion(
    kind: str, names: tuple[str, ...], train: Known | None, val: Known, loss: Callable[..., tuple[float, float]]
) -> Fused:
    """The fusion with the lowest loss on `val`, among those that `kind` allows: `svm`, machines of several C, fitted on
    `train`; `best`, also the mean and each stream alone. `loss(outputs, targets)` returns the loss, and the factor by
    which the outputs of a machine are to be multiplied. Without `train` no machine is fitted."""
    count = len(names)
    candidates = []
    if kind == "best":
        candidates.append(Fused("the mean of the streams", (1 / count,) * count))
        candidates += [
            Fused(f"{name} alone", tuple(float(k == other) for other in range(count))) for k, name in enumerate(names)
        ]
    if train is not None:
        scores, classes = stacked_scores(train[0]).numpy(), train[1].numpy()
        candidates += [_machine(scores, classes, cost, train[0][0].shape[1], count) for cost in COSTS]
    losses = [loss(each(val[0]), val[1]) for each in candidates]
    chosen = min(range(len(candidates)), key=lambda k: losses[k][0])
    found, scale = candidates[chosen], losses[chosen][1]
    if found.weight is None or found.bias is None:
        return found
    return replace(found, weight=scale * found.weight, bias=scale * found.bias)


def _machine(scores: NDArray[np.float32], classes: NDArray[np.int64], cost: float, outputs: int, streams: int) -> Fused:
    from sklearn.svm import LinearSVC

    fitted = LinearSVC(C=cost, dual=False, max_iter=10_000).fit(scores, classes)
    weight, bias = torch.zeros(outputs, scores.shape[1]), torch.full((outputs,), _NEVER)
    rows, offsets = torch.from_numpy(fitted.coef_).float(), torch.from_numpy(fitted.intercept_).float()
    if len(rows) == 1:  # two classes have one machine
        rows, offsets = torch.cat([-rows, rows]), torch.cat([-offsets, offsets])
    known = torch.from_numpy(fitted.classes_)
    weight[known], bias[known] = rows, offsets
    name = f"a support vector machine (C = {cost:g}) on the scores of the streams"
    return Fused(name, (0.0,) * streams, weight, bias)


def scaled_loss(outputs: torch.Tensor, classes: torch.Tensor) -> tuple[float, float]:
    """The lowest log loss of the outputs times a factor, and that factor."""
    return min((float(functional.cross_entropy(scale * outputs, classes)), scale) for scale in _SCALES)


def _loss(task: Task, outputs: torch.Tensor, targets: torch.Tensor) -> tuple[float, float]:
    return float(task.loss_sum(outputs, targets) / task.weight(targets)), 1.0


def _alone(prepared: Prepared, name: str) -> Known:
    """Outputs of each stream, and targets, of a split."""
    network, split = prepared.state.eval_module.eval(), prepared.data.splits[name]
    found, classes = [], []
    with torch.inference_mode():
        for batch in batches(split, measured_at_once(prepared.config) or 64):
            inputs = prepared.normalize(batch.inputs.to(prepared.device))
            alone: dict[str, torch.Tensor] = network.alone(inputs)  # type: ignore[operator]
            found.append([one.float().cpu() for one in alone.values()])
            classes.append(batch.targets.cpu())
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True)), torch.cat(classes)
