"""Arrays in memory: the order of their axes, whether they are images, and the kind of their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from striate.data.annotations.annotation_kinds import annotation_kind
from striate.data.annotations.classes import are_one_hot
from striate.data.annotations.inputs_as_targets import InputsAsTargets, refuse_other_than_images
from striate.data.config import Layout
from striate.data.dataset import Annotation, Kind
from striate.data.listing import Listing, order_classes
from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Preparation
from striate.data.media.pixels import as_pixels
from striate.errors import DataError
from striate.records import Finding, Remedy
from striate.wording import several, show_shape

_CHANNELS = (1, 3, 4)
_SIGNAL = 8
"""A grid with sides whose ratio is at least this is more likely a few signals."""
_MOST_SIGNALS = 16


def list_arrays(
    name: str,
    source: str,
    blocks: Mapping[str | None, tuple[np.ndarray, np.ndarray]],
    *,
    layout: Layout = "auto",
    class_names: Sequence[str] = (),
    features: tuple[str, ...] = (),
    target_names: tuple[str, ...] = (),
    ignored: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> Listing:
    """A listing of (inputs, targets) for each split (None: no splits are given).

    The path of a sample is its position, such as `train/00012`. Targets of shape (N, 0) stand for none. `class_names`:
    names of the classes 0, 1, …; without them the values are the names. Raises DataError where shapes, types or values
    do not fit.
    """
    ordered = sorted(blocks.items(), key=lambda item: item[0] or "")
    paths: list[str] = []
    given: list[str | None] = []
    for split, (x, y) in ordered:
        if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
            raise DataError(
                f"data {source}, {split or 'x and y'}",
                f"inputs of shape {x.shape} and targets of shape {y.shape}",
                "as many targets as inputs",
                "make the first axes equally long",
            )
        width = max(5, len(str(len(x) - 1)))
        paths += [f"{split}/{i:0{width}}" if split else f"{i:0{width}}" for i in range(len(x))]
        given += [split] * len(x)
    _check_equal(source, {split or "x": x.shape[1:] for split, (x, _) in ordered}, "inputs")
    _check_equal(source, {split or "y": y.shape[1:] for split, (_, y) in ordered}, "targets")
    x = np.concatenate([x for _, (x, _) in ordered]) if len(ordered) > 1 else ordered[0][1][0]
    y = np.concatenate([y for _, (_, y) in ordered]) if len(ordered) > 1 else ordered[0][1][1]
    if _is_one_hot(y):
        notes = (*notes, f"Targets: one 1 in each row of y {y.shape}, read as class numbers, y.argmax(1).")
        y = y.argmax(1)
    elif y.ndim == 2 and y.dtype.kind == "f" and are_one_hot(y):
        rows = f"floats with one 1 in each row of y {y.shape}"
        notes = (*notes, f"Targets: {rows}, read as classes unless the task reads numbers: --task regress.")
        target_names = target_names or tuple(class_names) or tuple(map(str, range(y.shape[1])))
    if x.size == 0:
        raise DataError(f"data {source}", f"inputs of shape {x.shape}", "at least one sample", "check the file")
    # Masks have height and width, so that the axes of the inputs are certain.
    certain = layout != "auto" or (y.ndim in (3, 4) and y.dtype.kind in "iub")
    if layout == "auto" and y.ndim == 4 and x.shape == y.shape:
        layout = "NDHW"
    axes, other = (_layout(x, layout, source), None) if certain else _likeliest(x, source)
    # "auto" stands for the likeliest order of axes, for these samples and for later ones.
    if axes != _likeliest(x, source)[0] or other is not None:
        layout = axes
    kind, inputs = as_inputs(x, axes, source, paths)
    annotation, labels, targets, classes = _as_targets(y, inputs, kind, source, class_names, paths)
    listing = Listing(
        name=name,
        source=source,
        kind=kind,
        annotation=annotation,
        paths=tuple(paths),
        labels=labels,
        given=tuple(given),
        targets=targets,
        classes=classes,
        indexed=annotation == "class" and not class_names and y.dtype.kind in "iub",
        inputs=inputs,
        features=features,
        target_names=target_names or (_target_names(targets, class_names) if annotation == "number" else ()),
        ignored=ignored,
        notes=notes,
        findings=() if other is None else (_doubt(source, x.shape[1:], kind, inputs.shape[1:], axes, other),),
        layout=layout,
    )
    if annotation == InputsAsTargets.name:
        refuse_other_than_images(listing)
    return annotation_kind("labels").retarget(listing, annotation_kind("number")) if _are_labels(y) else listing


def _are_labels(y: np.ndarray) -> bool:
    """Whether targets are certainly sets of labels: several columns of 0 and 1, and not always one 1 per row."""
    return _of_zero_one(y) and bool(y.any()) and not are_one_hot(y)


def _is_one_hot(y: np.ndarray) -> bool:
    """Whether targets are classes: several columns of the integers 0 and 1, with one 1 per row. Floats are numbers."""
    return y.ndim == 2 and y.dtype.kind in "iub" and are_one_hot(y)


def _of_zero_one(y: np.ndarray) -> bool:
    return y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind in "iubf" and bool(np.isin(y, (0, 1)).all())


def _doubt(
    source: str, given: tuple[int, ...], kind: Kind, shape: tuple[int, ...], axes: Layout, other: Layout
) -> Finding:
    """`data.layout`: another order of axes is also likely."""
    sizes = dict(zip(other[1:], given, strict=True))
    otherwise = medium_of("grid").describe((sizes.pop("C", 1), *sizes.values()))
    return Finding(
        code="data.layout",
        severity="warning",
        where=source,
        measured=f"samples of {show_shape(given)} are read as {axes}, {medium_of(kind).describe(shape)}",
        threshold="a known order of axes",
        why=f"As {other} they would be {otherwise}; the file does not say which axis is which.",
        remedy=Remedy(
            f"--data.layout {other} if the axes are {other}; --data.layout {axes} confirms the present order.",
            settings={"data.layout": other},
        ),
    )


def as_inputs(x: np.ndarray, axes: Layout, source: str, paths: Sequence[str]) -> tuple[Kind, np.ndarray]:
    """The medium and the inputs of arrays with these `axes`: `image` and (N, C, H, W) uint8, or `grid` / `table` and
    float32 with channels first.

    Images are arrays of H × W with 1 or 3 channels whose values are integers 0 to 255, or exactly k/255.
    """
    if x.dtype.kind not in "uifb":
        raise DataError(f"data {source}", f"inputs of type {x.dtype}", "numbers", "save x as uint8 or float32")
    if axes == "NF":
        return "table", _as_float32(x, source, paths)
    x = np.moveaxis(x, axes.index("C"), 1) if "C" in axes else x[:, None]
    if axes in ("NHW", "NHWC", "NCHW") and x.shape[1] in (1, 3):
        pixels = as_pixels(x)
        if pixels is not None:
            return "image", np.ascontiguousarray(pixels)
    return "grid", _as_float32(x, source, paths)


def inputs_like(x: np.ndarray, preparation: Preparation, source: str) -> np.ndarray:
    """Raw inputs (N, *input_shape) of a network that was trained with `preparation`, from arrays (N, …) or one sample.
    Raises DataError for another shape."""
    x = x[None] if x.shape == preparation.input_shape else x
    paths = [f"{number:05}" for number in range(len(x))] if x.ndim else []
    wanted, medium = (len(x) if x.ndim else 0, *preparation.input_shape), medium_of(preparation.kind)
    if x.ndim == 0 or x.dtype.kind not in "uifb":
        inputs = x
    elif not medium.pictures and x.shape == wanted:
        inputs = _as_float32(x, source, paths)
    else:
        known = preparation.layout != "auto" and len(preparation.layout) == x.ndim
        axes = preparation.layout if known else _likeliest(x, source)[0]
        kind, inputs = as_inputs(x, axes, source, paths)
        if kind == preparation.kind:
            inputs = medium.refit(inputs, preparation)
        elif not medium.pictures:
            inputs = inputs.astype(np.float32)
    if inputs.shape != wanted or inputs.dtype != np.dtype(medium.dtype):
        raise DataError(
            f"data {source}",
            f"an array of shape {x.shape} and type {x.dtype}",
            f"{medium.describe(preparation.input_shape)}, which the network was trained on",
            "save samples as the training data were saved, along the first axis",
        )
    return inputs


def _likeliest(x: np.ndarray, source: str) -> tuple[Layout, Layout | None]:
    """The likeliest order of axes, and another one if it is also likely."""
    axes = _layout(x, "auto", source)
    sizes = x.shape[1:]
    if axes == "NHW":
        few, many = sorted(sizes)
        if few <= _MOST_SIGNALS and many >= _SIGNAL * few:
            return ("NCL" if sizes[0] == few else "NLC"), "NHW"
    elif axes == "NHWC" and sizes[0] in _CHANNELS:
        return "NHWC", "NCHW"
    elif axes == "NCHW" and sizes[0] > max(_CHANNELS):
        if len(set(sizes)) == 1:
            return "NDHW", "NCHW"
        if sizes[0] == sizes[1] > sizes[2]:
            return "NHWC", "NCHW"
        return "NCHW", "NDHW"
    elif axes == "NCDHW" and sizes[0] > max(_CHANNELS):
        return ("NDHWC", "NCDHW") if sizes[-1] in _CHANNELS else ("NCDHW", "NDHWC")
    return axes, None


def _layout(x: np.ndarray, layout: Layout, source: str) -> Layout:
    """The given order of axes, or the usual one for this number of axes."""
    if layout == "auto":
        usual: dict[int, Layout] = {2: "NF", 3: "NHW", 4: "NHWC" if x.shape[-1] in _CHANNELS else "NCHW", 5: "NCDHW"}
        if x.ndim not in usual:
            raise DataError(
                f"data {source}",
                f"inputs of shape {x.shape}, {several(x.ndim, 'axis', 'axes')}",
                "2 axes (NF), 3 (NHW, NCL), 4 (NHWC, NCHW, NDHW) or 5 (NCDHW, NDHWC)",
                "reshape x",
            )
        return usual[x.ndim]
    if len(layout) != x.ndim:
        raise DataError(
            "data.layout",
            f"{layout}, {several(len(layout), 'axis', 'axes')}, for inputs of shape {x.shape}",
            f"a layout of {several(x.ndim, 'axis', 'axes')}",
            "--data.layout auto",
        )
    return layout


def _as_float32(x: np.ndarray, source: str, paths: Sequence[str]) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(x, dtype=np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise DataError(
            f"data {source}, sample {paths[place[0]]}, position {place[1:]}",
            f"{x.reshape(values.shape)[place]} ({several(int((~finite).sum()), 'such value')} in all)",
            "finite numbers that float32 can hold",
            "replace these values, or leave the samples out",
        )
    return values


def _as_targets(
    y: np.ndarray, inputs: np.ndarray, kind: Kind, source: str, names: Sequence[str], paths: Sequence[str]
) -> tuple[Annotation, tuple[str, ...], np.ndarray | None, tuple[str, ...]]:
    where = f"data {source}, targets"
    if y.ndim == 2 and not y.shape[1]:
        return InputsAsTargets.name, ("",) * len(y), None, ()
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.dtype.kind in "iub" and (y.ndim == 3 or (y.ndim == 4 and inputs.ndim == 5)):
        return _as_masks(y, inputs, kind, where, paths)
    if y.ndim in (1, 2) and (y.dtype.kind == "f" or _are_labels(y)):
        numbers = _as_float32(y.reshape(len(y), -1), source + ", targets", paths)
        return "number", tuple(" ".join(f"{v:g}" for v in row) for row in numbers), numbers, ()
    if y.ndim != 1 or y.dtype.kind not in "iubUS":
        raise DataError(
            where,
            f"shape {y.shape} of type {y.dtype}",
            "(N,) class numbers or names, (N, K) labels of 0 and 1, (N,) or (N, T) numbers as floats, or (N, H, W) or"
            " (N, D, H, W) masks as integers",
            "save y as floats if it is numbers: y=y.astype('float32')"
            if y.ndim == 2 and y.dtype.kind in "iu"
            else "reshape y",
        )
    values, positions = np.unique(y, return_inverse=True)
    if names:
        if values[0] < 0 or values[-1] >= len(names):
            got = f"class numbers from {values[0]} to {values[-1]}"
            raise DataError(where, got, f"0 to {len(names) - 1}", "get the files again")
        found = [names[int(v)] for v in values]
        classes = tuple(names[int(v)] for v in values)
    else:
        found = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(_plain(v)) for v in values]
        classes = order_classes(found)
    to_class = np.array([classes.index(name) for name in found], dtype=np.int64)
    targets = to_class[positions.reshape(-1)]
    return "class", tuple(classes[t] for t in targets.tolist()), targets, classes


def _plain(value: np.generic) -> object:
    return int(value) if isinstance(value, np.bool_) else value.item()


def _as_masks(
    y: np.ndarray, inputs: np.ndarray, kind: Kind, where: str, paths: Sequence[str]
) -> tuple[Annotation, tuple[str, ...], np.ndarray, tuple[str, ...]]:
    if medium_of(kind).flat or y.shape[1:] != inputs.shape[2:]:
        raise DataError(
            where,
            f"masks of {y.shape[1:]} for inputs of {inputs.shape[1:]}",
            "a mask value for each pixel",
            "make the masks as large as the images",
        )
    if y.dtype.kind != "b" and (y.min() < 0 or y.max() > 255):
        raise DataError(where, f"mask values from {y.min()} to {y.max()}", "0 to 255", "number the classes 0 to 254")
    return "mask", tuple(paths), y.astype(np.uint8), ()


def _target_names(targets: np.ndarray | None, names: Sequence[str] = ()) -> tuple[str, ...]:
    assert targets is not None, "targets that are numbers have columns"
    if len(names) == targets.shape[1]:
        return tuple(names)
    return ("y",) if targets.shape[1] == 1 else tuple(f"y{i}" for i in range(targets.shape[1]))


def _check_equal(source: str, shapes: dict[str, tuple[int, ...]], what: str) -> None:
    if len(set(shapes.values())) > 1:
        got = ", ".join(f"{split}: {shape}" for split, shape in shapes.items())
        raise DataError(f"data {source}, {what}", got, "one shape in all splits", "make the shapes equal")
