"""The zoo as a table: what there is, without loading any of it; free of torch.

A new family is one file in `zoo/` and its entries in a file of `catalog/`.
"""

from __future__ import annotations

from striate.errors import ModelError
from striate.models.arguments import nearest
from striate.models.catalog import alexnet, densenet, digits, early, inception, resnet, senet, small, vgg
from striate.models.model_info import ModelInfo

MODELS: dict[str, ModelInfo] = {
    info.name: info
    for group in (early, digits, small, alexnet, vgg, inception, resnet, densenet, senet)
    for info in group.ENTRIES
}


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
