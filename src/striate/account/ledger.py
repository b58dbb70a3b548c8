"""What a network costs and sees, layer by layer: the record that every rendering reads; free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from striate.records import Finding

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One leaf call, in the order of execution.

    `name` is the module's path (`layer1.0.conv1`), or, of a functional call, that of the module it happened in with
    the function's name (`block.max_pool2d`). `kind` is the word of layer strings where there is one, else the class
    name. Shapes are channels first, without the batch. `params` are counted where a parameter is used first.
    `macs`: multiply–accumulates of convolutions and matrix products; `other_ops`: all other arithmetic, in operations.
    Per spatial axis, for one unit of the output: `receptive_field` and `jump` (the distance between the receptive
    fields of neighbors; 0 where there is one position only, a fraction after upsampling) in input pixels, `center`
    the middle of the first unit's field, 0 being the middle of the first pixel; of all that the unit depends on,
    through normalization too. `leftover`: how many positions of the layer's input no window covers. Bytes are of one
    sample: `weight_bytes` of parameters, `output_bytes` of the output, `saved_bytes` of what autograd keeps for the
    backward pass.
    """

    name: str
    kind: str
    in_shape: Shape
    out_shape: Shape
    params: int = 0
    trainable: int = 0
    macs: int = 0
    other_ops: int = 0
    receptive_field: Shape = ()
    jump: tuple[float, ...] = ()
    center: tuple[float, ...] = ()
    leftover: Shape = ()
    weight_bytes: int = 0
    output_bytes: int = 0
    saved_bytes: int = 0
    executed: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    """kernel, stride, padding, dilation (one an axis), groups, bias, channels: what the layer has of these."""
    inputs: tuple[int, ...] = ()
    """The places of the rows whose outputs it takes, through sums and concatenations; −1: the network's input."""
    sees_all: bool = False
    """Whether all units of a map with neighbors see the same: a mean over the map is in each of them."""

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: FLOPs for each byte of input, output and weights that is moved."""
        moved = self.weight_bytes + self.output_bytes + self.input_bytes
        return (2 * self.macs + self.other_ops) / moved if moved else 0.0

    @property
    def input_bytes(self) -> int:
        """Bytes of the input, in the data type of the output."""
        count, size = 1, 1
        for side in self.in_shape:
            count *= side
        for side in self.out_shape:
            size *= side
        return count * self.output_bytes // size if size else 0


def last_map(rows: Sequence[Row], axes: int) -> Row | None:
    """The last of the rows that gives a map with `axes` spatial axes whose positions have neighbors, if one does: what
    is flattened is no map."""
    maps = [row for row in rows if row.executed and len(row.out_shape) == axes + 1 and any(row.jump)]
    return maps[-1] if axes and maps else None


@dataclass(frozen=True)
class Ledger:
    """The account of one network for one input of `input` (channels first, without the batch), in eval mode.

    `receptive_field`, `jump`: of one unit of the last feature map that still has neighbors, as published tables give
    them. `activation_bytes`: all outputs of a sample; `training_bytes`: what autograd keeps of one;
    `inference_bytes`: the most that is alive at one time, input included. `weight_bytes`: parameters and buffers;
    `optimizer_bytes`: parameters, gradients and the state of an optimizer, by its name.
    `other_ops`: operations outside convolutions and matrix products, by function; `uncounted`: what was executed and
    could not be counted, with the place. `real_pass`: why shapes were found in a pass with numbers, on zeros; empty
    where none was needed. `remarks`: what a teacher would say.
    """

    model: str
    input: Shape
    output: Shape
    rows: tuple[Row, ...]
    params: int
    trainable: int
    macs: int
    receptive_field: Shape
    jump: tuple[float, ...]
    activation_bytes: int
    training_bytes: int
    inference_bytes: int
    weight_bytes: int
    optimizer_bytes: dict[str, int]
    other_ops: dict[str, int]
    uncounted: tuple[str, ...]
    real_pass: str = ""
    remarks: tuple[Finding, ...] = ()
    effective_receptive_field: tuple[float, ...] | None = None

    @property
    def flops(self) -> int:
        """Floating-point operations of convolutions and matrix products: 2 for each multiply–accumulate."""
        return 2 * self.macs

    def to_json(self) -> dict[str, Any]:
        """The ledger as a JSON object. Receptive field and jump are one number where all axes agree, as in layer
        strings, else one an axis."""
        values = asdict(self) | {"flops": self.flops}
        for part in (values, *values["rows"]):
            for key in ("receptive_field", "jump"):
                part[key] = one_or_each(tuple(part[key]))
        return values

    def _repr_html_(self) -> str:
        from striate.account.notebook import notebook_ledger

        return notebook_ledger(self)

    def __str__(self) -> str:
        from striate.account.table import ledger_table

        return ledger_table(self)


def one_or_each(sizes: tuple[float, ...]) -> float | list[float]:
    """`3` for (3, 3), `[3, 5]` for (3, 5), 0 for ()."""
    return (sizes[0] if sizes else 0) if len(set(sizes)) <= 1 else list(sizes)
