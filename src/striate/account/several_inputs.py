"""A network of several inputs as a network of its first input, as the ledger needs it; the other inputs are zeros."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from striate.account.ledger import Ledger, Shape
from striate.errors import ModelError
from striate.models.input_shape import read_input_shape
from striate.models.layer_strings.arguments import nearest
from striate.wording import listed

One = Sequence[int] | torch.Tensor
"""The shape of an input without the batch; or an example tensor with the batch, whose data type is used."""
Inputs = Sequence[int] | Sequence[One] | Mapping[str, One]
"""One input; or several, in the order of the arguments of `forward` or by argument name."""
_EXAMPLE = '{"image": (3, 32, 32), "age": (1,)}, or ((3, 32, 32), (1,))'


@dataclass(frozen=True)
class SeveralInputs:
    """Shapes without the batch, and data types where they are known, by position (from 0) or name of the argument."""

    shapes: Mapping[int | str, Shape]
    formats: Mapping[int | str, torch.dtype]

    @property
    def shape(self) -> Shape:
        """The shape of the first input."""
        return next(iter(self.shapes.values()))


def several(inputs: object) -> SeveralInputs | None:
    """The inputs, if they are several; None for a single shape and for None. Raises ModelError for an invalid shape."""
    if isinstance(inputs, Mapping):
        given: dict[int | str, Any] = dict(inputs)
    elif isinstance(inputs, tuple | list) and any(isinstance(one, tuple | list | torch.Tensor) for one in inputs):
        given = dict(enumerate(inputs))
    else:
        return None
    if not given or not all(isinstance(name, int | str) for name in given):
        got = f"a mapping from {', '.join(map(repr, given)) or 'nothing'}"
        raise ModelError("input shape", got, "the names of the arguments of forward", _EXAMPLE)
    examples = {name: one for name, one in given.items() if isinstance(one, torch.Tensor)}
    shapes = {name: tuple(one.shape[1:]) if name in examples else one for name, one in given.items()}
    return SeveralInputs(
        {name: read_input_shape(shape) for name, shape in shapes.items()},
        {name: one.dtype for name, one in examples.items()},
    )


def check_names(network: nn.Module, inputs: SeveralInputs) -> None:
    """Raise ModelError where inputs have names and the network's forward has other arguments, or requires more."""
    given = {name: shape for name, shape in inputs.shapes.items() if isinstance(name, str)}
    try:
        parameters = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):
        return
    if len(given) < len(inputs.shapes) or any(p.kind in (p.VAR_KEYWORD, p.POSITIONAL_ONLY) for p in parameters):
        return
    named = [p for p in parameters if p.kind is not p.VAR_POSITIONAL]
    known = {p.name for p in named}
    missing = [p.name for p in named if p.default is p.empty and p.name not in given]
    unknown = [name for name in given if name not in known]
    if unknown or missing:
        renamed = {name: shape for name, shape in given.items() if name in known}
        for name in unknown:
            free = [other for other in (*missing, *known) if other not in renamed]
            renamed |= {meant: given[name] for meant in (nearest(name, free) or next(iter(missing), ""),) if meant}
        shapes = [f'"{name}": {renamed.get(name, (1,))}' for name in dict.fromkeys((*renamed, *missing))]
        raise ModelError(
            type(network).__name__,
            f"inputs by the names {listed(list(given))}",
            f"inputs by the names of its forward: {listed([p.name for p in named])}",
            f"{{{', '.join(shapes)}}}",
        )


class FirstInputNetwork(nn.Module):
    """`network` as a function of its first input (N, …)."""

    def __init__(self, network: nn.Module, inputs: SeveralInputs) -> None:
        super().__init__()
        self.network, self.inputs = network, inputs

    def forward(self, x: torch.Tensor) -> Any:
        """The network's output for `x` as its first input and zeros as the others."""
        shapes, formats = self.inputs.shapes, self.inputs.formats
        first, *others = shapes
        given = {first: x.to(formats[first]) if first in formats else x}
        given |= {name: x.new_zeros((len(x), *shapes[name]), dtype=formats.get(name, x.dtype)) for name in others}
        named = {name: value for name, value in given.items() if isinstance(name, str)}
        return self.network(*(value for name, value in given.items() if isinstance(name, int)), **named)

    def ledger_of_network(self, ledger: Ledger) -> Ledger:
        """From the ledger of this wrapper to that of the network itself, with its other inputs."""
        kind, (_, *others) = type(self.network).__name__, self.inputs.shapes.items()
        names = (kind if row.name == "network" else row.name.removeprefix("network.") for row in ledger.rows)
        rows = tuple(replace(row, name=name) for row, name in zip(ledger.rows, names, strict=True))
        return replace(ledger, model=kind, rows=rows, other_inputs={str(name): shape for name, shape in others})
