"""DenseNet 121, 161, 169 and 201."""

from __future__ import annotations

from striate.models.layer_strings.words import Parameter
from striate.models.model_info import ONE_CROP, STEM, ZOO, ModelInfo, PublishedError, of_torchvision, width

_PAPER = "Huang et al., Densely connected convolutional networks, CVPR 2017"


def _growth(default: int) -> Parameter:
    return Parameter("growth", "count", default, low=1, high=1024)


def _errors(top1: float, top5: float, source: str, accuracies: tuple[float, float]) -> tuple[PublishedError, ...]:
    """`accuracies`: top-1 and top-5, in percent, of torchvision's weights."""
    return PublishedError(top1, top5, ONE_CROP, source), of_torchvision(*accuracies)


ENTRIES: tuple[ModelInfo, ...] = (
    ModelInfo(
        name="densenet121",
        path=ZOO + "densenet:densenet121",
        year=2017,
        description="every layer gets the maps of all before it in its block and adds 32; 121 layers",
        source=_PAPER,
        input_shape=(3, 224, 224),
        outputs=1000,
        published_parameters=7_978_856,
        published_macs=2_834_161_664,
        parameters=(_growth(32), width(64), STEM),
        weights="torchvision",
        reduction=32,
        small_form="densenet121(stem=small)",
        errors=_errors(25.02, 7.71, f"{_PAPER}, table 3", (74.434, 91.972)),
    ),
    ModelInfo(
        name="densenet161",
        path=ZOO + "densenet:densenet161",
        year=2017,
        description="as densenet121, one and a half times as wide: every layer adds 48; 161 layers",
        source=_PAPER,
        input_shape=(3, 224, 224),
        outputs=1000,
        published_parameters=28_681_000,
        published_macs=7_727_907_072,
        parameters=(_growth(48), width(96), STEM),
        weights="torchvision",
        reduction=32,
        small_form="densenet161(stem=small)",
        errors=_errors(22.33, 6.15, "Huang et al., arXiv:1608.06993v3, table 3", (77.138, 93.560)),
    ),
    ModelInfo(
        name="densenet169",
        path=ZOO + "densenet:densenet169",
        year=2017,
        description="as densenet121, deeper: 169 layers",
        source=_PAPER,
        input_shape=(3, 224, 224),
        outputs=1000,
        published_parameters=14_149_480,
        published_macs=3_359_843_328,
        parameters=(_growth(32), width(64), STEM),
        weights="torchvision",
        reduction=32,
        small_form="densenet169(stem=small)",
        errors=_errors(23.8, 6.85, f"{_PAPER}, table 3", (75.600, 92.806)),
    ),
    ModelInfo(
        name="densenet201",
        path=ZOO + "densenet:densenet201",
        year=2017,
        description="as densenet121, deeper: 201 layers",
        source=_PAPER,
        input_shape=(3, 224, 224),
        outputs=1000,
        published_parameters=20_013_928,
        published_macs=4_291_365_888,
        parameters=(_growth(32), width(64), STEM),
        weights="torchvision",
        reduction=32,
        small_form="densenet201(stem=small)",
        errors=_errors(22.58, 6.34, f"{_PAPER}, table 3", (76.896, 93.370)),
    ),
)
