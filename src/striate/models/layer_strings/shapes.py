"""From layers and input shape to a plan: each layer with its shapes, or a Fault with the arithmetic; free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from striate.models.input_shape import MAX_ACTIVATIONS, read_input_shape
from striate.models.layer_strings.fault import Edit, Fault, to_error
from striate.models.layer_strings.fits import fit_layer
from striate.models.layer_strings.layer_string import read_layers
from striate.models.layer_strings.mirror import code_of, mirrored
from striate.models.layer_strings.spec import Item, Layer, Network, Repeat, Residual
from striate.wording import several, show_shape

Shape = tuple[int, ...]

# A network that is built takes 4 GB at this size, a training of it several times as much; counting takes no memory.
MAX_PARAMETERS = 10**9
MAX_COUNTED = 10**14


@dataclass(frozen=True)
class Step:
    """One layer of the plan; shapes are without the batch: (C, *spatial) or (F,)."""

    layer: Layer
    in_shape: Shape
    out_shape: Shape


@dataclass(frozen=True)
class Block:
    """A residual block. `strides` has those of the 1×1 projection of its shortcut, one for each axis; () for a linear
    projection of a vector; None where shapes agree and the shortcut is the identity."""

    steps: tuple[Step | Block, ...]
    strides: tuple[int, ...] | None
    in_shape: Shape
    out_shape: Shape


@dataclass(frozen=True)
class Plan:
    """A network as it will be built, with repetitions expanded and a flatten inserted before `fc`."""

    steps: tuple[Step | Block, ...]
    in_shape: Shape
    out_shape: Shape


def plan_network(network: Network, input_shape: Shape, most: int = MAX_PARAMETERS) -> Plan:
    """The plan of a network of at most `most` parameters for one input (C, L), (C, H, W), (C, D, H, W) or (F,).

    Raises LayerStringError at the layer that does not fit, with the arithmetic and a tested remedy; ModelError for any
    other shape.
    """
    input_shape = read_input_shape(input_shape)
    if not network.text:
        network = read_layers(str(network))
    try:
        return read_plan(network, input_shape, most)
    except Fault as fault:
        raise to_error(network.text, fault, lambda text: read_plan(read_layers(text), input_shape, most)) from None


def read_plan(network: Network, input_shape: Shape, most: int = MAX_PARAMETERS) -> Plan:
    """Like `plan_network`, raising the bare Fault."""
    planner = _Planner(network.text, most)
    code, ends = code_of(network)
    steps, out_shape = planner.items(network.items, input_shape)
    if code is not None and ends:
        more, out_shape = planner.items(mirrored(_plain(steps), code), out_shape)
        steps += more
    return Plan(steps, input_shape, out_shape)


def _plain(steps: tuple[Step | Block, ...]) -> list[tuple[Layer, Shape, Shape]]:
    """Steps with their shapes; Fault for a residual block, which no decoder mirrors."""
    for step in steps:
        if isinstance(step, Block):
            first: Step | Block = step
            while isinstance(first, Block):
                first = first.steps[0]
            expected = "layers that can be mirrored; or your own decoder after the code"
            raise Fault(first.layer.position, "a residual block before a code that ends the network", expected)
    return [(step.layer, step.in_shape, step.out_shape) for step in steps if isinstance(step, Step)]


class _Planner:
    """Follows the shape through the items, and counts parameters, so that no network with more than `most` is built."""

    def __init__(self, text: str, most: int) -> None:
        self.text, self.parameters, self.most = text, 0, most
        self.widest: Step | None = None

    def items(self, items: tuple[Item, ...], shape: Shape) -> tuple[tuple[Step | Block, ...], Shape]:
        steps: list[Step | Block] = []
        for item in items:
            if isinstance(item, Repeat):
                for number in range(item.count):
                    inner, shape = self._repetition(item, number, shape)
                    steps.extend(inner)
            elif isinstance(item, Residual):
                block = self._block(item, shape)
                steps.append(block)
                shape = block.out_shape
            else:
                if item.word in ("fc", "code") and len(shape) > 1:
                    flat = (math.prod(shape),)
                    steps.append(Step(Layer("flatten", (), item.position, item.end), shape, flat))
                    shape = flat
                step = self._step(item, shape)
                steps.append(step)
                shape = step.out_shape
        return tuple(steps), shape

    def _repetition(self, item: Repeat, number: int, shape: Shape) -> tuple[tuple[Step | Block, ...], Shape]:
        try:
            return self.items(item.items, shape)
        except Fault as fault:
            if number == 0:
                raise
            count_end = self.text.index("*", item.position)
            # Fewer than just fit, too: what comes after may need the room.
            fewer = sorted({number, max(1, number // 2), min(number, 2), 1})
            for count in fewer:
                fault = fault.preceded_by(Edit(item.position, count_end, str(count)))
            raise fault from None

    def _step(self, layer: Layer, shape: Shape) -> Step:
        out_shape, widest = fit_layer(layer, shape), self.widest
        self.parameters += count_parameters(layer, shape, out_shape)
        if math.prod(out_shape) > MAX_ACTIVATIONS:
            got = f"`{layer}` gives {show_shape(out_shape)} = {several(math.prod(out_shape), 'value')} a sample"
            raise Fault(layer.position, got, f"at most {MAX_ACTIVATIONS}", *_smaller(layer))
        if self.parameters > self.most:
            # A small layer after a wide one is not at fault.
            before = _smaller(widest.layer) if widest else []
            got = f"{several(self.parameters, 'parameter')} up to and with `{layer}`"
            built = "built; `striate summary` counts larger ones" if self.most == MAX_PARAMETERS else "counted"
            expected = f"at most {self.most} in a layer string that is {built}"
            raise Fault(layer.position, got, expected, *_smaller(layer), *before, *_sharing(layer))
        step = Step(layer, shape, out_shape)
        if _smaller(layer) and (widest is None or math.prod(out_shape) > math.prod(widest.out_shape)):
            self.widest = step
        return step

    def _block(self, item: Residual, shape: Shape) -> Block:
        steps, out_shape = self.items(item.items, shape)
        if out_shape == shape:
            return Block(steps, None, shape, out_shape)
        if len(out_shape) == len(shape):
            strides = tuple(_stride(size, out) for size, out in zip(shape[1:], out_shape[1:], strict=True))
            if None not in strides:
                self.parameters += shape[0] * out_shape[0]
                return Block(steps, tuple(s for s in strides if s is not None), shape, out_shape)
        raise self._misfit(item, shape, out_shape)

    def _misfit(self, item: Residual, shape: Shape, out_shape: Shape) -> Fault:
        opened = Edit(item.position, self.text.index("[", item.position) + 1, " ")
        unwrapped = (opened, Edit(item.end - 1, item.end, " "))
        got = f"a block that makes {show_shape(out_shape)} of {show_shape(shape)}"
        if len(out_shape) != len(shape):
            expected = "an output of the form of the input, to which it is added: both maps or both vectors"
            flat = Edit(item.position, item.position, "flatten ")
            return Fault(item.position, got, expected, flat, unwrapped)
        axis = next(i for i in range(1, len(shape)) if _stride(shape[i], out_shape[i]) is None)
        size, out = shape[axis], out_shape[axis]
        if out > size:
            reason = f"{out} is larger than {size}"
        else:
            below = (size - 1) // max(1, (size - 1) // out)
            reason = f"strides give {size}, {(size - 1) // 2 + 1}, … and none gives {out}" if below else ""
        expected = f"the same size, or (size − 1)//stride + 1 for the 1×1 projection of the shortcut: {reason}"
        keeping = tuple(Edit(la.position, la.end, str(la)) for la in _keeping_sizes(item.items))
        one_by_one = tuple((edit,) for edit in keeping)
        return Fault(item.position, got, expected, *([keeping] if keeping else []), *one_by_one, unwrapped)


def count_parameters(layer: Layer, shape: Shape, out_shape: Shape) -> int:
    """Trainable parameters of one layer."""
    if layer.word == "code":
        return out_shape[0] * (shape[0] + 1)
    if layer.tied:
        return out_shape[0]
    if layer.word == "fc":
        return out_shape[0] * (shape[0] + bool(layer["bias"]))
    if layer.word in ("conv", "local"):
        kernel = layer["kernel"]
        window = math.prod(kernel) if isinstance(kernel, tuple) else int(kernel or 1) ** (len(shape) - 1)
        groups = int(layer["groups"] or 1) if layer.word == "conv" else 1  # type: ignore[arg-type]
        one = out_shape[0] * (shape[0] // groups * window + bool(layer["bias"]))
        return one * (math.prod(out_shape[1:]) if layer.word == "local" else 1)
    if layer.word in ("bn", "gn", "ln"):
        return 2 * shape[0]
    return int(layer.word == "prelu")


def _stride(size: int, out: int) -> int | None:
    """The smallest stride with which a 1×1 window turns `size` positions into `out`; None if there is none."""
    if out == size:
        return 1
    if out > size or out < 1:
        return None
    stride = -(-size // out)
    return stride if (size - 1) // stride + 1 == out else None


def _keeping_sizes(items: tuple[Item, ...]) -> list[Layer]:
    """The layers of a block with the padding that keeps the size (or divides it by the stride)."""
    found: list[Layer] = []
    for item in items:
        if not isinstance(item, Layer):
            found.extend(_keeping_sizes(item.items))
        elif item.word in ("conv", "local"):
            kernel = item["kernel"]
            if item["stride"] == 1:
                found.append(item.changed(pad="same"))
            elif isinstance(kernel, int):
                found.append(item.changed(pad=kernel // 2))
        elif item.word in ("pool", "avgpool", "l2pool") and isinstance(size := item["size"], int):
            found.append(item.changed(pad=size // 2))
    return found


def _smaller(layer: Layer) -> list[Edit]:
    """Ways to make a layer small enough, the mildest first."""
    least = {"filters": 1, "kernel": 1, "pad": 0}
    small: dict[str, tuple[dict[str, int], ...]] = {
        "fc": ({"n": 10}, {"n": 1}),
        "conv": ({"filters": 16}, {"filters": 16, "kernel": 3, "pad": 0, "dilation": 1}, least),
        "local": ({"filters": 4}, {"filters": 4, "kernel": 3, "pad": 0}, least),
        "up": ({"factor": 2}, {"factor": 1}),
    }
    tries = [layer.changed(**values) for values in small.get(layer.word, ())]
    return [Edit(layer.position, layer.end, str(changed)) for changed in tries]


def _sharing(layer: Layer) -> list[Edit]:
    """The change to a convolution, with one kernel for all positions, if no size of this layer is small enough."""
    if layer.word != "local":
        return []
    return [Edit(layer.position, layer.end, str(Layer("conv", layer.arguments)))]
