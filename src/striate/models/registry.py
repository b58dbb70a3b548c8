"""The zoo as a table: what there is, without loading any of it; free of torch.

A new family is one file in `zoo/` and its entries in a file of `catalog/`.
"""

from __future__ import annotations

from striate.errors import ModelError
from striate.models.catalog import alexnet, densenet, digits, early, inception, resnet, senet, small, vgg
from striate.models.layer_strings.arguments import nearest
from striate.models.model_info import ModelInfo

GROUPS: dict[str, tuple[ModelInfo, ...]] = {
    "the beginnings": early.ENTRIES,
    "handwritten digits": digits.ENTRIES,
    "small, for any data": small.ENTRIES,
    "AlexNet and ZFNet": alexnet.ENTRIES,
    "VGG": vgg.ENTRIES,
    "Inception": inception.ENTRIES,
    "residual": resnet.ENTRIES,
    "densely connected": densenet.ENTRIES,
    "squeeze and excitation": senet.ENTRIES,
}
"""The zoo by family, as it is listed."""

MODELS: dict[str, ModelInfo] = {info.name: info for entries in GROUPS.values() for info in entries}


def describe_model(name: str | None = None) -> list[ModelInfo]:
    """The entry of one zoo model, or all of them by year and name.

    Raises ModelError, with the nearest name, where there is no such model.
    """
    if name is None:
        return sorted(MODELS.values(), key=lambda info: (info.year, info.name))
    if name in MODELS:
        return [MODELS[name]]
    close = nearest(name, MODELS)
    remedy = f"write {close}" if close else "choose one of these"
    raise ModelError("model", f"no zoo model `{name[:80]}`", ", ".join(MODELS), remedy)
