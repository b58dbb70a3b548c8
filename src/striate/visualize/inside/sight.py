"""Where in the image a unit looks: the theoretical receptive field of each layer's units, in pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

from striate.account.ledger import Row, Shape
from striate.account.summarize import observe
from striate.errors import ModelError


@dataclass(frozen=True)
class Sight:
    """Of a layer: `size` of the receptive field, `center` of the first unit's (0 is the middle of the first pixel) and
    `jump` from one unit to the next, along each axis; `input`: the sides of the input. Not cut at the border."""

    size: Shape
    center: tuple[float, ...]
    jump: tuple[float, ...]
    input: Shape

    @property
    def whole(self) -> bool:
        """Whether some unit may see more than the whole input along some axis."""
        return any(size >= side for size, side in zip(self.size, self.input, strict=True))

    def box(self, position: Shape) -> tuple[tuple[int, int], ...]:
        """First pixel and number of pixels along each axis that the unit at `position` sees; first may lie before 0.
        Of a field as large as the input along an axis, the input."""
        found = []
        places = position if len(position) == len(self.input) else (0,) * len(self.input)
        for size, center, jump, side, place in zip(self.size, self.center, self.jump, self.input, places, strict=True):
            first = round(center + jump * place - (size - 1) / 2)
            found.append((first, size) if size < side else (0, side))
        return tuple(found)


def find_sights(module: nn.Module, input_shape: Shape) -> dict[str, Sight]:
    """For each layer by its name, as `layer_outputs` names them, where its units look; layers whose units have no
    positions see the whole input. Raises ModelError where the network does not take the input."""
    sides = tuple(input_shape[1:])
    times: dict[str, int] = {}
    found = {}
    for row in observe(module, input_shape).rows:
        count = times[row.name] = times.get(row.name, 0) + 1
        found[row.name if count == 1 else f"{row.name} ({count})"] = _sight(row, sides)
    return found


def sight_of(sights: dict[str, Sight], name: str) -> Sight:
    """That of a layer; of a module that holds others, of its last one. ModelError where it is not known."""
    if name in sights:
        return sights[name]
    # A residual sum is computed in a module that has no row of its own, only its addition has.
    base = re.sub(r" \(\d+\)$", "", name)
    inside = [sight for known, sight in sights.items() if known.startswith(f"{base}.")]
    if inside:
        return inside[-1]
    got = "a layer whose receptive field is not known"
    raise ModelError(f"layer {name}", got, "one that striate summary lists", "name another layer: --layer NAME")


def _sight(row: Row, sides: Shape) -> Sight:
    if len(row.receptive_field) != len(sides) or len(row.out_shape) != len(sides) + 1 or row.sees_all:
        return Sight(sides, tuple((side - 1) / 2 for side in sides), (0.0,) * len(sides), sides)
    return Sight(row.receptive_field, row.center, row.jump, sides)
