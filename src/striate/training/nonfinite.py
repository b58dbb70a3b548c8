"""A loss that is no longer a number: where it came from, and what to try."""

from __future__ import annotations

import math

import torch
from torch import nn

from striate.errors import NonFiniteLoss
from striate.models.untouched import untouched
from striate.training.events import EpochRow

_LOOK_EVERY = 20  # steps between looks on an accelerator


def refuse_nonfinite(
    loss: torch.Tensor, module: nn.Module, inputs: torch.Tensor, step: int, epoch: int, lr: float
) -> None:
    """Raise NonFiniteLoss when `loss` (scalar) is infinite or not a number, naming the first place at fault.

    `inputs` is the normalized batch of this step. The network is left as it is. Does nothing on an accelerator, where
    a look at each step would wait for it each time: `LossWatch` looks at several.
    """
    if loss.device.type != "cpu" or math.isfinite(loss.item()):
        return
    raise NonFiniteLoss(
        f"training, step {step} in epoch {epoch}: loss",
        f"{float(loss.detach()):g} at learning rate {lr:.3g}; {first_nonfinite(module, inputs)}",
        "a finite number",
        _remedy(lr),
    )


class LossWatch:
    """Looks at the losses of several steps at once, so that nobody waits for an accelerator in between."""

    def __init__(self) -> None:
        self._unseen: list[tuple[int, torch.Tensor]] = []

    def add(self, loss: torch.Tensor, step: int, epoch: int, lr: float) -> None:
        """Take note of the scalar `loss` of `step`; raise NonFiniteLoss as `look` does when it is time to look."""
        self._unseen.append((step, loss))
        if len(self._unseen) >= _LOOK_EVERY:
            self.look(epoch, lr)

    def look(self, epoch: int, lr: float) -> None:
        """Raise NonFiniteLoss, with the first step at fault, when a loss since the last look is not finite."""
        unseen, self._unseen = self._unseen, []
        if not unseen:
            return
        values = torch.stack([loss for _, loss in unseen]).tolist()
        for (step, _), value in zip(unseen, values, strict=True):
            if not math.isfinite(value):
                raise NonFiniteLoss(
                    f"training, step {step} in epoch {epoch}: loss",
                    f"{value:g} at learning rate {lr:.3g}; looked at in step {unseen[-1][0]}, after which no layer can"
                    " be named: the weights have followed it since",
                    "a finite number",
                    _remedy(lr),
                )


def refuse_nonfinite_epoch(row: EpochRow) -> None:
    """Raise NonFiniteLoss when a figure of the epoch is infinite or not a number: such an epoch is never the best."""
    figures = {f"{split} {name}": value for split in ("train", "val") for name, value in getattr(row, split).items()}
    bad = [name for name, value in figures.items() if not math.isfinite(value)]
    if bad:
        raise NonFiniteLoss(
            f"training, end of epoch {row.epoch}",
            f"{bad[0]} is {figures[bad[0]]}",
            "finite figures",
            _remedy(row.lr),
        )


def refuse_nonfinite_weights(module: nn.Module, step: int, lr: float) -> None:
    """Raise NonFiniteLoss when a parameter or buffer is not finite, so that no checkpoint ever holds such a network."""
    bad = [n for n, t in module.state_dict().items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        raise NonFiniteLoss(f"training, step {step}", f"{bad[0]} is not finite", "finite weights", _remedy(lr))


def _remedy(lr: float) -> str:
    return f"--lr {min(lr / 10, 1e-3):.2g}; where a checkpoint was saved before, it is kept"


@torch.no_grad()
def first_nonfinite(module: nn.Module, inputs: torch.Tensor) -> str:
    """The first of inputs, parameters and layer outputs (in execution order) that is not finite, in words."""
    if not torch.isfinite(inputs).all():
        return "the input batch itself is not finite"
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"the parameter {name} is not finite: an earlier step was too large"
    found: list[str] = []

    def look(name: str) -> object:
        def hook(layer: nn.Module, _: object, output: object) -> None:
            if not found and isinstance(output, torch.Tensor) and not torch.isfinite(output).all():
                found.append(f"first in the output of {name} ({type(layer).__name__})")

        return hook

    leaves = [(n, m) for n, m in module.named_modules() if not list(m.children())]
    hooks = [m.register_forward_hook(look(n)) for n, m in leaves]
    try:
        with untouched(module, evaluating=False):
            module(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else "every layer's output is finite: the loss itself overflows"
