"""From the observation of a forward pass to the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from striate.account.field.intervals import Fields, get_fields
from striate.account.field.window import PADDING, Window
from striate.account.ledger import Ledger, Row, Shape, last_map
from striate.account.observing.entries import Entry, Tally, sample_shape
from striate.account.observing.kinds import layer_kind
from striate.account.observing.observation import Observation
from striate.observe.tensors import tensors_in

# Empty containers do nothing; whether scripted layers ran is unknown.
_UNSEEN = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict, torch.jit.ScriptModule)


def make_ledger(name: str, seen: Observation, input_shape: Shape) -> Ledger:
    """The ledger of the network `name`; without remarks."""
    entries = seen.observer.entries.done
    parameters = dict(seen.module.named_parameters())
    late = _claim_unused(seen, entries)
    rows = tuple(_row(entry, seen, parameters, len(input_shape)) for entry in (*entries, *late))
    rows = _with_inputs(rows, seen, entries)
    weights = _bytes((*seen.module.parameters(), *seen.module.buffers()))
    trainable = _bytes(p for p in parameters.values() if p.requires_grad)
    operations: Counter[str] = Counter()
    for entry in entries:
        operations += entry.tally.operations
    every = list(tensors_in(seen.output))
    first = next(iter(every), None)
    axes = len(input_shape) - 1
    field, jump = _of_output(first, axes) or _of_joined(rows, seen, entries, axes) or _field_and_jump(rows, axes)
    return Ledger(
        model=name,
        input=input_shape,
        output=() if first is None else sample_shape(first),
        rows=rows,
        params=sum(row.params for row in rows),
        trainable=sum(row.trainable for row in rows),
        macs=sum(row.macs for row in rows),
        receptive_field=field,
        jump=jump,
        activation_bytes=sum(row.output_bytes for row in rows),
        training_bytes=sum(seen.saved.values()),
        inference_bytes=seen.observer.memory.most,
        weight_bytes=weights,
        optimizer_bytes={name: weights + n * trainable for name, n in (("sgd", 1), ("momentum", 2), ("adam", 3))},
        other_ops=dict(operations.most_common()),
        uncounted=(*seen.observer.uncounted, *seen.notes),
        real_pass=seen.real_pass,
        other_outputs=dict(list(zip(_names_of(seen.output, len(every)), map(sample_shape, every), strict=True))[1:]),
    )


def _names_of(output: object, count: int) -> list[str]:
    """The keys of a mapping that has all `count` tensors of the output; of any other output, their positions."""
    keys = output if isinstance(output, Mapping) and len(output) == count else range(count)
    return [str(key) for key in keys]


def _with_inputs(rows: tuple[Row, ...], seen: Observation, entries: list[Entry]) -> tuple[Row, ...]:
    """The rows, each with the indices of the rows that its inputs come from."""
    places = {id(entry): place for place, entry in enumerate(entries)} | {id(seen.observer.input): -1}
    # An entry that became part of another one has no index.
    taken = [{places[id(source)] for source in entry.inputs if id(source) in places} for entry in entries]
    there = [replace(row, inputs=tuple(sorted(inputs))) for row, inputs in zip(rows, taken, strict=False)]
    return (*there, *rows[len(entries) :])


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _claim_unused(seen: Observation, entries: list[Entry]) -> list[Entry]:
    """Unused parameters go to the layer that they belong to, if it ran; the others make rows of layers that never
    ran."""
    ran = {entry.name: entry for entry in reversed(entries) if entry.module is not None}
    late: dict[str, Entry] = {}
    for name in seen.observer.unused:
        owner = next((ran[path] for path in _above(name) if path in ran), None)
        path = name.rpartition(".")[0]
        if owner is not None:
            owner.tally.parameters.append(name)
        elif path in seen.observer.called:
            late[name] = Entry(name, "Parameter", Tally(parameters=[name]))
        else:
            layer = seen.module.get_submodule(path)
            late.setdefault(path, Entry(path, layer_kind(layer), Tally(), layer)).tally.parameters.append(name)
    for path, layer in seen.module.named_modules():
        idle = path not in seen.observer.called and not any(above in ran for above in _above(path))
        bare = not any(True for _ in layer.children()) and not any(True for _ in layer.parameters())
        if idle and bare and "parametrizations" not in path and not isinstance(layer, _UNSEEN):
            late[path] = Entry(path, layer_kind(layer), Tally(), layer)
    order = {path: place for place, (path, _) in enumerate(seen.module.named_modules())}
    return sorted(late.values(), key=lambda entry: order.get(entry.name, -1))


def _above(name: str) -> Iterator[str]:
    """The paths of the modules that hold a parameter or module, the nearest first."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def _row(entry: Entry, seen: Observation, parameters: dict[str, nn.Parameter], axes: int) -> Row:
    executed = entry.call is not None or bool(entry.out_shape or entry.tally.macs)
    own = [parameters[name] for name in entry.tally.parameters]
    fields = entry.fields or ()
    ran = executed and entry.kind != "Parameter"
    window = _window(entry)
    jumps = tuple(_jump(s.jump, s.dim, entry.out_shape) for s in fields)
    return Row(
        name=entry.name or type(seen.module).__name__,
        kind=entry.kind,
        in_shape=entry.in_shape,
        out_shape=entry.out_shape,
        params=sum(p.numel() for p in own),
        trainable=sum(p.numel() for p in own if p.requires_grad),
        macs=entry.tally.macs,
        other_ops=entry.tally.operations.total(),
        receptive_field=tuple(s.size for s in fields),
        jump=jumps,
        center=tuple(s.center for s in fields),
        leftover=window.leftover() if window else (0,) * (max(1, axes - 1) if ran else 0),
        weight_bytes=_bytes(entry.module.parameters() if entry.module is not None else own),
        output_bytes=entry.output_bytes,
        saved_bytes=seen.saved.get(entry.call, 0) if entry.call is not None else 0,
        executed=executed,
        settings=_settings(entry, window),
        sees_all=(any(jumps) or (window is not None and max(entry.out_shape[1:], default=1) > 1))
        and all(s.same for s in fields),
        whole_axes=tuple(s.same and side > 1 for s, side in zip(fields, entry.out_shape[1:], strict=True))
        if len(fields) == len(entry.out_shape) - 1
        else (),
    )


def _jump(jump: float, dim: int | None, out_shape: Shape) -> float:
    """The distance between fields of neighbors; 0 without neighbors. `dim` counts the batch as a dimension."""
    if dim is None or not 1 <= dim <= len(out_shape) or out_shape[dim - 1] < 2:
        return 0
    return int(jump) if jump == int(jump) else jump


def _window(entry: Entry) -> Window | None:
    """How the call's windows slide over its input, including padding by a separate operation; None without windows."""
    axes = len(entry.in_shape) - 1
    pads: Window | None = None
    for window in entry.tally.windows:
        fitting = window.without_leading(axes) if axes > 0 else None
        if fitting is None:
            continue
        if pads is not None and fitting.sizes == pads.outputs:
            before = tuple(a + b for a, b in zip(pads.before, fitting.before, strict=True))
            after = tuple(a + b for a, b in zip(pads.after, fitting.after, strict=True))
            fitting = replace(fitting, sizes=pads.sizes, before=before, after=after)
        if fitting.function == PADDING:
            pads = fitting
        elif fitting.sizes == entry.in_shape[1:]:
            return fitting
    return None


def _settings(entry: Entry, window: Window | None) -> dict[str, Any]:
    layer = entry.module
    settings: dict[str, Any] = {}
    if window is not None:
        settings = {"kernel": window.kernel, "stride": window.stride, "padding": window.before}
        if window.after != window.before:
            settings["padding_after"] = window.after
        settings["dilation"] = window.dilation
        if window.bias is not None:
            settings |= {"groups": window.groups, "bias": window.bias, "channels": window.channels}
        if window.transposed:
            settings["transposed"] = True
    mode = getattr(layer, "padding_mode", "zeros")
    if mode != "zeros":
        settings["padding_mode"] = mode
    if getattr(layer, "padding", None) == "same":
        settings["same"] = True
    if isinstance(layer, nn.Linear):
        settings |= {"bias": layer.bias is not None, "channels": layer.in_features}
    return settings


def _of_output(output: torch.Tensor | None, axes: int) -> tuple[Shape, tuple[float, ...]] | None:
    """Receptive field and jump of the network's output, if it is a map with more than one position: operations after
    the last layer widen the field too."""
    fields = None if output is None else get_fields(output)
    return None if output is None or fields is None else _of_map(fields, sample_shape(output), axes)


def _of_joined(
    rows: tuple[Row, ...], seen: Observation, entries: list[Entry], axes: int
) -> tuple[Shape, tuple[float, ...]] | None:
    """Receptive field and jump of the sum or concatenation of branches that the last layer with a map goes into, if
    there is one: a unit there has the union of the fields of the branches."""
    last = last_map([row for row in rows[: len(entries)] if row.receptive_field], axes)
    if last is None:
        return None
    entry = entries[next(place for place, row in enumerate(rows) if row is last)]
    made_of_it = [made for made in seen.observer.joined if any(source is entry for source in made.sources)]
    return _of_map(made_of_it[-1].fields, made_of_it[-1].shape, axes) if made_of_it else None


def _of_map(fields: Fields, shape: Shape, axes: int) -> tuple[Shape, tuple[float, ...]] | None:
    if len(shape) != axes + 1:
        return None
    jumps = tuple(abs(_jump(s.jump, s.dim, shape)) for s in fields)
    return (tuple(s.size for s in fields), jumps) if axes and any(jumps) else None


def _field_and_jump(rows: tuple[Row, ...], axes: int) -> tuple[Shape, tuple[float, ...]]:
    """Receptive field and jump of the last map with more than one position; of the last layer if there is none."""
    seeing = [row for row in rows if row.receptive_field]
    last = last_map(seeing, axes)
    if last is None and seeing:
        # The numbers of a vector have no neighbors; the positions of a sequence may have.
        jump = seeing[-1].jump if not axes or len(seeing[-1].out_shape) > 1 else (0,) * axes
        return seeing[-1].receptive_field, jump
    return (last.receptive_field, tuple(map(abs, last.jump))) if last else ((), ())
