"""Load the weights of a file into a network; a head for another number of outputs stays new, other misfits are
errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from striate.errors import InputMisfit, ModelError
from striate.layers.convolution import LocallyConnected
from striate.models.decoder import MaskNetwork
from striate.models.features import output_layer, weighted_layers
from striate.models.weights.auxiliary_outputs import layers_of_outputs, without_lone_auxiliary
from striate.models.weights.saved import SavedNetwork, Weights
from striate.wording import listed, several, show_shape

MOST_SHOWN = 4
NEARLY = 0.1
"""Share of the tensors. If fewer do not fit, the file is for this network, but incomplete or for another variant."""
# What wrappers put before every name: DataParallel and averaged models, torch.compile, Lightning.
_PREFIXES = ("module.", "_orig_mod.", "model.")

Tensors = dict[str, Any]


def take_weights(
    network: nn.Module, weights: Weights, outputs: int, classes: tuple[str, ...] = (), *, name: str = ""
) -> str:
    """Load the tensors of `weights` into `network`, which has `outputs` outputs or channels, in place.

    - Output layer: it stays new where the file has none, or one for another number of outputs. Classes that a run knows
      by name get their rows; only new classes start from new rows.
    - Gray images: where the first convolution takes one channel, kernels for red, green and blue are added up, so that
      the network predicts as for the gray image in all three channels. If the file says how inputs were standardized,
      kernels are weighted by the inverse standard deviation of their channel; a constant is lost if the means differ.
    - Names: prefixes of wrappers are removed. If the network has a method `fitting(tensors)`, it leaves out tensors of
      other forms of the network; `older_name(name)` returns the current name of a tensor.
    - Auxiliary classifiers that only the file has are left out; those that only the network has stay new.
    - Of a run whose task put a head on its network, the tensors of the network under the head are taken.

    `name` is the user's name of the network, for errors. Returns one sentence on what was loaded.
    Raises ModelError, with names and shapes of the first tensors, where others are missing, unexpected or misshapen.
    """
    complete: Tensors = network.state_dict()
    weights, under = _under_head(network, weights, outputs)
    if isinstance(network, MaskNetwork) and not complete.keys() <= _without_prefix(weights.tensors, complete).keys():
        return _take_backbone(network, weights, outputs, name)
    found = _todays_names(network, _without_prefix(weights.tensors, complete))
    found, folded = _for_gray(network, complete, found, _shares(weights))
    compared = without_lone_auxiliary(network, complete, found)
    own, saved = compared.own, compared.saved
    saved |= {key: own[key] for key in own if key not in saved and key.endswith("num_batches_tracked")}  # before 2018
    names = [*own, *(key for key in saved if key not in own)]
    heads = layers_of_outputs(network, output_layer(network))
    differing = [
        key
        for key in names
        if not _agree(own.get(key), saved.get(key), outputs if key.rpartition(".")[0] in heads else None)
    ]
    before = _outputs_before(network, own, saved, differing, outputs, weights) if differing else None
    if differing and before is None:
        # A head for another number of outputs alone would not be an error.
        misfits = [key for key in differing if not _renewable(network, heads, key, own, saved, outputs)]
        raise _misfit(weights, own, saved, misfits or differing, outputs, name)
    if len(differing) == len(own):
        got = f"only a last layer, for {before} outputs instead of {outputs}: no weights to use"
        named = name or (weights.name if isinstance(weights, SavedNetwork) else "")
        remedy = f'write "{named}" to train from scratch' if named else "leave out the weights: --model.weights null"
        raise ModelError(weights.path, got, "layers before the last one", remedy)
    rows = _rows_by_class(own, saved, heads, weights, classes)
    if not any(t.is_meta for t in own.values() if isinstance(t, torch.Tensor)):
        taken = {key: saved[key] for key in own if key not in differing}
        network.load_state_dict(complete | taken | rows)
    renewed = sorted({key.rpartition(".")[0] for key in differing if key not in rows} - {output_layer(network)})
    source = _note_on_source(weights, before, outputs, classes)
    notes = [_note_on_rows(weights, classes) if rows else source, *under, *compared.notes]
    notes += [f"so are {listed(renewed)}, the last layers of auxiliary classifiers"] if renewed else []
    notes += ["its kernels for red, green and blue are summed for gray images"] if folded else []
    told = isinstance(weights, SavedNetwork) or weights.origin.mean
    remark = "" if told else getattr(network, "remark_on_files", "")
    return "; ".join([*notes, remark] if remark else notes)


def _rows_by_class(
    own: Tensors, saved: Tensors, heads: set[str], weights: Weights, classes: tuple[str, ...]
) -> Tensors:
    """Output layers for these `classes`, where classes that the run knows by name have the run's rows; empty if the
    classes are the same in the same order, or have no name in common."""
    known = weights.classes if isinstance(weights, SavedNetwork) else ()
    if classes == known or not set(classes) & set(known):
        return {}
    here = [number for number, name in enumerate(classes) if name in known]
    there = [known.index(classes[number]) for number in here]
    rows: Tensors = {}
    for key, new in own.items():
        old = saved.get(key)
        if key.rpartition(".")[0] not in heads or not isinstance(old, torch.Tensor) or nn.parameter.is_lazy(new):
            continue
        if new.shape == (len(classes), *old.shape[1:]) and len(old) == len(known):
            rows[key] = new.clone()
            rows[key][here] = old[there].to(new)
    return rows


def _note_on_rows(weights: Weights, classes: tuple[str, ...]) -> str:
    assert isinstance(weights, SavedNetwork)
    new = [name for name in classes if name not in weights.classes]
    gone = [name for name in weights.classes if name not in classes]
    told = [f"; {what}: {listed(names)}" for what, names in (("new", new), ("dropped", gone)) if names]
    return f"weights of {_place(weights)}, each class with its row of the last layer{''.join(told)}"


def _place(weights: Weights) -> str:
    if not isinstance(weights, SavedNetwork) or Path(weights.path).suffix == ".pt":
        return weights.path
    return f"{weights.path} (checkpoints/{weights.file.name})"


def _take_backbone(network: MaskNetwork, weights: Weights, outputs: int, name: str) -> str:
    """Load the tensors of a classifier into the backbone of a network for masks, which has no layers after the last
    map; the decoder stays new."""
    own: Tensors = network.backbone.state_dict()
    found = _todays_names(network, _without_prefix(weights.tensors, own))
    found, folded = _for_gray(network.backbone, own, found, _shares(weights))
    found |= {key: own[key] for key in own if key not in found and key.endswith("num_batches_tracked")}
    differing = [key for key in own if key not in found or not _agree(own[key], found[key], None)]
    if differing:
        raise _misfit(weights, own, {key: found[key] for key in own if key in found}, differing, outputs, name)
    network.backbone.load_state_dict({key: found[key] for key in own})
    notes = [f"weights of {weights.path}, of every layer up to the last map; the decoder is new"]
    notes += ["its kernels for red, green and blue are summed for gray images"] if folded else []
    return "; ".join(notes)


def _under_head(network: nn.Module, weights: Weights, outputs: int) -> tuple[Weights, list[str]]:
    """The weights of the part of a run's network that has the names of `network`, such as the network under the pyramid
    of a detector, and a note; the weights unchanged where there is no such part. An output layer of that part has
    learned the other task, so it is left out."""
    body: nn.Module = network.backbone if isinstance(network, MaskNetwork) else network
    own: Tensors = body.state_dict()
    saved = weights.tensors
    if not isinstance(weights, SavedNetwork) or not own or own.keys() & saved.keys():
        return weights, []
    first = next(iter(own))
    counts = {
        (prefix := key.removesuffix(first)): sum(prefix + name in saved for name in own)
        for key in saved
        if key.endswith(f".{first}")
    }
    if not counts:
        return weights, []
    prefix = max(counts, key=counts.__getitem__)
    heads = layers_of_outputs(body, output_layer(body))
    last = {k for k, v in own.items() if k.rpartition(".")[0] in heads and _gives(v, outputs)}
    part = {key.removeprefix(prefix): value for key, value in saved.items() if key.startswith(prefix)}
    kept = {key: value for key, value in part.items() if key not in last}
    return replace(weights, tensors=kept, classes=()), [f"without the head of the task {weights.task}"]


def _gives(tensor: Any, outputs: int) -> bool:
    """Whether a tensor of an output layer is for this number of outputs."""
    return nn.parameter.is_lazy(tensor) or tensor.shape[:1] == (outputs,)


def _without_prefix(saved: Tensors, own: Tensors) -> Tensors:
    """The tensors under the network's names, if they differ from these only in prefixes of wrappers."""
    tensors = {key: value for key, value in saved.items() if key != "n_averaged"} if "n_averaged" not in own else saved
    for prefix in _PREFIXES * 2:  # one wrapper may be in another
        if tensors and all(key.startswith(prefix) for key in tensors) and not any(k.startswith(prefix) for k in own):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return dict(tensors)


def _todays_names(network: nn.Module, saved: Tensors) -> Tensors:
    """The tensors under their current names. A convolution over the full map becomes the fully connected layer that
    computes the same, where the network has that."""
    fitting: Any = getattr(network, "fitting", None)
    if fitting is not None:
        saved = fitting(saved)
    older_name: Any = getattr(network, "older_name", None)
    if older_name is None:
        return saved
    own, renamed = network.state_dict(), {older_name(key): value for key, value in saved.items()}
    return {key: value.flatten(1) if _is_flat(own.get(key), value) else value for key, value in renamed.items()}


def _is_flat(own: Any, saved: Any) -> bool:
    return isinstance(own, torch.Tensor) and isinstance(saved, torch.Tensor) and (own.ndim, saved.ndim) == (2, 4)


def _shares(weights: Weights) -> torch.Tensor:
    """Weights (3, 1, 1) of the kernels of each color for gray images, from the standard deviations of the channels."""
    found = weights.std if isinstance(weights, SavedNetwork) else weights.origin.std
    if len(found) != 3:
        return torch.ones(3, 1, 1)
    std = torch.tensor(found, dtype=torch.float64)
    return (std.mean() / std)[:, None, None]


def _for_gray(network: nn.Module, own: Tensors, saved: Tensors, shares: torch.Tensor) -> tuple[Tensors, bool]:
    """The tensors with the first convolution's kernels added up, times `shares`, if the network takes one channel."""
    layers = weighted_layers(network)
    key = f"{layers[0]}.weight".removeprefix(".") if layers else ""
    mine, theirs = own.get(key), saved.get(key)
    first = network.get_submodule(layers[0]) if layers else None
    if not isinstance(first, nn.Conv2d) or mine is None or not isinstance(theirs, torch.Tensor):
        return saved, False
    if nn.parameter.is_lazy(mine) or mine.shape[1] != 1 or theirs.shape != (len(mine), 3, *mine.shape[2:]):
        return saved, False
    return saved | {key: (theirs * shares.to(theirs)).sum(1, keepdim=True)}, True


def _agree(own: Any, saved: Any, outputs: int | None) -> bool:
    """Whether one tensor fits. A lazy one takes any shape; in the output layer, only a shape with these `outputs`."""
    if not isinstance(own, torch.Tensor) or not isinstance(saved, torch.Tensor):
        return (own is None) == (saved is None)
    if nn.parameter.is_lazy(own):
        return outputs is None or saved.shape[:1] == (outputs,)
    return own.shape == saved.shape


def _outputs_before(
    network: nn.Module, own: Tensors, saved: Tensors, differing: list[str], outputs: int, weights: Weights
) -> int | None:
    """The number of outputs of the file's network, if the tensors differ only in the number of outputs of the output
    layer (and of auxiliary classifiers); 0 where the file has no output layer; else None."""
    head = output_layer(network)
    heads = layers_of_outputs(network, head)
    if head is None or any(key.rpartition(".")[0] not in heads for key in differing):
        return None
    known = weights.outputs if isinstance(weights, SavedNetwork) else None
    if not any(key.rpartition(".")[0] == head for key in saved):
        return 0
    # All tensors of these layers count, as each must be for the same number of outputs.
    places = [(key, key.rpartition(".")[0]) for key in {**own, **saved}]
    counts = {
        _count_before(network.get_submodule(layer), own.get(key), saved.get(key), outputs)
        for key, layer in places
        if layer in heads
    }
    count = counts.pop() if len(counts) == 1 else None
    return count if count != outputs and known in (None, count) else None


def _count_before(layer: nn.Module, own: Any, saved: Any, outputs: int) -> int | None:
    """The number of outputs that one tensor of the output layer was made for; None if it differs elsewhere too."""
    if not isinstance(own, torch.Tensor) or not isinstance(saved, torch.Tensor):
        return None
    if nn.parameter.is_lazy(own):
        return saved.shape[0] if saved.ndim else None
    if own.ndim != saved.ndim:
        return None
    axis = len(layer.out_size) if isinstance(layer, LocallyConnected) and own.ndim > 1 + len(layer.out_size) else 0
    changed = [k for k in range(own.ndim) if own.shape[k] != saved.shape[k]]
    if changed != [axis]:
        return None
    # Before maxout, a layer has several units for each output.
    count, rest = divmod(saved.shape[axis] * outputs, own.shape[axis])
    return count if rest == 0 else None


def _renewable(network: nn.Module, heads: set[str], key: str, own: Tensors, saved: Tensors, outputs: int) -> bool:
    """Whether a tensor is of an output layer and differs in the number of outputs only."""
    layer = key.rpartition(".")[0]
    if layer not in heads:
        return False
    return _count_before(network.get_submodule(layer), own.get(key), saved.get(key), outputs) is not None


def _misfit(
    weights: Weights, own: Tensors, saved: Tensors, differing: list[str], outputs: int, name: str
) -> ModelError:
    shown = [
        f"{key} is {_shape(saved.get(key))} in the file and {_shape(own.get(key))} in the network"
        for key in differing[:MOST_SHOWN]
    ]
    more = [f"{len(differing) - MOST_SHOWN} more"] if len(differing) > MOST_SHOWN else []
    got = "; ".join([*shown, *more])
    if not isinstance(weights, SavedNetwork):
        expected = f"the tensors of {name or 'the network'}, but for its last layer"
        count = len(own.keys() | saved.keys())
        if len(differing) > NEARLY * count:
            return ModelError(weights.path, got, expected, "name the network of the file: --model NAME")
        got = (
            f"{len(differing):,} of {several(count, 'tensor')} {'does' if len(differing) == 1 else 'do'} not fit: {got}"
        )
        remedy = "download the file again if it is incomplete, or name its variant of the network: --model NAME"
        return ModelError(weights.path, got, expected, remedy)
    made = f"the tensors of the run, a {weights.name} on inputs of {show_shape(weights.input_shape)}"
    if outputs != weights.outputs:
        made += f", but for its last layer ({several(weights.outputs, 'output')} in the run, {outputs} here)"
    return InputMisfit(weights.path, got, made, _remedy(weights, own, name), fitting=weights.input_shape)


def _remedy(weights: SavedNetwork, own: Tensors, name: str) -> str:
    if name and name != weights.name and own.keys() != weights.tensors.keys():
        return f'--model "{weights.name}", the network of the weights'
    fresh = f'train from scratch: --model "{name or weights.name}"' + (" without --weights" if name else "")
    if len(weights.input_shape) != 3:
        return fresh
    size = "x".join(map(str, weights.input_shape[1:]))
    channels = f" --data.channels {weights.input_shape[0]}" if weights.input_shape[0] in (1, 3) else ""
    return f"use inputs as in the run (--size {size}{channels}), or {fresh}"


def _shape(tensor: Any) -> str:
    if tensor is None:
        return "absent"
    if not isinstance(tensor, torch.Tensor):
        return f"a {type(tensor).__name__}"
    if nn.parameter.is_lazy(tensor):
        return "open"
    return show_shape(tensor.shape) if tensor.ndim else "one number"


def _note_on_source(weights: Weights, before: int | None, outputs: int, classes: tuple[str, ...]) -> str:
    where, known = _place(weights), weights.classes if isinstance(weights, SavedNetwork) else ()
    if before is not None:
        what = "classes" if classes and (known or not isinstance(weights, SavedNetwork)) else "outputs"
        instead = f" instead of {before}" if before else "; the file has none for them"
        return f"weights of {where}; the last layer is new: {outputs} {what}{instead}"
    if classes and known and classes != known:
        listed = ", ".join(known[:MOST_SHOWN]) + (", …" if len(known) > MOST_SHOWN else "")
        return f"weights of {where}, also of the last layer, which was trained for other classes: {listed}"
    return f"weights of {where}, of every layer"
