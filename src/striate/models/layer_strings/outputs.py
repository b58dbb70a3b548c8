"""Check that a layer string ends in the requested outputs, on its plan, before anything is built; free of torch."""

from __future__ import annotations

import math
from collections.abc import Iterator

from striate.models.input_shape import read_input_shape
from striate.models.layer_strings.fault import ROUNDS, Edit, Fault, apply, to_error
from striate.models.layer_strings.layer_string import read_layers, refuse_long
from striate.models.layer_strings.shapes import MAX_COUNTED, MAX_PARAMETERS, Block, Plan, Shape, Step, read_plan
from striate.models.layer_strings.spec import Item, Layer
from striate.wording import several, show_shape

_ACTIVATIONS = frozenset(("relu", "leaky", "prelu", "elu", "sigmoid", "tanh", "swish"))


def plan_outputs(
    text: str,
    input_shape: Shape,
    outputs: int | None,
    dense: bool,
    names: tuple[str, ...],
    most: int = MAX_PARAMETERS,
) -> Plan:
    """The plan of a layer string of at most `most` parameters with `outputs` outputs, or `outputs` channels at the
    input's size if `dense`; None accepts any output.

    Raises LayerStringError, whose remedy has the requested outputs too.
    """
    input_shape = read_input_shape(input_shape)
    refuse_long(text)

    def attempt(source: str) -> Plan:
        plan = read_plan(read_layers(source), input_shape, most)
        if outputs is not None:
            _check(source, plan, outputs, dense, names)
        return plan

    try:
        return attempt(text)
    except Fault as fault:
        # In a text that cannot be parsed, a fix may drop only the word at fault: without others, it is another network.
        raise to_error(text, fault, attempt, ROUNDS if _readable(text) else 1) from None


def _readable(text: str) -> bool:
    try:
        read_layers(text)
    except Fault:
        return False
    return True


def with_outputs(text: str, input_shape: Shape, outputs: int, dense: bool) -> str:
    """The layer string with `outputs` in its last layer with weights, or with a new last layer after maps where outputs
    are not `dense`; unchanged where it already has these outputs, or does not fit the input."""
    try:
        plan = read_plan(read_layers(text), input_shape, MAX_COUNTED)
    except Fault:
        return text
    last = _last_weighted(plan.steps)
    if len(plan.out_shape) > 1 and not dense:
        return f"{text} gap fc({outputs})"
    if last is None or plan.out_shape[0] == outputs:
        return text
    return apply(text, (_resized(last, plan.out_shape, outputs),))


def show_expected(outputs: int, input_shape: Shape, dense: bool, names: tuple[str, ...] = ()) -> str:
    """The requested output, in words."""
    listed = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
    why = f" (classes of the data: {listed})" if names else ""
    if dense:
        return (
            f"{show_shape((outputs, *input_shape[1:]))}: {several(outputs, 'channel')}{why} at every position "
            "of the input"
        )
    return f"{several(outputs, 'output')}{why}"


def _check(text: str, plan: Plan, outputs: int, dense: bool, names: tuple[str, ...]) -> None:
    wanted = (outputs, *plan.in_shape[1:]) if dense else (outputs,)
    if plan.out_shape == wanted:
        return
    last = _last_weighted(plan.steps)
    spatial_fits = len(plan.out_shape) == len(wanted) and plan.out_shape[1:] == wanted[1:]
    edits = [_resized(last, plan.out_shape, outputs)] if last and spatial_fits else []
    appended = _appended_dense(text, plan, wanted) if dense else _appended(text, outputs)
    got = (
        several(plan.out_shape[0], "output")
        if len(plan.out_shape) == 1
        else f"an output of {show_shape(plan.out_shape)}"
    )
    position = last.layer.position if last else max(0, len(text.rstrip()) - 1)
    # Behind an activation, a layer is a hidden one: its outputs would be scores that cannot be negative, or limited.
    fixes = [*appended, *edits] if last and _is_activated(last, plan.steps) else [*edits, *appended]
    raise Fault(position, got, show_expected(outputs, plan.in_shape, dense, names), *fixes)


def _last_weighted(steps: tuple[Step | Block, ...]) -> Step | None:
    for step in reversed(steps):
        if isinstance(step, Block):
            found = _last_weighted(step.steps)
            if found is not None:
                return found
        elif step.layer.word in ("fc", "conv", "local"):
            return step
    return None


def _is_activated(weighted: Step, steps: tuple[Step | Block, ...]) -> bool:
    """Whether an activation follows this step."""
    words = [step.layer.word for step in _leaves(steps) if step.layer.position > weighted.layer.position]
    return not _ACTIVATIONS.isdisjoint(words)


def _leaves(steps: tuple[Step | Block, ...]) -> Iterator[Step]:
    for step in steps:
        yield from _leaves(step.steps) if isinstance(step, Block) else (step,)


def _resized(step: Step, out_shape: Shape, outputs: int) -> Edit:
    # Maxout leaves fewer channels than the layer before it has.
    share = max(1, step.out_shape[0] // out_shape[0])
    name = "n" if step.layer.word == "fc" else "filters"
    return Edit(step.layer.position, step.layer.end, str(step.layer.changed(**{name: outputs * share})))


def _appended(text: str, outputs: int) -> list[Edit]:
    end = len(text)
    return [Edit(end, end, f" fc({outputs})"), Edit(end, end, f" gap fc({outputs})")]


def _appended_dense(text: str, plan: Plan, wanted: Shape) -> list[Edit | tuple[Edit, ...]]:
    end, got = len(text), plan.out_shape
    edits: list[Edit | tuple[Edit, ...]] = []
    if len(got) == len(wanted):
        pairs = list(zip(wanted[1:], got[1:], strict=True))
        if all(want % have == 0 for want, have in pairs):
            factors = [want // have for want, have in pairs]
            size = str(factors[0]) if len(set(factors)) == 1 else "x".join(map(str, factors))
            up = "" if math.prod(factors) == 1 else f" up({size})"
            edits.append(Edit(end, end, f"{up} conv({wanted[0]},1)"))
        keeping = _padded(read_layers(text).items)
        if keeping:
            edits.append(tuple(Edit(layer.position, layer.end, str(layer)) for layer in keeping))
    edits.append(Edit(0, end, f"conv(16,3,pad=same) relu conv({wanted[0]},1)"))
    return edits


def _padded(items: tuple[Item, ...]) -> list[Layer]:
    """Convolutions of stride 1 that shrink the map, with the padding that keeps its size."""
    found: list[Layer] = []
    for item in items:
        if not isinstance(item, Layer):
            found.extend(_padded(item.items))
        elif item.word in ("conv", "local") and item["stride"] == 1 and item["pad"] == 0 and item["kernel"] != 1:
            found.append(item.changed(pad="same"))
    return found
