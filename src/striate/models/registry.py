"""The zoo as a table: what there is, without loading any of it; free of torch.

A new family is one file in `zoo/` and its entries in a file of `catalog/`.
"""

from __future__ import annotations

from striate.errors import ModelError
from striate.models.catalog import alexnet, densenet, digits, early, inception, resnet, senet, small, vgg
from striate.models.layer_strings.arguments import nearest_few
from striate.models.layer_strings.layer_string import parse_call
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
    """The entry of one zoo model, which may be written with arguments, or all of them by year and name.

    Raises ModelError, with the nearest names, where there is no such model; LayerStringError for arguments that it does
    not have.
    """
    if name is None:
        return sorted(MODELS.values(), key=lambda info: (info.year, info.name))
    own = name.partition("(")[0].strip()
    if own in MODELS:
        parse_call(name.strip(), MODELS[own].parameters)
        return [MODELS[own]]
    close = nearest_few(own, MODELS)
    remedy = f"striate models {close[0]}" if close else "striate models"
    expected = f"a name that is listed: {', '.join(close)}" if close else "a name that is listed"
    raise ModelError("model", f"no zoo model `{name[:80]}`", expected, remedy)
