"""Attribution maps of one prediction, each with its check, and the one to show first."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import nn

from striate.errors import ModelError, UsageError
from striate.machine.memory import ran_out
from striate.visualize.attribution.checks import (
    MAP_COPIES,
    SHARES,
    AttributionMap,
    Deletion,
    MapCheck,
    Maps,
    PredictionCheck,
    alike,
    check_prediction,
    deletion_of,
)
from striate.visualize.attribution.maps import (
    METHODS,
    SIGNED,
    Method,
    grad_cam,
    grad_cam_layers,
    integrated_gradients,
    occlusion,
    rectified,
    saliency,
    smooth_grad,
)
from striate.visualize.attribution.question import LogOdds, Question
from striate.visualize.inside.rectified import RULES
from striate.wording import several

RequestedMethod = Literal["auto"] | Method
REQUESTED_METHODS: tuple[RequestedMethod, ...] = ("auto", *METHODS, *RULES)

_PLAIN: dict[Method, Callable[[nn.Module, torch.Tensor, int], torch.Tensor]] = {
    "saliency": saliency,
    "integrated-gradients": integrated_gradients,
    "smoothgrad": smooth_grad,
    "occlusion": occlusion,
    "deconvnet": partial(rectified, rule="deconvnet"),
    "guided-backprop": partial(rectified, rule="guided-backprop"),
}


def require_method(method: str) -> None:
    """Raise UsageError for an unknown method."""
    if method not in REQUESTED_METHODS:
        raise UsageError(
            "method", repr(method), f"one of {', '.join(REQUESTED_METHODS)}", "method auto, which computes all of them"
        )


def attribute(question: Question, method: RequestedMethod = "auto") -> Maps:
    """Attribution maps of a prediction, each with its checks; call it within `on_trial`.

    `auto` computes all maps that this network allows. Maps that pass their checks come first, and among these the one
    with the largest deletion gain: removing positions in its order lowers the probability fastest. Grad-CAM uses the
    layer with the largest gain. Raises UsageError for an unknown method, ModelError where it does not work on this
    network.
    """
    require_method(method)
    strength, deletion = check_prediction(question), deletion_of(question)
    found, left_out = [], []
    for one in METHODS if method == "auto" else (method,):
        if method == "auto" and one == "occlusion" and len(question.spatial) > 2:
            left_out.append(
                "occlusion: slow for clips and volumes, which have thousands of places to cover; "
                "--method occlusion computes it"
            )
            continue
        try:
            found.append(_checked(question, one, deletion, strength))
        except ModelError as error:
            if method != "auto":
                raise
            left_out.append(f"{one}: {error.got}")
    if not found:
        raise _unsupported(question, "; ".join(left_out))
    found.sort(key=lambda each: (not each.check.trusted, -each.check.gain))
    return Maps(tuple(found), _why(found, method), tuple(left_out), strength)


def _checked(question: Question, method: Method, deletion: Deletion, strength: PredictionCheck) -> AttributionMap:
    """One map with its check. Raises ModelError where it cannot be computed."""
    layer, again = _maker(question, method, deletion)
    values = again()
    falling, random = deletion.follow(values), deletion.random
    check = MapCheck(
        alike=alike(values, again, question),
        copies=MAP_COPIES,
        shares=SHARES,
        falling=tuple(falling.tolist()),
        random=tuple(random.mean(0).tolist()),
        gain=float(random.mean() - falling.mean()),
        first=bool((falling.mean() <= random.mean(1)).all()),
        prediction_check=strength,
    )
    return AttributionMap(method, layer, values.numpy(), method in SIGNED, check)


def _maker(question: Question, method: Method, deletion: Deletion) -> tuple[str | None, Callable[[], torch.Tensor]]:
    """The layer of the map, if it has one, and the function that computes the map with the network's current
    weights."""
    odds, x = LogOdds(question), question.x
    if method != "grad-cam":
        make = _PLAIN[method]
        return None, lambda: _computed(question, lambda: make(odds, x, 0))
    layers = grad_cam_layers(question.module, x)
    if not layers:
        raise _unsupported(question, "no layer whose feature maps have several positions")
    drops = {}
    for name in layers:
        values = _computed(question, lambda name=name: grad_cam(odds, x, 0, f"module.{name}"))  # type: ignore[misc]
        flat = not float(values.max()) > float(values.min())
        drops[name] = math.inf if flat else float(deletion.follow(values).mean())
    layer = min(layers, key=lambda name: drops[name])
    return layer, lambda: _computed(question, lambda: grad_cam(odds, x, 0, f"module.{layer}"))


def _computed(question: Question, make: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Compute the map. Raises ModelError where the network does not allow it, or values are not finite."""
    try:
        values = make()
    except Exception as error:  # networks of users, or without gradients, raise anything
        if ran_out(error) or isinstance(error, ModelError):
            raise
        raise _unsupported(question, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from None
    return torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def _unsupported(question: Question, got: str) -> ModelError:
    return ModelError(
        f"model {type(question.module).__name__}", got, "a network that this method works on", "--method occlusion"
    )


def _why(found: list[AttributionMap], method: RequestedMethod) -> str:
    first, passed = found[0], sum(each.check.trusted for each in found)
    name, gain = f"{first.name[0].upper()}{first.name[1:]}", f"(deletion gain {first.check.gain:.2f})"
    if method != "auto":
        return f"{name} was requested."
    best = f"removing what it marks lowers the prediction most, compared with random parts {gain}"
    if f"{first.check.gain:.2f}" in ("0.00", "-0.00") or first.check.gain < 0:
        best = "no map marks parts that matter more to the prediction than random ones"
    if not passed:
        return f"None of {several(len(found), 'map')} passes its checks. {name} is shown first: {best}."
    if passed == 1:
        return f"{name} is shown first: only it passes its checks {gain}."
    return f"{name} is shown first: of the {several(passed, 'map')} that pass their checks, {best}."
