"""The validation data of a script: loaders and tensors with such names, in the scope of its running functions."""

from __future__ import annotations

import ast
import gc
import math
import re
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset

from striate.doctor.evidence.read_batches import repeats_samples
from striate.doctor.script.evaluated_arrays import evaluated_arrays, only_evaluates, unwrapped
from striate.doctor.script.later_trainings import are_renumbered, is_beside_later_training_data, is_of_later_training
from striate.doctor.script.loop_syntax import syntax_of, value_of
from striate.doctor.script.training_loop import TrainingLoop
from striate.doctor.setup.batch import main_tensor, parts
from striate.doctor.setup.syntax import (
    called,
    definition_of,
    last_name,
    names_in,
    nodes_in,
    says_no_gradient,
    variable_of,
)
from striate.models.preserved_state import same_random_state

_FAR = 0.5
"""Largest distance of inputs by `_apart`: inputs farther apart are transformed before the network is called."""
_MOST_LOADERS, _MOST_PARTS = 16, 4  # of a dictionary, of a tuple of tensors
_VALIDATION = ("val", "valid", "dev", "test", "eval")
_SEARCHED = ("queries", "query")
"""Names of data sets that evaluate embeddings; the gallery may be the training data."""
_ANY_DATA = ("x", "y", "data", "loader", "dl", "set", "ds", "images", "labels", "inputs", "targets")
_OF_ANY = re.compile(f"({'|'.join(_VALIDATION)})?({'|'.join(_ANY_DATA)})*")
"""Names that any data may have: `test`, `loader`, `testloader`."""

_APART = 0.2
"""A few hundred samples may differ by less by chance."""


def find_validation(
    loop: TrainingLoop, frames: list[Any], inputs: torch.Tensor | None, targets: torch.Tensor | None = None
) -> Any:
    """The validation loader: one that is named for validation, or else for a test, in the scope of the running
    functions. Inner functions come first: `loaders["val"]` of a function before `source["val"]` of its caller. Else
    tensors with such names, with the type, axes and channels of the training `inputs`; targets in NumPy arrays get the
    type of the training `targets`. None where there are no such data."""
    found: dict[str, Any] = {}
    for names in [*(frame.f_locals for frame in frames), *(frame.f_globals for frame in frames)]:
        if are_of_another_training(names, loop.batches):
            continue
        for name, value in list(names.items()):
            for own, other in [(name, value), *_held(name, value, loop.batches)]:
                if other is not loop.batches and (_is_loader(other) or _is_of_one_kind(other, loop.batches)):
                    found.setdefault(own.lower(), other)
    own_data = {name: value for name, value in found.items() if not is_of_later_training(value, frames, loop.batches)}
    for word in _VALIDATION:
        for name, value in own_data.items():
            if word in name and not _is_named_after_another(name, value, frames, loop.batches):
                return value
    for name, value in own_data.items():
        if _other_data(value, loop.batches) and not _trained_elsewhere(value, frames):
            looped = _is_looped_over(name, frames) and _inputs_like(value, inputs, targets) is not None
            if looped or _is_evaluated(name, frames):
                return value
    # A balancing sampler draws classes with other frequencies than in validation, which would look like a shift.
    balanced = isinstance(loop.batches, DataLoader) and repeats_samples(loop.batches)
    pairs = _pairs(frames, None if balanced else targets)
    first = {name: next((n for n, word in enumerate(_VALIDATION) if word in name), len(_VALIDATION)) for name in pairs}
    for name, value in sorted(pairs.items(), key=lambda pair: first[pair[0]]):
        if _is_named_after_another(name, value, frames, loop.batches):
            continue
        own = value.dataset.tensors[0]
        if is_of_later_training(own, frames, loop.batches):
            continue
        like = inputs is None or (own.dtype == inputs.dtype and own.ndim == inputs.ndim)
        if like and (inputs is None or own.shape[1:2] == inputs.shape[1:2]):
            return value if inputs is None else _as_network_input(value, frames, inputs)
    if (part := _data_set(loop, frames, inputs, targets)) is not None:
        return part
    if not found and (arrays := evaluated_arrays(loop, frames, inputs, targets)) is not None:
        return arrays
    known, data = {id(loop.batches), *map(id, pairs.values())}, getattr(loop.batches, "dataset", None)
    others = [other for other in gc.get_objects() if type(other) is DataLoader and id(other) not in known]
    others = [other for other in others if other.dataset is not data]  # loaders that a library made of the same data
    # One that shuffles may be left over from an earlier training.
    others = [other for other in others if not isinstance(other.sampler, RandomSampler)]
    return others[0] if len(others) == 1 and not found else None


def _held(name: str, value: Any, batches: Any) -> Iterator[tuple[str, Any]]:
    """What a dictionary, a namespace or an object of the script's holds, with its names; of an object also what the
    namespaces in it hold, `learner.dls.valid`."""
    if isinstance(value, dict) and not are_of_another_training(value, batches):
        yield from ((f"{name}.{key}", inner) for key, inner in list(value.items())[:_MOST_LOADERS])
    elif isinstance(value, types.SimpleNamespace) and not are_of_another_training(vars(value), batches):
        yield from ((f"{name}.{key}", inner) for key, inner in list(vars(value).items())[:_MOST_LOADERS])
    elif type(value).__module__ == "__main__" and hasattr(value, "__dict__"):
        for key, inner in list(vars(value).items()):
            yield key, inner
            if isinstance(inner, types.SimpleNamespace):
                yield from _held(key, inner, batches)


def _as_network_input(pair: DataLoader[Any], frames: list[Any], inputs: torch.Tensor) -> DataLoader[Any]:
    """Validation tensors after the function that the script applies in the network's call, `net(normalize(x))`, where
    they are more similar to the training `inputs` then."""
    x, *others = pair.dataset.tensors  # type: ignore[attr-defined]
    for function in _given_to_networks(frames):
        with suppress(Exception), same_random_state(), torch.no_grad():
            made = function(x.clone())
            alike = isinstance(made, torch.Tensor) and made.shape == x.shape and made.dtype == x.dtype
            if alike and max(_APART, 2 * _apart(made, inputs)) < _apart(x, inputs):
                return DataLoader(TensorDataset(made, *others), batch_size=64)
    return pair


def _apart(x: torch.Tensor, other: torch.Tensor) -> float:
    """The difference of two means, in standard deviations, plus the difference of the logarithms of the standard
    deviations."""
    one, two = x.double(), other.detach().cpu().double()
    deviation = max(float(two.std()), 1e-12)
    return abs(float(one.mean() - two.mean())) / deviation + abs(math.log(max(float(one.std()), 1e-12) / deviation))


def _given_to_networks(frames: list[Any]) -> Iterator[Callable[[torch.Tensor], Any]]:
    """Functions of the script whose result is the only argument of a network."""
    for frame in frames:
        names = {**frame.f_globals, **frame.f_locals}
        for node in ast.walk(syntax_of(frame.f_code.co_filename)):
            given = node.args[0] if isinstance(node, ast.Call) and len(node.args) == 1 else None
            if not isinstance(given, ast.Call) or len(given.args) != 1 or given.keywords:
                continue
            function, network = value_of(given.func, names), value_of(node.func, names)  # type: ignore[attr-defined]
            own = isinstance(function, types.FunctionType) and function.__module__ == "__main__"
            if own and isinstance(network, nn.Module):
                yield function


def _data_set(
    loop: TrainingLoop, frames: list[Any], inputs: torch.Tensor | None, targets: torch.Tensor | None
) -> DataLoader[Any] | None:
    """A loader of a data set that is named for validation, or else for a test or queries, also as an attribute, whose
    samples have the shapes and types of those of training, and similar inputs. None where there is none."""
    if inputs is None or targets is None:
        return None
    known = getattr(loop.batches, "dataset", None)
    sets = dict[str, Any]()
    for frame in reversed(frames):
        for name, value in {**frame.f_globals, **frame.f_locals}.items():
            own = type(value).__module__ == "__main__" and hasattr(value, "__dict__")
            for key, held in [(name, value), *(vars(value).items() if own else ())]:
                if isinstance(held, Dataset) and hasattr(held, "__len__") and not isinstance(held, IterableDataset):
                    sets[key.lower()] = held
    for word in (*_VALIDATION, *_SEARCHED):
        for name, value in sets.items():
            if word not in name or value is known or _is_named_after_another(name, value, frames, loop.batches):
                continue
            if is_of_later_training(value, frames, loop.batches):
                continue
            collate = getattr(loop.batches, "collate_fn", None)
            loader = DataLoader(value, batch_size=64, collate_fn=collate)
            x = _inputs_like(loader, inputs, targets)
            if x is not None and _apart(x, inputs) < _FAR:
                return loader
    return None


def _are_alike(one: torch.Tensor | None, other: torch.Tensor) -> TypeGuard[torch.Tensor]:
    return one is not None and one.dtype == other.dtype and one.shape[1:] == other.shape[1:]


def _trained_elsewhere(loader: Any, frames: list[Any]) -> bool:
    """Whether the data of a loader are named for training, as those of a loader for the predictions of a teacher."""
    data = getattr(loader, "dataset", None)
    return any(
        "train" in name.lower() and data is (value.dataset if isinstance(value, DataLoader) else value)
        for frame in frames
        for name, value in {**frame.f_globals, **frame.f_locals}.items()
        if isinstance(value, DataLoader | Dataset)
    )


def _other_data(value: Any, batches: Any) -> bool:
    """Whether a loader has other data than the training loader."""
    own, data = getattr(batches, "dataset", None), getattr(value, "dataset", None)
    return isinstance(value, DataLoader) and isinstance(batches, DataLoader) and data is not own


def _is_evaluated(name: str, frames: list[Any]) -> bool:
    """Whether the script passes a variable to a function of its own that predicts without gradients and trains nothing,
    as `test(net, tl)`."""
    for frame in frames:
        names = {**frame.f_globals, **frame.f_locals}
        for node in ast.walk(syntax_of(frame.f_code.co_filename)):
            given = node.args if isinstance(node, ast.Call) else []
            if any(last_name(part).lower() == name for part in given):
                function = unwrapped(value_of(node.func, names))  # type: ignore[attr-defined]
                if getattr(function, "__module__", "") == "__main__" and only_evaluates(function):
                    return True
    return False


def _is_looped_over(name: str, frames: list[Any]) -> bool:
    """Whether a function that only evaluates, or a block without gradients, loops over a variable."""
    for frame in frames:
        names = {**frame.f_globals, **frame.f_locals}
        asking = [node for node in ast.walk(syntax_of(frame.f_code.co_filename)) if _asks(node, names)]
        looped = [loop.iter for loop in nodes_in(asking, ast.For)]
        looped += [part.iter for part in nodes_in(asking, ast.comprehension)]
        if any(name == other.lower() for over in looped for other in names_in(over)):
            return True
    return False


def _inputs_like(loader: Any, inputs: torch.Tensor | None, targets: torch.Tensor | None) -> torch.Tensor | None:
    """The inputs of a loader's first batch, if they and their targets have the shapes and types of those of training;
    else None."""
    if inputs is None or targets is None:
        return None
    with suppress(Exception), same_random_state():  # a data set of the user's
        x, y = (main_tensor(part) for part in parts(next(iter(loader))))
        return x if _are_alike(x, inputs) and _are_alike(y, targets) else None
    return None


def _asks(node: ast.AST, names: dict[str, Any]) -> bool:
    """Whether a node is a function that only evaluates, or a block without gradients."""
    if isinstance(node, ast.FunctionDef):
        function = names.get(node.name)
        return isinstance(function, types.FunctionType) and only_evaluates(unwrapped(function))
    return isinstance(node, ast.With) and says_no_gradient(item.context_expr for item in node.items)


def are_of_another_training(names: dict[str, Any], batches: Any) -> bool:
    """Whether the loaders of a function, or of a dictionary, belong to another training: one is named for training, and
    the batches come from none of them, nor from their data."""
    loaders = {str(name).lower(): value for name, value in list(names.items()) if isinstance(value, DataLoader)}
    if not isinstance(batches, DataLoader) or not any("train" in name for name in loaders):
        return False
    data = getattr(batches.dataset, "dataset", batches.dataset)
    return all(
        value is not batches and getattr(value.dataset, "dataset", value.dataset) is not data
        for value in loaders.values()
    )


def _is_named_after_another(name: str, data: Any, frames: list[Any], batches: Any) -> bool:
    """Whether validation data are named after a loader other than the training loader: `icons_val` and `icons`, where
    `source_loader` is the training loader."""
    words = {word for word in name.split("_") if not _OF_ANY.fullmatch(word)}
    seen = [{**frame.f_globals, **frame.f_locals} for frame in frames]
    loaders = [(set(n.lower().split("_")), v) for names in seen for n, v in names.items() if isinstance(v, DataLoader)]
    own = [named for named, value in loaders if value is batches]
    others = [named for named, value in loaders if value is not batches and value is not data]
    after_another = any(words <= named and not named & {*_VALIDATION} for named in others)
    return bool(words) and after_another and bool(own) and not any(words & named for named in own)


def _is_of_one_kind(value: Any, batches: Any) -> bool:
    """Whether it is a loader of the same user's class as the training loader."""
    return type(value) is type(batches) and type(value).__module__ == "__main__" and hasattr(type(value), "__iter__")


def _is_loader(value: Any) -> bool:
    """Whether it is a DataLoader, or a library's wrapper of one."""
    if isinstance(value, DataLoader):
        return True
    kind = type(value)
    return (
        hasattr(kind, "__iter__")
        and hasattr(kind, "__len__")
        and isinstance(getattr(value, "_dataloader", None), DataLoader)
    )


def _pairs(frames: list[Any], like: torch.Tensor | None = None) -> dict[str, Any]:
    """Loaders of inputs and targets in tensors, `X_val` and `y_val`, or `val_data = (x, y)`, by the names of inputs."""
    found: dict[str, Any] = {}
    changed = {
        id(value) for frame in frames for name, value in frame.f_locals.items()
        if any(word in name.lower() for word in _VALIDATION) and _is_changed_first(frame, name)
    }  # fmt: skip
    for frame in reversed(frames):
        names = {**frame.f_globals, **frame.f_locals}
        for name, value in names.items():
            if id(value) in changed:
                continue
            inputs, kind = _as_tensor(value), type(value)
            if _is_validation_pair(name, inputs):
                found[name.lower()] = DataLoader(TensorDataset(*inputs), batch_size=64)
            named = any(word in name.lower() for word in _VALIDATION) or name.lower() in _SHORT
            if not isinstance(inputs, torch.Tensor) or not named:
                continue
            named_so = [other for other in _names_of_targets(name) if other in names]
            if is_beside_later_training_data(name, frames) or any(are_renumbered(y, frames) for y in named_so):
                continue
            candidates = (names[other] for other in named_so)
            targets = next((_as_tensor(found) for found in candidates if isinstance(found, kind)), None)
            if isinstance(value, torch.Tensor):
                targets = _still_an_array(name, names, like) if targets is None else targets
            elif isinstance(targets, torch.Tensor) and like is not None and _is_given_to_network(frames, name):
                inputs, targets = inputs.to(torch.get_default_dtype()), _as_targets(targets, like)
            if isinstance(targets, torch.Tensor) and inputs.ndim and targets.ndim and len(inputs) == len(targets):
                found[name.lower()] = DataLoader(TensorDataset(inputs, targets), batch_size=64)
    return found


def _as_tensor(value: Any) -> Any:
    """A NumPy array as a tensor that shares its memory; other values unchanged."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or not value.ndim:
        return value
    return torch.from_numpy(value) if value.flags.writeable and min(value.strides) >= 0 else value


_SHORT = ("xv", "x_v", "xva", "x_va", "xte", "x_te")
_INPUTS, _TARGETS = ("x", "X", "inputs", "images", "features"), ("y", "Y", "targets", "labels")


def _names_of_targets(name: str) -> Iterator[str]:
    """Names that the targets of inputs may have: `y_val` for `X_val`, `val_labels` for `val_images`."""
    words = name.split("_")
    for place, word in enumerate(words):
        if word in _INPUTS:
            yield from ("_".join([*words[:place], other, *words[place + 1 :]]) for other in _TARGETS)
    if name[:1] in ("x", "X"):  # `xval`
        yield from ("y" + name[1:], "Y" + name[1:])


_MADE_TENSORS = re.compile(r"_?(t|th|torch|tensor)$")


def _still_an_array(name: str, names: dict[str, Any], like: torch.Tensor | None) -> torch.Tensor | None:
    """The array `y_val` of the tensor `X_val` or `X_val_t`, with the type and shape of the training targets; None
    without one."""
    named = [*_names_of_targets(name), *_names_of_targets(_MADE_TENSORS.sub("", name))]
    found = next((names[other] for other in named if other in names), None)
    targets = _as_tensor(found) if isinstance(found, np.ndarray) else None
    return _as_targets(targets, like) if isinstance(targets, torch.Tensor) and like is not None else None


def _as_targets(targets: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Targets with the type of the training targets, and as one column where these are."""
    column = like.shape[1:] == (1,) and targets.ndim == 1
    return (targets[:, None] if column else targets).to(like.dtype)


def _is_given_to_network(frames: list[Any], name: str) -> bool:
    """Whether code converts an array to a tensor and passes it to a network directly: `net(torch.tensor(X_val))`."""
    for frame in frames:
        names = {**frame.f_globals, **frame.f_locals}
        for node in ast.walk(syntax_of(frame.f_code.co_filename)):
            made = isinstance(node, ast.Call) and len(node.args) == 1 and isinstance(node.args[0], ast.Call)
            if made and _holds(_bare(node.args[0]), name):  # type: ignore[attr-defined]
                return isinstance(value_of(node.func, names), nn.Module)  # type: ignore[attr-defined]
    return False


_READING = ("len", "print", "type", "isinstance")
_AS_IT_IS = ("as_tensor", "tensor", "from_numpy", "asarray", "array", "TensorDataset", "DataLoader", "zip")
_MOVED = ("to", "float", "double", "cuda", "cpu", "split")


def _is_changed_first(frame: Any, name: str) -> bool:
    """Whether a function passes a variable only to methods of objects that are no networks, which scale it before they
    call the network, as `self.predict(validation_data[0])` does."""
    tree = syntax_of(frame.f_code.co_filename)
    functions_of_file = nodes_in(tree, ast.FunctionDef)
    own: Iterator[ast.AST] = (node for node in functions_of_file if node.lineno == frame.f_code.co_firstlineno)
    calls = [
        node
        for node in nodes_in(next(own, tree), ast.Call)
        if called(node) not in _READING and any(_holds(part, name) for part in node.args)
    ]
    return bool(calls) and all(_scales_first(call, name, {**frame.f_globals, **frame.f_locals}) for call in calls)


def _holds(argument: ast.expr, name: str) -> bool:
    """Whether an argument is a variable or a part of it, not the result of a call."""
    return bool(name) and variable_of(argument) == name


_OF_SCALERS = ("predict", "predict_proba", "score", "fit", "transform", "fit_transform", "split")


def _scales_first(call: ast.Call, name: str, names: dict[str, Any]) -> bool:
    function = value_of(call.func, names)
    if isinstance(function, types.MethodType):
        return not isinstance(function.__self__, nn.Module) and _computes(function, _given_as(call, name, function))
    if callable(function) and type(function).__module__ == "__main__":  # an object that is called
        return not isinstance(function, nn.Module)
    return function is None and called(call) in _OF_SCALERS  # the object does not exist yet


def _given_as(call: ast.Call, name: str, method: types.MethodType) -> str:
    """The parameter of a method that a variable is passed for; empty where unknown."""
    place = next((n for n, part in enumerate(call.args) if _holds(_bare(part), name)), None)
    names = method.__func__.__code__.co_varnames[1 : method.__func__.__code__.co_argcount]
    return names[place] if place is not None and place < len(names) else ""


def _bare(node: ast.expr) -> ast.expr:
    """The expression inside conversions: `x` of `torch.as_tensor(x)` and `x.to(device)`."""
    while isinstance(node, ast.Call):
        if called(node) in _AS_IT_IS and node.args:
            node = node.args[0]
        elif isinstance(node.func, ast.Attribute) and node.func.attr in _MOVED:
            node = node.func.value
        else:
            break
    return node


def _computes(method: types.MethodType, name: str, depth: int = 3) -> bool:
    """Whether a method computes with one of its parameters, itself or in a method that it passes it to. True also where
    its code is not available, or nested too deeply."""
    tree = definition_of(method)
    if tree is None or not name or not depth:
        return True
    return any(_computes_here(node, method, name, depth) for node in ast.walk(tree))


def _computes_here(node: ast.AST, method: types.MethodType, name: str, depth: int) -> bool:
    if isinstance(node, ast.BinOp):
        return any(_holds(_bare(part), name) for part in (node.left, node.right))
    if isinstance(node, ast.Assign | ast.AugAssign):
        return _holds(_bare(node.value), name)
    if not isinstance(node, ast.Call) or not any(_holds(_bare(part), name) for part in node.args):
        return False
    if called(node) in (*_READING, *_AS_IT_IS):
        return False
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    function = value_of(node.func, {"self": method.__self__}) if owner is not None and _holds(owner, "self") else None
    if isinstance(function, types.MethodType):
        return _computes(function, _given_as(node, name, function), depth - 1)
    return not isinstance(function, nn.Module)


def _is_validation_pair(name: str, value: Any) -> bool:
    """Whether a variable is a tuple of validation inputs and one or more tensors of targets."""
    if not any(word in name.lower() for word in _VALIDATION) or not isinstance(value, tuple | list):
        return False
    lengths = {len(part) if isinstance(part, torch.Tensor) and part.ndim else 0 for part in value}
    return 2 <= len(value) <= _MOST_PARTS and len(lengths) == 1 and min(lengths) > 1
