"""`data.scrambled` within the network: `view` and `reshape` where axes should be exchanged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from torch.utils.data import DataLoader

from striate.doctor.checks.check import Check
from striate.doctor.evidence.call_graph import INPUT, Call, CallGraph
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import leaves
from striate.models.preserved_state import same_random_state
from striate.observe.torch_calls import function_name, torch_functions
from striate.records import Finding

_READ_ANEW = ("view", "reshape", "view_as", "reshape_as")
_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
_ITEMS = 4
_LAST_TWO = ("as if this exchanged the last two axes", "x.transpose(1, 2)")
Shape = tuple[int, ...]


def _run(evidence: Evidence) -> Iterator[Finding]:
    for call in evidence.graph.calls:
        if call.name not in _READ_ANEW or not call.input_shapes:
            continue
        made_of = evidence.graph.origin(call.inputs[0]) if call.inputs else None
        if not call.from_batch and (made_of is None or made_of.name != "one_hot"):
            continue
        way = exchanged_by_reading(call.input_shapes[0], call.shape)
        if way is None and _are_exchanged(call.input_shapes[0], call.shape) and _are_maps(evidence.graph, call):
            way = _LAST_TWO
        if way is None and any(head.call.inputs[:1] == (call.index,) for head in evidence.graph.heads):
            way = _of_scores(call.input_shapes[0], call.shape)
        if way is None and _are_channels(evidence.graph, call):
            way = _put_first(call.input_shapes[0], call.shape)
        if way is not None:
            yield _finding(call.name, call.place, call.input_shapes[0], call.shape, way)
            return
    yield from _in_loader(evidence.setup.train)


def _are_maps(graph: CallGraph, call: Call) -> bool:
    """Whether a call changes feature maps: channels and positions that only elementwise functions, pooling and the like
    follow after a convolution."""
    at = call.inputs[0] if call.inputs else INPUT
    while at != INPUT and graph.calls[at].name not in _CONVOLUTIONS:
        if graph.calls[at].parameters or len(graph.calls[at].inputs) != 1:
            return False
        at = graph.calls[at].inputs[0]
    return at != INPUT


def _are_channels(graph: CallGraph, call: Call) -> bool:
    """Whether a convolution uses the second axis of a call's output as channels, with no weights before the call."""
    before = graph.ancestors(call.index)
    learned = (
        one.index for one in graph.weights if one.parameters or one.output_requires_grad
    )  # weights, not a fixed rotation
    if any(index in before for index in learned):
        return False  # learned channels may be split into positions
    awaiting = [call.index]
    for at in awaiting:
        behind = [graph.calls[index] for index in graph.consumers[at]]
        if any(one.name in _CONVOLUTIONS and one.inputs[0] == at for one in behind):
            return True
        same = (one.index for one in behind if one.shape == call.shape and not graph.is_weights(one))
        awaiting += [index for index in same if index not in awaiting]
    return False


def _in_loader(train: Any) -> Iterator[Finding]:
    """A collate function that reads stacked rows (N, T, C) as (N, C, T) and returns the result."""
    if not isinstance(train, DataLoader):
        return
    found = list[tuple[str, Shape, torch.Tensor]]()

    def around(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made, name = func(*args, **kwargs), function_name(func)
        if name in _READ_ANEW and isinstance(made, torch.Tensor) and _are_exchanged(tuple(args[0].shape), made.shape):
            found.append((name, tuple(args[0].shape), made))
        return made

    data, batch = train.dataset, None
    with suppress(Exception), same_random_state(), torch_functions(around):  # a data set of the user's
        batch = train.collate_fn([data[number] for number in range(_ITEMS)])
    given_out = [tensor for _, tensor in leaves(batch)]
    for name, given, made in found:
        if any(torch.equal(tensor, made) for tensor in given_out):
            yield _finding(name, "the collate function", given, tuple(made.shape), _LAST_TWO)
            return


def _are_exchanged(given: Shape, made: Shape) -> bool:
    """Whether (N, T, C) is read as (N, C, T)."""
    return len(given) == 3 and made == (given[0], given[2], given[1]) and 1 < given[1] != given[2] > 1


def _finding(name: str, place: str, given: Shape, made: Shape, way: tuple[str, str]) -> Finding:
    before, after = (f"({', '.join(map(str, shape))})" for shape in (given, made))
    return RESHAPED_AXES.finding(
        severity="error",
        where=f"{name} in {place}",
        measured=f"`{name}` changes shape {before} to {after}, {way[0]}",
        why="`view` and `reshape` keep the order in memory: they do not exchange axes, so each position gets "
        "values of other positions.",
        remedy=f"exchange the axes: `{way[1]}`",
    )


def exchanged_by_reading(given: Shape, made: Shape) -> tuple[str, str] | None:
    """What a reshape of (N, …) seems to be meant for, and the code for that; None if the axes keep their order, or one
    of them has length 1."""
    if len(given) not in (3, 4) or len(made) not in (3, 4) or given[0] != made[0]:
        return None
    if len(given) == 4:
        return _of_maps(given[1:], made[1:])
    (length, numbers), rest = given[1:], made[1:]
    if len(rest) == 3 and rest[1] == length and rest[0] * rest[2] == numbers and min(*rest) > 1 and rest[0] != length:
        heads = f"x.view(n, {length}, {rest[0]}, {rest[2]}).transpose(1, 2)"
        return f"as if this split {numbers} features into {rest[0]} heads", heads
    return None


def _of_scores(given: Shape, made: Shape) -> tuple[str, str] | None:
    """The same for scores of positions that a loss gets, which expects the classes on axis 1."""
    if math.prod(given[2:]) > 1 and made == (math.prod(given) // given[1], given[1]) and 1 < given[1] != given[-1]:
        return "as if this moved the classes last", f"x.movedim(1, -1).reshape(-1, {given[1]})"
    exchanged = _are_exchanged(given, made)
    return ("as if this moved the classes before the positions", "x.transpose(1, 2)") if exchanged else None


def _put_first(given: Shape, made: Shape) -> tuple[str, str] | None:
    """The same for the input of a convolution, whose channels were not on axis 1."""
    for axis in range(2, len(given)):
        moved = (given[0], given[axis], *given[1:axis], *given[axis + 1 :])
        if made == moved != given and given[axis] > 1 and math.prod(given[1:axis]) > 1:
            return f"as if this moved axis {axis} first", f"x.movedim({axis}, 1)"
    return None


def _of_maps(given: Shape, made: Shape) -> tuple[str, str] | None:
    a, b, c = given
    if len(set(given)) == 1:
        return None
    if made == (b, c, a) and a > 1 and b * c > 1:
        return "as if this moved the first of three axes last", "x.permute(0, 2, 3, 1)"
    if made == (c, a, b) and c > 1 and a * b > 1:
        return "as if this moved the last of three axes first", "x.permute(0, 3, 1, 2)"
    if made == (b * c, a) and a > 1 and b * c > 1 and a != b * c:
        return "as if this moved the channels after the positions", "x.flatten(2).transpose(1, 2)"
    if made == (b, a * c) and min(given) > 1 and a != b:
        return "as if this concatenated the heads", "x.transpose(1, 2).flatten(2)"
    return None


RESHAPED_AXES = Check(
    codes=("data.scrambled",),
    threshold="a `view` or `reshape` to the shape of a transposition, such as from (N, C, H, W) to (N, H, W, C), "
    "without an axis of length 1: by definition",
    run=_run,
    explains="data.labels-random data.step-labels model.batch-mixing model.sees-future fit.*",
)
