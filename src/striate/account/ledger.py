"""The ledger of a network, its cost and receptive fields layer by layer: record, text table and HTML; free of torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from striate import notebook
from striate.account.table import WIDTH, hanging, laid_out
from striate.records import Finding
from striate.wording import listed, percent_of, scaled, several, shorten_middle, show_shape, show_sizes, size_in_bytes

_KIND = 9
"""Least number of letters of a layer's kind in a table that is too wide."""
_SIDES = ("left", "left", "left", "right", "right", "right", "right", "right")
_GAPS = (2, 2, 2, 1, 2, 1, 2)  # a percentage stands close to its count

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One call of a layer or function. Shapes are channels first, without the batch; bytes are of one sample; tuples
    have one number for each spatial axis."""

    name: str
    """Path of the module (`layer1.0.conv1`); of a function, the path of the module that calls it and the function's
    name (`block.max_pool2d`)."""
    kind: str
    """The layer's word in layer strings where there is one, else its class name."""
    in_shape: Shape
    out_shape: Shape
    params: int = 0
    """Number of parameters; a shared parameter counts in the row that uses it first."""
    trainable: int = 0
    """Number of these that are trained."""
    macs: int = 0
    """Multiply–accumulates of convolutions and matrix products."""
    other_ops: int = 0
    """All other arithmetic, in operations."""
    receptive_field: Shape = ()
    """Input pixels that one unit of the output depends on, also through normalization."""
    jump: tuple[float, ...] = ()
    """Distance between the receptive fields of neighbors in input pixels: 0 where there is only one position or all
    units have the same field, a fraction after upsampling, negative where the map is mirrored."""
    center: tuple[float, ...] = ()
    """Center of the first unit's receptive field in input pixels; 0 is the center of the first pixel."""
    leftover: Shape = ()
    """Number of positions of the layer's input that no window covers."""
    weight_bytes: int = 0
    """Bytes of the parameters."""
    output_bytes: int = 0
    """Bytes of the output."""
    saved_bytes: int = 0
    """Bytes that autograd saves for the backward pass."""
    executed: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    """Those of kernel, stride, padding, dilation (one number for each axis), groups, bias, channels that it has."""
    inputs: tuple[int, ...] = ()
    """Indices of the rows whose outputs it takes, through sums and concatenations; −1: the network's input."""
    sees_all: bool = False
    """Whether all units of a map with several positions have the same field, as after a mean over the map."""
    whole_axes: tuple[bool, ...] = ()
    """For each axis of a map, whether all positions along it have the same field."""

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
    """The last row whose output is a map with `axes` spatial axes and more than one position; None if there is none.
    A flattened map does not count. The output of windows does, even where all its positions have the same field."""
    maps = [
        row
        for row in rows
        if row.executed
        and len(row.out_shape) == axes + 1
        and (any(row.jump) or ("kernel" in row.settings and max(row.out_shape[1:], default=1) > 1))
    ]
    return maps[-1] if axes and maps else None


@dataclass(frozen=True)
class Ledger:
    """Cost and receptive fields of one network for one input, in eval mode."""

    model: str
    input: Shape
    """Shape of the input: channels first, without the batch."""
    output: Shape
    rows: tuple[Row, ...]
    params: int
    trainable: int
    macs: int
    receptive_field: Shape
    """Receptive field of a unit of the last feature map with more than one position, as published tables state it."""
    jump: tuple[float, ...]
    """Distance between the receptive fields of neighbors in that map, in input pixels."""
    activation_bytes: int
    """Bytes of all outputs for one sample."""
    training_bytes: int
    """Bytes that autograd saves for one sample."""
    inference_bytes: int
    """Peak bytes of the tensors that are alive at one time for one sample, input included."""
    weight_bytes: int
    """Bytes of parameters and buffers."""
    optimizer_bytes: dict[str, int]
    """Bytes of parameters, buffers, gradients and optimizer state, by the optimizer's name; gradients and state are
    those of the trained parameters alone."""
    other_ops: dict[str, int]
    """Operations outside of convolutions and matrix products, by function."""
    uncounted: tuple[str, ...]
    """Operations that ran and could not be counted, each with the module that called it."""
    real_pass: str = ""
    """Why the pass needed real numbers (zeros); empty where shapes alone sufficed."""
    remarks: tuple[Finding, ...] = ()
    """Remarks on the network, warnings first."""
    effective_receptive_field: tuple[float, ...] | None = None
    other_inputs: dict[str, Shape] = field(default_factory=dict)
    """Shapes of the inputs after `input`, by name or position, for a network with several; these are zeros. Receptive
    fields are in `input`."""
    other_outputs: dict[str, Shape] = field(default_factory=dict)
    """Shapes of the outputs after `output`, by key or position, for a network with several."""

    @property
    def all_inputs(self) -> str:
        """The shapes of all inputs as text."""
        return " and ".join(show_shape(shape) for shape in (self.input, *self.other_inputs.values()))

    @property
    def all_outputs(self) -> str:
        """The shapes of all outputs as text."""
        return listed([show_shape(shape) for shape in (self.output, *self.other_outputs.values())], 8)

    @property
    def flops(self) -> int:
        """Floating-point operations of convolutions and matrix products: 2 for each multiply–accumulate."""
        return 2 * self.macs

    def to_json(self) -> dict[str, Any]:
        """The ledger as a JSON object. Receptive field and jump are one number where all axes agree, as in layer
        strings, else a list with one for each axis."""
        values = asdict(self) | {"flops": self.flops}
        for part in (values, *values["rows"]):
            for key in ("receptive_field", "jump"):
                part[key] = one_or_each(tuple(part[key]))
        return values

    def _repr_html_(self) -> str:
        return _notebook_page(self)

    def __str__(self) -> str:
        return ledger_table(self)


def one_or_each(sizes: tuple[float, ...]) -> float | list[float]:
    """`3` for (3, 3), `[3, 5]` for (3, 5), 0 for ()."""
    return (sizes[0] if sizes else 0) if len(set(sizes)) <= 1 else list(sizes)


@dataclass(frozen=True)
class Line:
    """One line of the table: a layer, or a module with all its layers."""

    name: str
    kind: str
    out_shape: tuple[int, ...]
    params: int
    macs: int
    receptive_field: tuple[int, ...]
    executed: bool = True


def ledger_table(ledger: Ledger, width: int = WIDTH, *, depth: int | None = None, remarks: bool = True) -> str:
    """The ledger as text of at most `width` columns: one line for each layer, totals, and remarks.

    `depth`: layers whose paths agree in the first `depth` parts are added up (1: `layer1`, `layer2`, …).
    """
    heads = ("layer", "kind", "output", "parameters", "%", "MACs", "%", "field")
    cells = [_cells(line, ledger) for line in group_rows(ledger.rows, depth)]
    total = ("total", "", "", f"{ledger.params:,}", "", scaled(ledger.macs), "", "")
    table = laid_out(_with_short_kinds([heads, *cells, total], width), _SIDES, width, _GAPS)
    *above, last = table.split("\n")
    parts = [*above, above[1], last, "", *totals(ledger, width)]
    if remarks and ledger.remarks:
        parts += ["", *_remarks(ledger, width)]
    return "\n".join(parts)


def group_rows(rows: Sequence[Row], depth: int | None) -> list[Line]:
    """The rows as lines; rows whose paths agree in the first `depth` parts become one line. None: a line for each row.

    A module's line has the shape of its output and the largest receptive field in it.
    """
    groups: dict[str, list[Row]] = {}
    for index, row in enumerate(rows):
        key = f"{index}" if depth is None else ".".join(row.name.split(".")[:depth])
        groups.setdefault(key, []).append(row)
    firsts = [next((row for row in members if row.executed), None) for members in groups.values()]
    lines = []
    for (key, members), following in zip(groups.items(), [*firsts[1:], None], strict=False):
        ran = [row for row in members if row.executed] or members
        alone = len(members) == 1
        lines.append(
            Line(
                members[0].name if alone or depth is None else key,
                ran[-1].kind if alone else several(len(members), "layer"),
                module_output(ran, following),
                sum(row.params for row in members),
                sum(row.macs for row in members),
                _widest(ran),
                any(row.executed for row in members),
            )
        )
    return lines


def module_output(rows: Sequence[Row], following: Row | None) -> Shape:
    """The output shape of a module with these layers: that of its last layer or, where branches meet in it, the input
    shape of the layer that runs after it."""
    last = rows[-1].out_shape
    branches = any(before.out_shape != after.in_shape for before, after in pairwise(rows))
    return following.in_shape if branches and following and following.in_shape[1:] == last[1:] else last


def _widest(rows: Sequence[Row]) -> Shape:
    """The receptive field of the last layer, or of a branch with a larger one."""
    fields = [row.receptive_field for row in rows if len(row.receptive_field) == len(rows[-1].receptive_field)]
    return tuple(max(sides) for sides in zip(*fields, strict=True))


def totals(ledger: Ledger, width: int = WIDTH) -> list[str]:
    """The totals with their units in words, one paragraph each, wrapped to `width` columns."""
    field, jump = show_shape(ledger.receptive_field), show_sizes(ledger.jump)
    optimizers = ", ".join(f"{name} {size_in_bytes(count)}" for name, count in ledger.optimizer_bytes.items())
    facts = [
        ("network", f"{ledger.model}: {ledger.all_inputs} → {ledger.all_outputs}"),
        ("parameters", f"{ledger.params:,}, {ledger.trainable:,} of them trainable"),
        ("MACs", f"{ledger.macs:,} multiply–accumulates of convolutions and matrix products, biases excluded"),
        ("FLOPs", f"{ledger.flops:,} = 2 × MACs; plus {scaled(sum(ledger.other_ops.values()))} other operations"),
        ("weights", f"{size_in_bytes(ledger.weight_bytes)}; in training, with gradients and optimizer: {optimizers}"),
        (
            "one sample",
            f"activations {size_in_bytes(ledger.activation_bytes)}; training saves "
            f"{size_in_bytes(ledger.training_bytes)} for the backward pass; "
            f"inference needs {size_in_bytes(ledger.inference_bytes)} at its peak",
        ),
        (
            "field",
            f"a unit of the last map sees {field} input positions; "
            + (
                f"neighboring units are {jump} position{'s' * (jump != '1')} apart"
                if any(ledger.jump)
                else "all the same"
            )
            if any(ledger.jump) or last_map(ledger.rows, len(ledger.input) - 1)
            else "",
        ),
        ("effective", _effective(ledger)),
        ("uncounted", "; ".join(ledger.uncounted) or "nothing"),
    ]
    return [line for name, text in facts if text for line in hanging(name, text, 12, width)]


def _effective(ledger: Ledger) -> str:
    if ledger.effective_receptive_field is None:
        return ""
    size = show_shape([round(side) for side in ledger.effective_receptive_field])
    return f"the central {size} have 95.45 % of the gradient of the unit (measured)"


def _cells(line: Line, ledger: Ledger) -> tuple[str, ...]:
    return (
        line.name,
        line.kind if line.executed else "not run",
        show_shape(line.out_shape),
        f"{line.params:,}",
        percent_of(line.params, ledger.params),
        scaled(line.macs) if line.macs else "–",
        percent_of(line.macs, ledger.macs),
        show_sizes(line.receptive_field),
    )


def _with_short_kinds(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """The rows with kinds shortened as far as the width requires; names stay complete, as they say more."""
    wide = [max(len(row[column]) for row in rows) for column in range(len(_SIDES))]
    room = max(_KIND, width - sum(_GAPS) - sum(wide) + wide[1])
    return [[row[0], shorten_middle(row[1], room), *row[2:]] for row in rows]


def _remarks(ledger: Ledger, width: int) -> list[str]:
    lines = []
    for remark in ledger.remarks:
        text = f"{remark.where}: {remark.measured}. {remark.why} {remark.remedy}"
        lines += hanging(remark.severity, text, 9, width)
    return lines


SHORT_COLUMNS = ("layer", "kind", "output", "parameters", "MACs", "receptive field")


def short_rows(ledger: Ledger) -> Iterator[tuple[str | int, ...]]:
    """The cells under `SHORT_COLUMNS` for each layer."""
    for row in ledger.rows:
        kind = row.kind if row.executed else f"{row.kind}, not run"
        field = show_sizes(row.receptive_field)
        yield row.name, kind, show_shape(row.out_shape), row.params, row.macs, field


def _notebook_page(ledger: Ledger) -> str:
    """Totals, a table with one row for each layer, and the remarks, as HTML."""
    facts = (tuple(part.strip() for part in line.strip().partition("  ")[::2]) for line in totals(ledger, 10_000))
    return notebook.page(
        f"{ledger.model} on {ledger.all_inputs}",
        notebook.items(f"{name}: {said}" for name, said in facts),
        notebook.table(SHORT_COLUMNS, short_rows(ledger)),
        *(remark._repr_html_() for remark in ledger.remarks),
    )
