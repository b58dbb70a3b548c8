"""The zoo as a table: what there is, without loading any of it; free of torch.

A new network is a function in a file of `zoo/` and its entry in `catalog/networks.toml`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from striate.errors import ModelError
from striate.models.catalog import read_catalog
from striate.models.layer_strings.arguments import nearest_few
from striate.models.layer_strings.layer_string import parse_call
from striate.models.layer_strings.words import Parameter
from striate.models.model_info import ModelInfo, PublishedError


def _read_zoo() -> dict[str, tuple[ModelInfo, ...]]:
    """The networks by the title of their family."""
    catalog = read_catalog("networks.toml")
    allowed = {name: Parameter(name, **limits) for name, limits in catalog.pop("parameters").items()}
    zoo: dict[str, tuple[ModelInfo, ...]] = {}
    for family in catalog.values():
        title, networks = family.pop("title"), family.pop("networks")
        entries = tuple(_entry(name, family | own, allowed) for name, own in networks.items())
        zoo[title] = zoo.get(title, ()) + entries
    return zoo


def _entry(name: str, values: dict[str, Any], allowed: dict[str, Parameter]) -> ModelInfo:
    arguments: dict[str, Any] = values.pop("parameters", {})
    forms = [argument for argument, default in arguments.items() if default == "published"]
    return ModelInfo(
        name=name,
        path=f"striate.models.zoo.{values.pop('file')}:{name.replace('-', '_')}",
        parameters=tuple(
            allowed[argument] if allowed[argument].many else replace(allowed[argument], default=default)
            for argument, default in arguments.items()
        ),
        small_form=f"{name}({forms[0]}=small)" if forms else "",
        errors=tuple(PublishedError(**{"top1": None, "top5": None} | error) for error in values.pop("errors", ())),
        **values,
    )


GROUPS: dict[str, tuple[ModelInfo, ...]] = _read_zoo()
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
