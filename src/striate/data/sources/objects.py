"""Data that are given in Python: arrays, tensors, a torch Dataset or DataLoader, a Dataset of Hugging Face."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from striate.data.config import Layout
from striate.data.listing import SPLIT_NAMES, Listing
from striate.data.progress import announce_tenths
from striate.data.sources.arrays import list_arrays
from striate.data.sources.named import typed_source
from striate.errors import DataError
from striate.wording import listed, several, type_of


class Samples(Protocol):
    """A map-style dataset: torch's, with samples (input, target), or Hugging Face's, with rows."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Any: ...


class Loader(Protocol):
    """The part of a `torch.utils.data.DataLoader` that is used."""

    @property
    def dataset(self) -> Any:
        """Its samples."""


Part = tuple[Any, Any] | list[Any] | Samples | Loader
"""Inputs and targets (x, y), as arrays or tensors, or a data set with both; inputs alone for a task without targets."""
Data = str | Path | Part | Mapping[str, Part] | None
"""A name or path; a `Part`; a mapping from `train`, `val`, `test` to parts; None for the default."""

_GIVEN = "given in Python: "
_EXPECTED = 'a name or path, (x, y), {"train": (x, y), "test": (x, y)}, a Dataset or a DataLoader'
# Usual names of columns in data sets of Hugging Face.
_INPUTS = ("image", "img", "pixel_values", "x", "input", "inputs", "features", "data")
_TARGETS = ("label", "labels", "target", "targets", "y", "class", "fine_label", "annotation", "mask", "value")
_NUMBERS = int | float | np.number | np.bool_
_Blocks = dict[str | None, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class _Objects:
    """The given data as arrays by split, with names of classes where they have any, and notes."""

    name: str
    blocks: _Blocks
    classes: tuple[str, ...]
    notes: tuple[str, ...]


_held: dict[str, _Objects] = {}


def is_given_data(source: str) -> bool:
    """Whether a source stands for data that were given in Python."""
    return source.startswith(_GIVEN)


@contextmanager
def given_data(data: Data, announce: Callable[[str], None] | None = None) -> Iterator[str | None]:
    """The source that stands for `data` in a configuration while the body runs; None where there are none. Arrays are
    released after it. Raises DataError for anything else."""
    if data is None or isinstance(data, str | Path):
        yield None if data is None else typed_source(str(data))
        return
    objects = _read(data, announce)
    source = f"{_GIVEN}{objects.name} {_digest(objects.blocks)}"
    before = _held.get(source)
    _held[source] = objects
    try:
        yield source
    finally:
        if before is None:
            del _held[source]


def list_given(source: str, layout: Layout, *, needs_targets: bool = True) -> Listing:
    """The given samples for which this source stands. Raises DataError outside the call that they were given to, and
    for inputs alone if `needs_targets`."""
    found = _held.get(source)
    if found is None:
        raise DataError(
            f"data {source}",
            "data that were given in Python and are not in a file",
            "the same data again, as an argument",
            "in Python: striate.evaluate(run, (x, y)), striate.robustness(run, (x, y)), "
            "striate.export(run, data=(x, y)), striate.api.resume(run, data=(x, y)), "
            "or striate.train((x, y), config='RUN/config.yaml'); commands and other functions need a file: "
            "np.savez('data.npz', x=x, y=y), and a run that was trained on data.npz",
        )
    if needs_targets and any(y.shape[1:] == (0,) for _, y in found.blocks.values()):
        remedy = "(x, y); or task='reconstruct', which needs no targets"
        raise DataError("data", "inputs without targets", _EXPECTED, remedy)
    return list_arrays(found.name, source, found.blocks, layout=layout, class_names=found.classes, notes=found.notes)


def _read(data: Any, announce: Callable[[str], None] | None) -> _Objects:
    if isinstance(data, Mapping):
        unknown = [str(name) for name in data if str(name).lower() not in SPLIT_NAMES]
        if unknown or not data:
            got = f"a mapping with {', '.join(unknown) or 'nothing'}"
            raise DataError("data", got, "the splits train, val and test", '{"train": (x, y), "test": (x, y)}')
        parts: dict[str | None, _Objects] = {
            SPLIT_NAMES[name.lower()]: _block(part, f"data[{name!r}]", announce) for name, part in data.items()
        }
    else:
        parts = {None: _block(data, "data", announce)}
    first = next(iter(parts.values()))
    notes = tuple(dict.fromkeys(note for part in parts.values() for note in part.notes))
    return _Objects(first.name, {split: part.blocks[None] for split, part in parts.items()}, first.classes, notes)


def _block(data: Any, where: str, announce: Callable[[str], None] | None) -> _Objects:
    """One split."""
    # A list of two lists may be two samples; a tuple of two is (x, y).
    samples = tuple if isinstance(data, tuple) else (tuple, list)
    if isinstance(data, tuple | list) and len(data) == 2 and not isinstance(data[0], samples):
        return _Objects("arrays", {None: (_array(data[0], where), _array(data[1], where))}, (), ())
    if hasattr(data, "dtype") and data.ndim > 1:  # inputs alone
        x = _array(data, where)
        return _Objects("arrays", {None: (x, _no_targets(len(x)))}, (), ())
    notes: tuple[str, ...] = ()
    chosen: Sequence[int] | None = None
    # torch takes a second to load: a loader is known by what it has.
    if hasattr(data, "dataset") and hasattr(data, "batch_size"):
        _refuse_own_collate(data, where)
        loader, data = data, data.dataset
        if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
            chosen, notes = _drawn_by(loader, where)
    endless = hasattr(data, "__iter__") and not hasattr(data, "__len__")
    if endless or isinstance(data, Sequence) or hasattr(data, "dtype") or not hasattr(data, "__getitem__"):
        got = type_of(data) + (" that can only be iterated over" if endless else "")
        remedy = "give it __len__ and __getitem__(number), which returns (input, target)" if endless else "(x, y)"
        raise DataError(where, got, _EXPECTED, remedy)
    return _from_dataset(data, where, chosen, notes, announce)


def _no_targets(*shape: int) -> np.ndarray:
    """Targets of samples that have none."""
    return np.empty((*shape, 0), np.float32)


def _refuse_own_collate(loader: Any, where: str) -> None:
    """Raise DataError for a loader with its own `collate_fn`: samples are read one by one, without it."""
    collate = getattr(loader, "collate_fn", None)
    if collate is None or str(getattr(collate, "__module__", "")).startswith("torch.utils.data"):
        return
    raise DataError(
        f"{where}, collate_fn",
        f"a DataLoader with {getattr(collate, '__name__', type(collate).__name__)} as its own collate_fn",
        "samples that do not need it, since they are read one by one",
        "give loader.dataset, if its samples do not need it; else do in its __getitem__ what collate_fn does",
    )


def _drawn_by(loader: Any, where: str) -> tuple[Sequence[int] | None, tuple[str, ...]]:
    """The samples of its dataset that a DataLoader draws, in the order of the dataset, None for all; and notes on what
    is not taken from it."""
    count = len(loader.dataset)
    sampler = getattr(loader, "batch_sampler", None)
    if sampler is None:
        sampler = getattr(loader, "sampler", None)
    elif type(sampler).__module__.startswith("torch."):
        sampler = sampler.sampler  # without `drop_last`, which concerns batches only
    kept = "the run decides the order and size of batches (--batch)."
    whole = f"From the DataLoader only its dataset was taken: {kept}"
    if sampler is None:
        return None, (whole,)
    name = type(sampler).__name__
    drawn = _members(sampler, count)
    if drawn is None:
        why = f"{name} draws other samples in each epoch, so all {count:,} were taken"
        return None, (f"From the DataLoader only its dataset was taken: its {why}; {kept}",)
    if not drawn:
        raise DataError(f"{where}, sampler", f"a {name} that draws nothing", "at least one sample", "check its indices")
    if not 0 <= min(drawn) <= max(drawn) < count:
        got = f"a {name} that draws samples {min(drawn)} to {max(drawn)} of {count:,}"
        raise DataError(f"{where}, sampler", got, f"numbers from 0 to {count - 1}", "check its indices")
    weights = getattr(sampler, "weights", None)
    uneven = weights is not None and len({float(weight) for weight in weights} - {0.0}) > 1
    more = " Sampling frequencies were not taken: --task.class_weights balanced weights classes." if uneven else ""
    if len(drawn) == count:
        return None, (whole + more,)
    return drawn, (
        f"From the DataLoader the {len(drawn):,} of {several(count, 'sample')} that its {name} draws were taken: "
        f"{kept}{more}",
    )


def _members(sampler: Any, count: int) -> list[int] | None:
    """The samples that a sampler draws in each pass, in order; None where they differ from pass to pass."""
    if hasattr(sampler, "num_replicas"):  # a DistributedSampler: a run divides samples among processes itself
        return list(range(count))
    if hasattr(sampler, "weights"):  # a WeightedRandomSampler: samples of weight 0 are never drawn
        return [number for number, weight in enumerate(sampler.weights) if float(weight) > 0]
    if hasattr(sampler, "replacement") and hasattr(sampler, "data_source"):  # RandomSampler
        among = len(sampler.data_source)
        return list(range(among)) if sampler.replacement or sampler.num_samples >= among else None
    with _same_draws(sampler):
        first, second = _one_pass(sampler, count), _one_pass(sampler, count)
    return None if first is None or first != second else sorted(first)


_MOST_DRAWN = 100
"""A sampler that draws more than so many times the size of its dataset is taken to be endless."""


def _one_pass(sampler: Any, count: int) -> set[int] | None:
    """The numbers in one pass of a sampler, or of a sampler of batches; None where they are not numbers, or endless."""
    drawn = set[int]()
    passed = 0
    for one in sampler:
        numbers = one if isinstance(one, list | tuple) else [one]
        passed += len(numbers)
        if passed > _MOST_DRAWN * count:
            return None
        try:
            drawn.update(int(number) for number in numbers)
        except (TypeError, ValueError):
            return None
    return drawn


@contextmanager
def _same_draws(sampler: Any) -> Iterator[None]:
    """Restores the random states that a sampler may draw from."""
    import torch

    generator: Any = getattr(sampler, "generator", None)
    own = generator.get_state() if isinstance(generator, torch.Generator) else None
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            if own is not None:
                generator.set_state(own)


def _from_dataset(
    data: Any,
    where: str,
    chosen: Sequence[int] | None,
    notes: tuple[str, ...],
    announce: Callable[[str], None] | None,
) -> _Objects:
    """The samples of a map-style dataset, or the `chosen` ones, read once."""
    name = type(data).__name__
    try:
        count = len(data)
    except (TypeError, NotImplementedError):
        raise DataError(where, f"a {name} without a length", "a map-style Dataset", "give it __len__") from None
    if not count:
        raise DataError(where, f"a {name} without samples", "at least one", "check how it was made")
    numbers = range(count) if chosen is None else chosen
    progress = announce_tenths(f"Reading {name}", len(numbers), "samples", announce)
    inputs, targets = [], []
    columns: tuple[str, str] | None = None
    for number in numbers:
        try:
            sample = data[number]
        except Exception as error:
            error.add_note(f"for sample {number} of {where}: {name}.__getitem__({number})")
            raise
        if isinstance(sample, Mapping):
            columns = columns or _columns(sample, where)
            sample = tuple(sample.get(column) for column in columns)
        if hasattr(sample, "dtype"):
            sample = (sample,)
        if isinstance(sample, tuple | list) and len(sample) == 1:  # as in TensorDataset(x)
            sample = (*sample, _no_targets())
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            got = f"a {type(sample).__name__}" + (f" of {len(sample)}" if isinstance(sample, tuple | list) else "")
            raise DataError(f"{where}[{number}]", got, "(input, target)", "return both, and nothing else")
        inputs.append(_array(sample[0], f"{where}[{number}]"))
        targets.append(_array(sample[1], f"{where}[{number}]"))
        progress(1)
    for what, found in (("inputs", inputs), ("targets", targets)):
        odd = next((k for k, one in enumerate(found) if one.shape != found[0].shape), None)
        if odd is not None:
            got = f"{what} of shape {found[odd].shape}, and {found[0].shape} in sample {numbers[0]}"
            raise DataError(f"{where}[{numbers[odd]}]", got, "one shape in all samples", _how_to_resize(columns))
    feature = getattr(data, "features", {})[columns[1]] if columns and hasattr(data, "features") else None
    classes = getattr(data, "classes", None) or getattr(feature, "names", None) or ()
    named = isinstance(classes, list | tuple) and all(isinstance(one, str) for one in classes)
    return _Objects(name, {None: (np.stack(inputs), np.stack(targets))}, tuple(classes) if named else (), notes)


def _columns(row: Mapping[str, Any], where: str) -> tuple[str, str]:
    """The names of the input and target columns. Raises DataError, which says how to choose them, for other names."""
    found = [[name for name in known if name in row] for known in (_INPUTS, _TARGETS)]
    if all(found):
        return found[0][0], found[1][0]
    remedy = 'data.rename_columns({"…": "image", "…": "label"}), or (x, y)'
    got = f"rows with the columns {listed(list(map(str, row)), 8)}"
    raise DataError(where, got, f"one of {', '.join(_INPUTS[:4])} and one of {', '.join(_TARGETS[:5])}", remedy)


def _how_to_resize(columns: tuple[str, str] | None) -> str:
    if columns is None:
        return "resize them in the Dataset"
    return f'data.map(lambda row: {{"{columns[0]}": row["{columns[0]}"].convert("RGB").resize((96, 96))}})'


def _array(values: Any, where: str) -> np.ndarray:
    """An array from a tensor, picture, number or nested list, of numbers or of texts; pandas keeps both as objects."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        remedy = "give it as float32: x.float()" if "BFloat16" in reason else "stack it first"
        raise DataError(where, f"{type(values).__name__}: {reason}", "an array of numbers", remedy) from None
    if array.dtype != object:
        return array
    members = array.ravel().tolist()
    if members and any(all(isinstance(one, kind) for one in members) for kind in (str, _NUMBERS)):
        return np.array(members).reshape(array.shape)
    got = f"{type(values).__name__} of Python objects ({listed(sorted({type(one).__name__ for one in members}))})"
    mixed = all(isinstance(one, str | _NUMBERS | None) for one in members)
    remedy = "leave out what has no value, and give only numbers or only texts" if mixed else "stack it first"
    raise DataError(where, got, "an array of numbers or of texts", remedy)


def _digest(blocks: _Blocks) -> str:
    """A digest of shapes, types and content; 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for split, arrays in sorted(blocks.items(), key=lambda item: item[0] or ""):
        for array in arrays:
            digest.update(f"{split} {array.shape} {array.dtype.str};".encode())
            digest.update(np.ascontiguousarray(array).data if array.size else b"")
    return digest.hexdigest()[:12]
