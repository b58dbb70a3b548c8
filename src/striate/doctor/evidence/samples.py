"""The samples of a loader: the inputs that the network receives, and the targets that the loss receives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeGuard

import torch
from torch.nn import functional

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.read_batches import Batches
from striate.doctor.evidence.step_trace import StepTrace
from striate.doctor.setup.batch import Path, fields_of, is_binary, leaf, leaves, main_tensor, parts

_FEWEST_NUMBERED = 20


@dataclass(frozen=True)
class Samples:
    """Samples (N, …) in the loader's order."""

    name: str
    """`train` or `val`."""
    x: torch.Tensor | None
    """Input of the network; None where that is not one tensor of one shape."""
    y: torch.Tensor | None
    """Targets; None likewise."""
    x_path: Path | None
    """Where `x` is in a batch."""
    y_path: Path | None
    """Where `y` is in a batch."""
    alone: bool
    """Whether `x` is the network's only input."""
    plain: bool | None
    """Whether the loss is given `y` unchanged; None where the step does not call the loss."""
    batch: torch.Tensor
    """(N,) number of each sample's batch."""
    whole: bool
    """Whether these are all samples of an epoch."""
    classifies: bool
    """Whether the task is classification."""
    unlabeled: int | None = None
    """The label that stands for no class; None where there is none."""
    joined: torch.Tensor | None = None
    """(N, D) all inputs of the network concatenated, where these are several tables or columns; else None."""
    joined_paths: tuple[Path, ...] = ()
    """Their places in a batch."""

    @property
    def inputs(self) -> torch.Tensor:
        """The inputs (N, …). Raises NoEvidence where they are not one tensor."""
        if self.x is None or not len(self.x):
            raise NoEvidence("the inputs are not one tensor of one shape")
        return self.x

    @property
    def sole_inputs(self) -> torch.Tensor:
        """(N, …) all inputs of the network; several tables are concatenated. Raises NoEvidence where the network has
        further inputs."""
        if self.joined is not None and not self.alone:
            return self.joined
        if not self.alone:
            raise NoEvidence("the network has several inputs, which cannot be judged one by one")
        return self.inputs

    @cached_property
    def labels(self) -> torch.Tensor:
        """(N,) the targets as class numbers, by `class_numbers`. Raises NoEvidence where they are none."""
        found = class_numbers(self.y) if self.classifies else None
        if found is None:
            dense = "a class number for each position, not one a sample"
            raise NoEvidence(f"the targets are {'no class numbers' if self.maps is None else dense}")
        return found

    @cached_property
    def maps(self) -> torch.Tensor | None:
        """(N, *positions) int64 targets that are a class number for each position, -1 where unlabeled. None for other
        targets."""
        y = self.y
        if not self.classifies or y is None or y.ndim < 3 or y.is_floating_point() or y.is_complex() or not y.numel():
            return None
        y = y.long()
        return y if self.unlabeled is None else torch.where(y == self.unlabeled, -1, y)

    @cached_property
    def values(self) -> torch.Tensor:
        """(N,) float64 targets that are one number for each sample. Raises NoEvidence for other targets."""
        y = self.y
        if y is None or (self.classifies and class_numbers(y) is not None):
            raise NoEvidence("the targets are not numbers")
        flat = y.reshape(len(y), -1)
        if flat.shape[1] != 1 or len(flat.unique()) < 3:
            raise NoEvidence("the targets are not one number a sample")
        return flat[:, 0].double()


def training_samples(
    batches: Batches,
    first: StepTrace,
    classifies: bool,
    unlabeled: int | None = None,
    loss_targets: Sequence[torch.Tensor] = (),
    matters: Callable[[Path], bool] = lambda _: True,
) -> Samples:
    """The samples of the training batches. The traced step `first` shows which of a batch's tensors are inputs and
    targets. Where it does not call the setup's loss, and no name in a batch is that of targets, the targets are those
    that torch's losses receive, `loss_targets`. A last tensor of integers is no target where the loss does not depend
    on it: `matters(path)` tests whether it does."""
    batch = batches.raw[0]
    inputs, targets = (main_tensor(part) for part in parts(batch))
    arguments = [t for part in _listed(first.arguments) if (t := main_tensor(part)) is not None]
    x_path = _place(batch, arguments[0] if arguments else None) or _place(batch, inputs, same=True)
    y_path = _place(batch, first.loss_targets, last=True) or _place(batch, targets, same=True)
    if first.loss_targets is None and targets is inputs and isinstance(batch, Mapping):
        y_path = next(
            (path for path in (_place(batch, target) for target in loss_targets) if path and path != x_path), y_path
        )
    others = [path for path, tensor in leaves(batch) if path not in (x_path, y_path) and tensor.ndim]
    if others and (
        _numbers_samples(batches, y_path)
        or (first.loss_targets is None and _are_numbers(y_path, batch) and not matters(y_path))
    ):
        y_path = others[-1]
    plain = None
    if first.loss_targets is not None:
        own = leaf(batch, y_path) if y_path is not None else None
        plain = own is not None and _equal(own, first.loss_targets)
    # Without any sign of which tensor is the target, the target is the input.
    known = leaf(batch, y_path) if y_path not in (None, x_path) else None
    given = [tensor for tensor in arguments if known is None or not _equal(tensor, known)]  # without labels
    shown = leaf(batch, x_path) if x_path is not None else None
    given = given[:1] + [tensor for tensor in given[1:] if not _is_mask(tensor, shown)]
    alone = len(given) <= 1 and _others(batch, x_path, y_path) == 0
    found = Samples(
        "train", None, None, x_path, y_path, alone, plain, _numbers(batches), batches.whole, classifies, unlabeled
    )
    paths = () if alone else tuple(path for t in given if (path := _place(batch, t)) is not None)
    # Further calls of the network may have other arguments, as the second samples of pairs.
    joined = _joined(batches, paths) if len(paths) == len(given) and first.calls <= 1 else None
    x, y = gathered(batches.raw, x_path), _targets(batches, y_path)
    return replace(found, x=x, y=y, joined=joined, joined_paths=paths)


def _are_numbers(path: Path | None, batch: Any) -> TypeGuard[Path]:
    found = None if path is None else leaf(batch, path)
    return found is not None and found.ndim == 1 and not found.is_floating_point() and not found.is_complex()


def _numbers_samples(batches: Batches, path: Path | None) -> bool:
    """Whether these are integers without repetition: they number samples, not classes."""
    first = None if path is None else leaf(batches.raw[0], path)
    if first is None or first.ndim != 1 or first.is_floating_point() or first.is_complex():
        return False  # before gathering a tensor that may be large
    y = gathered(batches.raw, path)
    return y is not None and len(y) >= _FEWEST_NUMBERED and len(y.unique()) == len(y)


def _joined(batches: Batches, paths: Sequence[Path]) -> torch.Tensor | None:
    """(N, D) the tables and columns of every batch, concatenated; None where one has another shape."""
    found = [gathered(batches.raw, path) for path in paths]
    if not found or any(part is None or part.ndim > 2 or len(part) != batches.count for part in found):
        return None
    return torch.cat([part.reshape(len(part), -1).float() for part in found if part is not None], 1)


def targets_are_inputs(found: Samples, batch: Any, first: StepTrace, loss_targets: Sequence[torch.Tensor]) -> bool:
    """Whether the network receives the tensor in the place of the targets, as it receives items with users, and the
    losses have other class numbers, `loss_targets`. The tensor is no target then."""
    labels = None if found.y_path is None else leaf(batch, found.y_path)
    if labels is None or labels.is_floating_point() or labels.ndim != 1 or not loss_targets:
        return False
    given = [t for part in _listed(first.arguments) if (t := main_tensor(part)) is not None]
    if not any(tensor.shape == labels.shape and _equal(tensor, labels) for tensor in given):
        return False
    return all(not t.is_floating_point() and len(t) == len(labels) and not _equal(t, labels) for t in loss_targets)


def validation_samples(batches: Batches, train: Samples) -> Samples:
    """The samples of the validation batches, with inputs and targets in the same places as in training batches, or in
    the usual places."""
    batch = batches.raw[0]
    inputs, targets = (main_tensor(part) for part in parts(batch))
    places = {path for path, _ in leaves(batch)}
    x_path = train.x_path if train.x_path in places else _place(batch, inputs, same=True)
    y_path = train.y_path if train.y_path in places else _place(batch, targets, same=True)
    return replace(
        train,
        name="val",
        x=gathered(batches.raw, x_path),
        y=_targets(batches, y_path),
        x_path=x_path,
        y_path=y_path,
        batch=_numbers(batches),
        whole=batches.whole,
        joined=_joined(batches, train.joined_paths),
    )


def class_numbers(y: torch.Tensor | None) -> torch.Tensor | None:
    """(N,) targets as class numbers: integers, floats with two integer values, or probabilities (N, K) of classes; None
    for other targets."""
    if y is None or not y.numel() or y.is_complex():
        return None
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 1:
        if not y.is_floating_point():
            return y.long()
        values = y.unique()
        if is_binary(values):
            return y.long()
        # For example -1 and 1.
        return (y == values.max()).long() if len(values) == 2 and bool((values == values.round()).all()) else None
    if y.ndim == 2 and bool((y >= 0).all()) and torch.allclose(y.double().sum(1), torch.ones(len(y)).double()):
        return y.argmax(1)
    return None


def _listed(arguments: Sequence[Any]) -> list[Any]:
    if not arguments:
        return []
    args, kwargs = arguments
    whole = (*args, *kwargs.values())
    named = [part if hasattr(part, "_fields") else (fields_of(part) or {"": part}).values() for part in whole]
    return [own for parts_named in named for own in parts_named]


def _place(batch: Any, known: torch.Tensor | None, *, same: bool = False, last: bool = False) -> Path | None:
    """The place of a tensor in a batch: of the `same` object, or of the first (or `last`) tensor of equal numbers."""
    if known is None:
        return None
    found = [path for path, tensor in leaves(batch) if (tensor is known if same else _equal(tensor, known))]
    return found[-1 if last else 0] if found else None


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.numel() != other.numel() or not one.numel():
        return False
    a, b = one.detach().cpu().reshape(-1).double(), other.detach().cpu().reshape(-1).double()
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def _others(batch: Any, x_path: Path | None, y_path: Path | None) -> int:
    """The number of further tensors of a batch that may describe samples: those with more than one axis."""
    shown = leaf(batch, x_path) if x_path is not None else None
    return sum(
        path not in (x_path, y_path) and tensor.ndim > 1 and not _is_mask(tensor, shown)
        for path, tensor in leaves(batch)
    )


def _is_mask(tensor: torch.Tensor, tokens: torch.Tensor | None) -> bool:
    """Whether a tensor is a padding mask of tokens: zeros and ones, in their shape."""
    if tokens is None or tokens.is_floating_point() or tokens.ndim != 2 or tensor.shape != tokens.shape:
        return False
    return not tensor.is_floating_point() and is_binary(tensor)


def gathered(raw: Sequence[Any], path: Path | None) -> torch.Tensor | None:
    """(N, …) the tensors at `path` of every batch, concatenated; None where one is missing or shapes differ."""
    if path is None:
        return None
    found = [leaf(batch, path) for batch in raw]
    if any(tensor is None or not tensor.ndim for tensor in found):
        return None
    known = [tensor.detach().cpu() for tensor in found if tensor is not None]
    if all(tensor.ndim == 2 and not tensor.is_floating_point() for tensor in known):  # tokens, padded in each batch
        longest = max(tensor.shape[1] for tensor in known)
        known = [functional.pad(tensor, (0, longest - tensor.shape[1])) for tensor in known]
    if len({(tensor.shape[1:], tensor.dtype) for tensor in known}) != 1:
        return None
    return torch.cat(known)


def _targets(batches: Batches, path: Path | None) -> torch.Tensor | None:
    """The tensors at `path` of every batch; None where `path` leads into a list with an item for each sample."""
    listed = path is not None and any(isinstance(part, int) for part in path[1:])
    found = gathered(batches.raw, path)
    return None if listed and found is not None and len(found) != batches.count else found


def _numbers(batches: Batches) -> torch.Tensor:
    return torch.repeat_interleave(torch.arange(len(batches.sizes)), torch.tensor(batches.sizes))
