"""What the numbers of a tensor see of the input, noted on the tensor itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from striate.account.field.intervals import Fields
from striate.account.operation import Operation

Rule = Callable[[Operation, list[Fields]], Any]
"""From what the inputs of an operation see to what its results see: one `Fields` for all of them, or a list."""

_KEY = "_striate_fields"


def set_fields(tensor: torch.Tensor, fields: Fields) -> None:
    """Note what the numbers of a tensor see."""
    tensor.__dict__[_KEY] = fields


def get_fields(tensor: torch.Tensor) -> Fields | None:
    """What the numbers of a tensor see; None where they do not depend on the input."""
    fields: Fields | None = tensor.__dict__.get(_KEY)
    return fields


def forget_fields(tensor: torch.Tensor) -> None:
    """The numbers of a tensor no longer depend on the input."""
    tensor.__dict__.pop(_KEY, None)
