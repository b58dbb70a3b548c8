"""VGG with and without batch normalization."""

from __future__ import annotations

from striate.models.model_info import HEAD, ZOO, ModelInfo, PublishedError, of_torchvision, width

_PAPER = "Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition, ICLR 2015"
_DEPTHS = {
    "vgg11": "configuration A",
    "vgg13": "configuration B",
    "vgg16": "configuration D",
    "vgg19": "configuration E",
}


def _paper(top1: float | None, top5: float, of: str, table: int) -> PublishedError:
    return PublishedError(top1, top5, of, f"{_PAPER}, table {table}")


def _entry(name: str, parameters: int, macs: int, accuracies: tuple[float, float], *paper: PublishedError) -> ModelInfo:
    """`accuracies`: top-1 and top-5, in percent, of torchvision's weights."""
    plain, _, normalized = name.partition("_")
    depth = plain.removeprefix("vgg")
    return ModelInfo(
        name=name,
        path=f"{ZOO}vgg:{name}",
        year=2015 if normalized else 2014,
        description=f"{depth} layers, {_DEPTHS[plain]}, of 3×3 filters only"
        + (", with batch normalization" if normalized else ""),
        source=_PAPER + ("; Ioffe and Szegedy, Batch normalization, ICML 2015" if normalized else ""),
        input_shape=(3, 224, 224),
        outputs=1000,
        published_parameters=parameters,
        published_macs=macs,
        parameters=(width(64), HEAD),
        weights="torchvision",
        reduction=32,
        small_form=f"{name}(head=small)",
        errors=(*paper, of_torchvision(*accuracies)),
    )


_SINGLE = "ImageNet 2012 validation, one network, one scale"
_BOTH = "ImageNet 2012 validation, one network, crops and whole images at several scales"

ENTRIES: tuple[ModelInfo, ...] = (
    _entry("vgg11", 132_863_336, 7_609_090_048, (69.020, 88.628), _paper(29.6, 10.4, _SINGLE, 3)),
    _entry("vgg11_bn", 132_868_840, 7_609_090_048, (70.370, 89.810)),
    _entry("vgg13", 133_047_848, 11_308_466_176, (69.928, 89.246), _paper(28.7, 9.9, _SINGLE, 3)),
    _entry("vgg13_bn", 133_053_736, 11_308_466_176, (71.586, 90.374)),
    _entry(
        "vgg16",
        138_357_544,
        15_470_264_320,
        (71.592, 90.382),
        _paper(25.6, 8.1, _SINGLE, 3),
        _paper(24.4, 7.2, _BOTH, 5),
        _paper(None, 7.3, "ILSVRC-2014 test, 7 networks, whole images at several scales", 7),
        _paper(23.7, 6.8, "ImageNet 2012 validation, D and E together, after the challenge", 7),
    ),
    _entry("vgg16_bn", 138_365_992, 15_470_264_320, (73.360, 91.516)),
    _entry(
        "vgg19",
        143_667_240,
        19_632_062_464,
        (72.376, 90.876),
        _paper(25.5, 8.0, _SINGLE, 3),
        _paper(24.4, 7.1, _BOTH, 5),
        _paper(None, 7.0, "ILSVRC-2014 test, one network, after the challenge", 7),
    ),
    _entry("vgg19_bn", 143_678_248, 19_632_062_464, (74.218, 91.842)),
)
