"""Steps with the gradient of the loss alone, whatever is added to it."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from striate.doctor.patient.copies import Double


class OwnGradient:
    """Two halves of a Change: `around` notes the gradient of each value that the loss gives, `prepare` has the
    optimizer step with that in place of what backward left."""

    def __init__(self) -> None:
        self.parameters: list[torch.Tensor] = []
        self.found: dict[int, torch.Tensor] = {}

    def prepare(self, double: Double) -> None:
        """Of a double before its first step."""
        self.parameters = [parameter for parameter in double.model.parameters() if parameter.requires_grad]
        double.optimizer.register_step_pre_hook(self._stepping)

    def around(self, loss: Any) -> Any:
        """The loss, watched."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            value = loss(*args, **kwargs)
            if isinstance(value, torch.Tensor) and value.requires_grad and value.numel() == 1:
                self._note(torch.autograd.grad(value, self.parameters, retain_graph=True, allow_unused=True))
            return value

        return watched

    def _note(self, gradients: tuple[torch.Tensor | None, ...]) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            if gradient is not None:
                known = self.found.get(id(parameter))
                self.found[id(parameter)] = gradient if known is None else known + gradient

    def _stepping(self, _: Optimizer, __: Any, ___: Any) -> None:
        for parameter in self.parameters:
            if parameter.grad is not None and self.found:
                parameter.grad = self.found.get(id(parameter), torch.zeros_like(parameter))
        self.found.clear()
