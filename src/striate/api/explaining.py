"""Why a network predicts what it does for one input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from striate.api.announcing import Announce
from striate.api.keywords import known_keywords
from striate.api.networks import load, with_rule_of
from striate.api.subject import find_subject, game_state
from striate.api.training import Run
from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Placement
from striate.data.predict_inputs import row_named
from striate.errors import DataError, ModelError, StriateError, UsageError, pasted
from striate.evaluation.similarity.vectors import sample_features
from striate.exporting.exported_file import require_layers
from striate.inference.any_size import filled_up, takes
from striate.inference.predictor import plain_predictor
from striate.models.check import refuse_without_numbers
from striate.models.preserved_state import on_trial, trial_copy
from striate.observe.module_calls import forward_hooks
from striate.runs.directory import open_run
from striate.runs.files import user_path, write_text
from striate.tasks.config import ByClass
from striate.tasks.control.network import as_input as as_input_of
from striate.training.config_file import config_from_yaml
from striate.training.prepare import read_data
from striate.training.refusals import number_format_explained
from striate.training.rewards.player import Player, load_player, plays
from striate.training.trained import Prediction, Trained
from striate.visualize.attribution.attribute import RequestedMethod, attribute, require_method
from striate.visualize.attribution.change import Covering, Nudge, smallest_covering, smallest_nudge
from striate.visualize.attribution.checks import Maps
from striate.visualize.attribution.explanation_record import Explanation, NudgeShown
from striate.visualize.attribution.nearest import Nearest, find_nearest
from striate.visualize.attribution.question import Question, make_question
from striate.visualize.inside.passes import as_input
from striate.visualize.picture import names_sample, sample_input
from striate.wording import number, several, show_shape, type_of

if TYPE_CHECKING:
    from striate.training.trained import Input


Bounds = tuple[torch.Tensor, torch.Tensor]
Compute = Callable[[Question, Bounds | None], tuple[Maps, Covering | None, Nudge | None]]
"""Computes the maps of a question, and changes within the bounds of values."""


@known_keywords
def explain(
    run_or_trained: str | Path | Run | Trained | nn.Module,
    image: Input,
    method: RequestedMethod = "auto",
    *,
    cost: ByClass = None,
    threshold: ByClass = None,
    part: str | None = None,
    box: int | str | None = None,
    pixel: str | tuple[int, int] | None = None,
    point: str | None = None,
    announce: Announce | None = None,
) -> Explanation:
    """Explain the prediction for `image`: attribution maps, each with checks of how far to trust it; the smallest
    change that changes the prediction; and, of a run, the most similar training images.

    `image` as in `Trained.predict`: a path, a PIL image, or a raw array of the training shape; or a sample of a named
    data set (`mnist5k#17`); for a table, its numbers, also as text (`"5.1,3.5,1.4,0.2"`); of arrays and tables also a
    sample in a file (`"new.npz#3"`). For an `nn.Module`, which has no preparation, a normalized tensor (C, *spatial) or
    (F,). `method`: `saliency`, `integrated-gradients`, `smoothgrad`, `grad-cam` or `occlusion`; `auto` tries all of
    these, and several layers for Grad-CAM; by name only: `deconvnet` and `guided-backprop`. `cost` and `threshold` of a
    run say how its class is chosen, as in `load`. To explain one part of the prediction: a `box` by its number, from 1,
    in the order of `predict`; a `pixel` (x, y) of the file; a `point` by its name; `part` is whichever of these the run
    has. `announce` gets a line before minutes of computing. The network stays as it is, bit for bit.
    Raises UsageError for an unknown method, and for a part that the prediction does not have; DataError for an input
    that cannot be read; ModelError where the method does not support the network.
    """
    require_method(method)
    compute = partial(_maps_and_changes, method, announce or (lambda _: None))
    requested = _requested_part(part=part, box=box, pixel=pixel, point=point)
    kinds: tuple[type, ...] = (str, Path, Run, Trained, nn.Module)
    if not isinstance(run_or_trained, kinds):
        expected = "a run, what striate.load gives, or an nn.Module"
        raise UsageError("explain", type_of(run_or_trained), expected, 'striate.explain("runs/NAME", image)')
    with torch.inference_mode(False):  # gradients are needed, wherever this is called
        if isinstance(run_or_trained, nn.Module):
            expected = "a run, whose task defines classes and parts"
            if requested:
                got = f"{requested[0]} {requested[1]} for an nn.Module"
                raise UsageError("explain", got, expected, f"leave out {requested[0]}")
            _refuse_rule(cost, threshold, "an nn.Module", expected)
            return _explain_module(run_or_trained, image, compute)
        return _explain(run_or_trained, image, compute, cost, threshold, requested)


Part = tuple[str, str]
"""The kind of part (`box`, `pixel`, `point`, or `part` for whichever the task has), and which one of them."""


def _requested_part(**given: object) -> Part | None:
    """The requested part as text; None without one. Raises UsageError for several."""
    named = [
        (kind, ",".join(map(str, value)) if isinstance(value, tuple) else str(value).strip())
        for kind, value in given.items()
        if value is not None
    ]
    if len(named) > 1:
        got = " and ".join(f"--{kind} {value}" for kind, value in named)
        raise UsageError("explain", got, "one part of the prediction", f"leave out --{named[1][0]}")
    return named[0] if named else None


def _refuse_rule(cost: ByClass, threshold: ByClass, network: str, expected: str) -> None:
    """Raise UsageError for a decision rule with a network that has no classes to choose from."""
    for name, value in (("cost", cost), ("threshold", threshold)):
        if value:
            raise UsageError("explain", f"{name} {value} for {network}", expected, f"leave out {name}")


def _explain(
    given: str | Path | Run | Trained,
    image: Any,
    compute: Compute,
    cost: ByClass,
    threshold: ByClass,
    part: Part | None,
) -> Explanation:
    path = given.path if isinstance(given, Run) else given
    require_layers(path)
    if not isinstance(path, Trained) and plays(path):
        _refuse_rule(cost, threshold, "a network that plays", "a run of classes or labels")
        return _explain_state(load_player(path), image, compute, str(path), part)
    if isinstance(path, Trained):
        trained = with_rule_of(path.run or Path(), path, cost, threshold)
    else:
        trained = load(path, cost=cost, threshold=threshold)
    _refuse_input(trained)
    network = type(trained.module).__name__ if isinstance(path, Trained) else str(path)
    if part is not None:
        part = _known_part(trained, part)
    raw, name = _read(trained, image, network)
    placed = _placed(trained, image)
    filled: tuple[str, ...] = ()
    if placed is not None:
        raw, placed, filled = _at_native_scale(trained, image, raw, placed)
    if part is not None and part[0] == "pixel" and placed is not None:
        raw, part = _around_pixel(trained, image, raw, placed, part[1])
    volume = _predicted_volume(trained, image)
    explained = _explain_trained(
        trained, raw, compute, name, network, None if part is None else part[1], placed, volume
    )
    explained = replace(explained, notes=(*explained.notes, *filled))
    medium = medium_of(trained.preparation.kind)
    if medium.player and isinstance(image, str | Path):
        explained = replace(explained, played=medium.played(Path(image), str(image), trained.preparation))
    if isinstance(path, Trained):
        missing = "No training samples to compare with: a network without its run has no data; name its run."
        return replace(explained, nearest=Nearest(missing=missing))
    return _with_data(explained, trained, Path(path))


def _explain_state(player: Player, step: Any, compute: Compute, network: str, part: Part | None) -> Explanation:
    """Explain which pixels of a state of a game determine the value of the action that is taken."""
    if part is not None:
        raise UsageError(
            f"--{part[0]}", part[1], "no part: the explanation is for the action taken", f"leave out --{part[0]}"
        )
    state, reached = game_state(player, step)
    action, x = int(state.best[0]), as_input_of(state.stacks)
    copy = trial_copy(player.module)
    with on_trial(copy), torch.enable_grad():
        question = make_question(copy, x, action, kind="number")
        maps, covering, nudge = compute(question, None)
    name, value = player.actions[action], float(state.values[0, action])
    every = ", ".join(f"{one} {number(v, 3)}" for one, v in zip(player.actions, state.values[0].tolist(), strict=True))
    return Explanation(
        f"step {reached} of a game of {player.source}",
        network,
        {"value": value, "action": name, "values": dict(zip(player.actions, state.values[0].tolist(), strict=True))},
        (),
        np.ascontiguousarray(state.pictures[0].transpose(2, 0, 1)),
        (),
        maps,
        covering,
        None if nudge is None else _in_input_units(nudge, x, player.actions),
        Nearest(missing="No training samples to compare with: the network learned from playing."),
        (f"Return so far: {number(float(state.returns[0]))}. Outputs for each action: {every}.",),
        f"{name}, {number(value, 3)}",
        f"the output of the action {name}",
    )


def write_explanation(explained: Explanation, path: str | Path) -> None:
    """Write the explanation as one HTML page that needs nothing else. Raises RunError where it cannot be written."""
    from striate.report.explanation import explanation_page  # templates load only where they are needed

    write_text(Path(path), explanation_page(explained))


def _refuse_input(trained: Trained) -> None:
    """Raise UsageError for a network whose input is a signal of one axis."""
    shape = trained.preparation.input_shape
    if len(shape) == 2:
        expected = "images (channels, height, width), clips, volumes, or tables"
        raise UsageError("RUN", f"inputs of {show_shape(shape)}", expected, "use striate predict")


def _known_part(trained: Trained, part: Part) -> Part:
    """The part with its kind as the task names it. Raises UsageError where its predictions have no such parts."""
    kind, which = part
    own = trained.task.explains
    if kind in ("part", own) or not own:
        if not own and kind != "part":
            got, expected = f"a run of the task {trained.task.name}", "a run whose predictions have such parts"
            raise UsageError(f"--{kind}", got, expected, f"leave out --{kind}")
        return own or kind, which
    example = {"box": "1", "pixel": "40,30"}.get(own, "NAME")
    raise UsageError(f"--{kind}", which, f"a {own}, for this run", f"--{own} {example}")


def _placed(trained: Trained, image: Any) -> Placement | None:
    """Where a file lies in the input; None of an array that is already the input."""
    path = isinstance(image, str | Path) and not names_sample(str(image))
    return trained.placed(image) if path or hasattr(image, "getexif") else None


def _at_native_scale(
    trained: Trained, image: Any, raw: np.ndarray, placed: Placement
) -> tuple[np.ndarray, Placement, tuple[str, ...]]:
    """The input for a picture that is smaller than the network's input and predicted at its own scale, where the file
    lies in it, and notes. Other pictures are returned unchanged."""
    if not (trained.reads_whole and trained.preparation.native) or (np.array(placed.file) >= placed.canvas).all():
        return raw, placed, ()
    whole = trained.read(image)[0]
    normalize = trained.normalization.on(trained.device, whole.ndim + 1)
    for pixels in (whole, filled_up(torch.from_numpy(whole)[None])[0].numpy()):
        if takes(trained.module, normalize(torch.from_numpy(pixels)[None].to(trained.device))):
            size = pixels.shape[1:]
            note = f"Its border pixels are repeated up to {show_shape(size)}, as for predictions."
            notes = () if size == whole.shape[1:] else (note,)
            return pixels, Placement(placed.file, size, (1.0, 1.0), (0.0, 0.0)), notes
    return raw, placed, ()


def _around_pixel(
    trained: Trained, image: Any, raw: np.ndarray, placed: Placement, which: str
) -> tuple[np.ndarray, Part]:
    """The input that contains the pixel `x,y` of the file, and the position of the pixel in it; of a picture that is
    larger than the input and not scaled to it, the crop around the pixel. Raises UsageError for a pixel that is outside
    the file, or cut off."""
    (height, width), (rows, columns) = placed.file, placed.canvas
    file, canvas = np.array([width, height]), np.array([columns, rows])
    try:
        x, y = (int(text) for text in which.split(","))
    except ValueError:
        x = y = -1
    at = np.array([x, y])
    if (at < 0).any() or (at >= file).any():
        expected = f"x from 0 to {width - 1}, a comma, and y from 0 to {height - 1}"
        raise UsageError("--pixel", which, expected, f"--pixel {width // 2},{height // 2}")
    if trained.preparation.native and (file >= canvas).all() and isinstance(image, str | Path):
        left, top = np.clip(at - canvas // 2, 0, file - canvas).tolist()
        parts = medium_of(trained.preparation.kind).parts(Path(image), str(image), trained.preparation)
        return parts.read((top, left, rows, columns)), ("pixel", f"{x - left},{y - top}")
    scale, offset = np.array(placed.scale), np.array(placed.offset)
    inside = np.floor((at + 0.5) * scale + offset).astype(int)
    if (inside < 0).any() or (inside >= canvas).any():
        first = np.clip(np.ceil(-offset / scale), 0, file - 1).astype(int)
        last = np.clip(np.floor((canvas - offset) / scale), 1, file).astype(int) - 1
        expected = f"a pixel that the network sees: x from {first[0]} to {last[0]}, y from {first[1]} to {last[1]}"
        raise UsageError("--pixel", which, expected, f"--pixel {width // 2},{height // 2}")
    return raw, ("pixel", f"{inside[0]},{inside[1]}")


def _predicted_volume(trained: Trained, image: Any) -> tuple[Prediction, torch.Tensor] | None:
    """The prediction for the mask of a volume as `predict` computes it, and the mask at the scale of the input, −1
    around it; None of all other predictions."""
    medium, preparation = medium_of(trained.preparation.kind), trained.preparation
    if not trained.reads_whole or medium.pictures or not isinstance(image, str | Path):
        return None
    path = user_path(str(image))
    header = medium.header(path, str(image), max_pixels=preparation.max_pixels)
    prediction = next(trained.predict_batch([trained.read(path)], plain_predictor(trained.module)))
    return prediction, torch.from_numpy(medium.place_mask(prediction.decoded.numpy(), header, preparation))


def _explain_trained(
    trained: Trained,
    raw: np.ndarray,
    compute: Compute,
    subject: str,
    network: str,
    part: str | None,
    placed: Placement | None,
    volume: tuple[Prediction, torch.Tensor] | None,
) -> Explanation:
    there = [placed if trained.task.needs_placement else None]
    if volume is None:
        prediction = next(trained.predict_batch([(raw, None)], plain_predictor(trained.module), there))
        volume = prediction, prediction.decoded
    task, (prediction, decoded) = trained.task, volume
    selected = task.explained(decoded) if part is None else task.explained_part(decoded, part)
    normalize = trained.normalization.on(trained.device, raw.ndim + 1)
    x = normalize(torch.from_numpy(raw)[None].to(trained.device))
    module = trial_copy(trained.module)
    if selected.prepare is not None:
        selected.prepare(module)
    # A hook, not a module around the network, which would change the names of the layers that Grad-CAM prints.
    score = forward_hooks(after=[(module, lambda _module, _inputs, outputs: selected.score(outputs))])
    with score, on_trial(module), torch.enable_grad():
        question = make_question(module, x, selected.target, kind=selected.kind, choose=selected.choose)
        maps, covering, nudge = compute(question, _bounds(trained, x))
    shown = None if nudge is None else _in_units(nudge, x, trained)
    return Explanation(
        subject,
        network,
        prediction.fields,
        trained.classes,
        raw,
        tuple(f"feature {k}" for k in range(raw.size)) if raw.ndim == 1 else (),
        maps,
        covering,
        shown,
        Nearest(),
        (*_notes(trained), *selected.notes),
        trained.task.line(prediction.fields),
        selected.part,
        trained.task.decision_text,
        trained.preparation,
    )


def _maps_and_changes(
    method: RequestedMethod, announce: Announce, question: Question, bounds: Bounds | None
) -> tuple[Maps, Covering | None, Nudge | None]:
    """Attribution maps, and the changes that change the prediction."""
    if method == "auto":
        announce("this computes several maps and checks each: it may take minutes; the method saliency computes one")
    maps = attribute(question, method)
    outputs = question.outputs(question.x)[0]
    if question.kind == "number" or len(outputs) < 2:
        return maps, None, None
    if question.choose is not None:  # gradients lead to where another class is the most probable, not to where it wins
        return maps, smallest_covering(question), None
    outputs[question.target] = -torch.inf
    low, high = bounds or (None, None)
    covering = smallest_covering(question) if len(question.spatial) < 3 else None  # a clip has too many places
    return maps, covering, _nudged(question, int(outputs.argmax()), low, high)


def _nudged(question: Question, other: int, low: torch.Tensor | None, high: torch.Tensor | None) -> Nudge | None:
    """The smallest change toward class `other`; None also where the network has no gradients."""
    try:
        return smallest_nudge(question, other, low, high)
    except RuntimeError:
        return None


def _bounds(trained: Trained, x: torch.Tensor) -> Bounds | None:
    """The least and the largest values (black and white) in normalized units, of the shape of a batch of one."""
    bounds = medium_of(trained.preparation.kind).bounds
    if bounds is None:
        return None
    normalize = trained.normalization.on(trained.device, x.ndim)
    return normalize(torch.full_like(x, bounds[0])), normalize(torch.full_like(x, bounds[1]))


def _in_units(nudge: Nudge, x: torch.Tensor, trained: Trained) -> NudgeShown:
    """The change in the units of the raw input."""
    normalization = trained.normalization
    shape = (-1,) + (1,) * (x.ndim - 2)
    mean, std = (np.asarray(values).reshape(shape) for values in (normalization.mean, normalization.std))
    changed, before = (one[0].double().cpu().numpy() * std + mean for one in (nudge.changed, x))
    medium = medium_of(trained.preparation.kind)
    difference = (changed - before) * medium.unit_size if medium.bounds is not None else (changed - before) / std
    changed = changed if medium.bounds is None else changed.clip(*medium.bounds)
    return NudgeShown(
        (changed.round() if medium.dtype == "uint8" else changed).astype(medium.dtype),
        float(np.sqrt(np.square(difference).mean())),
        float(np.abs(difference).max()),
        medium.unit,
        trained.classes[nudge.predicted],
        nudge.probability,
    )


def _notes(trained: Trained) -> list[str]:
    notes = []
    if trained.views != "none":
        notes.append(
            f"The prediction is the mean of test-time augmentation ({trained.views}); maps and changes are "
            "for the original image."
        )
    return notes


def _with_data(explained: Explanation, trained: Trained, path: Path) -> Explanation:
    """With the nearest training samples, and the names of features, where the run's data can be read."""
    try:
        run = open_run(path)
        data = read_data(config_from_yaml(run.config), run=run)[1]
    except StriateError as error:
        missing = f"No training samples to compare with: {error.where}: {error.got}."
        return replace(explained, nearest=Nearest(missing=missing))
    raw = torch.from_numpy(explained.input)[None]
    nearest = find_nearest(partial(sample_features, trained), raw, data, trained.task.target_text)
    return replace(explained, nearest=nearest, features=data.features or explained.features)


def _explain_module(module: nn.Module, image: Any, compute: Compute) -> Explanation:
    """Explain a network without a run: its classes are numbers, and the input is used as given."""
    expected = "one normalized input (C, *spatial) or (F,) of finite floating-point values"
    try:
        given = torch.as_tensor(image).detach().clone()
    except (TypeError, ValueError, RuntimeError):  # a path, a picture, a ragged list
        remedy = "give a tensor, normalized as in training; a run prepares images: striate.explain(run, image)"
        raise DataError("image", f"a {type(image).__name__}, for an nn.Module", expected, remedy) from None
    if not given.ndim or not given.is_floating_point():
        remedy = "give floating-point values, normalized as in training: image / 255 of bytes, then (x - mean) / std"
        raise DataError("image", f"a tensor of {show_shape(given.shape)}, {given.dtype}", expected, remedy)
    if not given.isfinite().all():
        raise DataError("image", "values that are NaN or Inf", expected, "replace them: torch.nan_to_num(image)")
    refuse_without_numbers(module)
    copy = trial_copy(module)
    with number_format_explained(module), on_trial(copy), torch.enable_grad():
        question = _question(copy, given)
        given = question.x
        maps, covering, nudge = compute(question, None)
        outputs = question.outputs(question.x)
        probabilities = None if question.kind == "number" else question.probabilities(outputs)[0]
    count = outputs.shape[1]
    classes = tuple(f"class {k}" for k in range(count)) if probabilities is not None else ()
    return Explanation(
        f"a tensor of {show_shape(given.shape[1:])}",
        type(module).__name__,
        _fields(outputs[0], probabilities, classes),
        classes,
        given[0].detach().float().cpu().numpy(),
        tuple(f"feature {k}" for k in range(given.shape[1])) if given.ndim == 2 else (),
        maps,
        covering,
        None if nudge is None else _in_input_units(nudge, given, classes),
        Nearest(missing="No training samples to compare with: a network without its run has no data; name its run."),
        () if probabilities is not None else (f"The first of {several(count, 'output')} is explained.",),
    )


def _question(module: nn.Module, given: torch.Tensor) -> Question:
    """The question about one input, which is given without the batch or as a batch of one. Raises ModelError where the
    network takes neither."""
    # The usual inputs, (F,) and (C, H, W), have an odd number of axes, and one more with the batch.
    forms = (given[None], given) if given.ndim in (1, 3) else (given, given[None])
    refused = list[ModelError]()
    for x in forms:
        if x.ndim > 1 and len(x) == 1:
            try:
                return make_question(module, as_input(module, x))
            except ModelError as error:
                refused.append(error)
    raise refused[0]


def _fields(outputs: torch.Tensor, probabilities: torch.Tensor | None, classes: tuple[str, ...]) -> dict[str, Any]:
    if probabilities is None:
        return {"value": float(outputs[0])}
    values, places = probabilities.topk(min(5, len(probabilities)))
    top = [[classes[place], float(value)] for value, place in zip(values.tolist(), places.tolist(), strict=True)]
    return {"label": top[0][0], "probability": top[0][1], "top": top}


def _in_input_units(nudge: Nudge, given: torch.Tensor, classes: tuple[str, ...]) -> NudgeShown:
    changed = nudge.changed[0].detach().float().cpu()
    difference = changed - given[0].detach().float().cpu()
    typical, largest = float(difference.square().mean().sqrt()), float(difference.abs().max())
    unit = "in the units of the input"
    return NudgeShown(changed.numpy(), typical, largest, unit, classes[nudge.predicted], nudge.probability)


def _read(trained: Trained, image: Any, network: str) -> tuple[np.ndarray, str]:
    """The raw input, and its name."""
    if medium_of(trained.preparation.kind).of_files and isinstance(image, str | Path):
        values, name = find_subject(trained, None, lambda _: None).input(image)
        return values.numpy(), name
    found = row_named(str(image), trained.preparation) if isinstance(image, str | Path) else None
    if found is not None:
        return found, str(image)
    if isinstance(image, str) and names_sample(image):
        return sample_input(image, trained.preparation), image
    raw = trained.prepare(_numbers(trained, image, network))
    row = f"a row of {several(raw.size, 'number')}"
    a = medium_of(trained.preparation.kind).a
    return raw, row if raw.ndim == 1 else f"{a} of {show_shape(raw.shape)}"


def _numbers(trained: Trained, image: Any, network: str) -> Any:
    """The numbers in a text, separated by commas, for a network of tables; everything else unchanged."""
    if not medium_of(trained.preparation.kind).flat or not isinstance(image, str):
        return image
    count = trained.preparation.input_shape[0]
    try:
        numbers = [float(part) for part in image.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        remedy = f"striate explain {pasted(network)} {','.join(['0'] * count)}"
        raise UsageError(
            "IMAGE", repr(image[:80]), f"{several(count, 'number')}, separated by commas: a row of the table", remedy
        )
    return np.array(numbers, np.float32)
