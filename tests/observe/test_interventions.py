"""Changes to a copy of a network that last as long as the copy does: the doctor's trials of what would help."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from striate.observe.interventions import change_inputs


def test_named_inputs_are_changed_too() -> None:
    class Named(nn.Module):
        def forward(self, pixel_values: Tensor, labels: Tensor) -> Tensor:
            return pixel_values + labels

    model = Named()
    change_inputs(model, lambda args: (args[0] * 2, *args[1:]))
    one, two = torch.ones(3), torch.arange(3)
    assert model(pixel_values=one, labels=two).tolist() == [2.0, 3.0, 4.0]
    assert model(one, two).tolist() == [2.0, 3.0, 4.0]
