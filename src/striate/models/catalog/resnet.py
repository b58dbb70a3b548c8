"""Residual networks for ImageNet and CIFAR, and ResNeXt."""

from __future__ import annotations

from striate.models.model_info import ONE_CROP, STEM, ZOO, ModelInfo, PublishedError, of_torchvision, width

RESNET = "He et al., Deep residual learning for image recognition, CVPR 2016 (arXiv:1512.03385, December 2015)"
WIDE = "Zagoruyko and Komodakis, Wide residual networks, BMVC 2016"
RESNEXT = "Xie et al., Aggregated residual transformations for deep neural networks, CVPR 2017 (arXiv:1611.05431, 2016)"
HE, ZAGORUYKO, XIE = "He et al., CVPR 2016", "Zagoruyko and Komodakis, BMVC 2016", "Xie et al., CVPR 2017"
TEN_CROPS = "ImageNet validation, ten crops"
MANY_SCALES = "ImageNet validation, one network, several scales"


def _imagenet(
    name: str, year: int, description: str, source: str, parameters: int, macs: int, *errors: PublishedError
) -> ModelInfo:
    return ModelInfo(
        name=name,
        path=f"{ZOO}{'resnext' if name.startswith('resnext') else 'resnet'}:{name}",
        year=year,
        description=description,
        source=source,
        input_shape=(3, 224, 224),
        outputs=1000,
        published_parameters=parameters,
        published_macs=macs,
        parameters=(width(64), STEM),
        weights="torchvision",
        reduction=32,
        small_form=f"{name}(stem=small)",
        errors=errors,
    )


def _cifar(name: str, parameters: int, macs: int, *errors: PublishedError) -> ModelInfo:
    return ModelInfo(
        name=name,
        path=f"{ZOO}cifar_resnet:{name}",
        year=2015,
        description=f"{name.removeprefix('resnet')} layers for CIFAR-10, shortcuts without parameters",
        source=f"{RESNET}, section 4.2",
        input_shape=(3, 32, 32),
        outputs=10,
        published_parameters=parameters,
        published_macs=macs,
        parameters=(width(16),),
        reduction=4,
        errors=errors,
    )


def _cifar_error(percent: float, of: str = "CIFAR-10 test") -> PublishedError:
    return PublishedError(percent, None, of, f"{HE}, Table 6")


ENTRIES: tuple[ModelInfo, ...] = (
    _imagenet(
        "resnet18",
        2015,
        "residual blocks of two 3×3 convolutions, 18 layers: the smallest for photographs",
        RESNET,
        11_689_512,
        1_814_073_344,
        of_torchvision(69.758, 89.078),
        PublishedError(27.88, None, f"{TEN_CROPS}, shortcuts without parameters", f"{HE}, Table 2"),
    ),
    _imagenet(
        "resnet34",
        2015,
        "residual blocks of two 3×3 convolutions, 34 layers",
        RESNET,
        21_797_672,
        3_663_761_408,
        of_torchvision(73.314, 91.420),
        PublishedError(24.52, 7.46, TEN_CROPS, f"{HE}, Table 3, ResNet-34 B"),
        PublishedError(21.84, 5.71, MANY_SCALES, f"{HE}, Table 4, ResNet-34 B"),
    ),
    _imagenet(
        "resnet50",
        2015,
        "residual bottlenecks, 50 layers: the usual yardstick",
        RESNET,
        25_557_032,
        4_089_184_256,
        of_torchvision(76.130, 92.862),
        of_torchvision(80.858, 95.434, weights="IMAGENET1K_V2"),
        PublishedError(22.85, 6.71, TEN_CROPS, f"{HE}, Table 3"),
        PublishedError(20.74, 5.25, MANY_SCALES, f"{HE}, Table 4"),
    ),
    _imagenet(
        "resnet101",
        2015,
        "residual bottlenecks, 101 layers",
        RESNET,
        44_549_160,
        7_801_405_440,
        of_torchvision(77.374, 93.546),
        of_torchvision(81.886, 95.780, weights="IMAGENET1K_V2"),
        PublishedError(21.75, 6.05, TEN_CROPS, f"{HE}, Table 3"),
        PublishedError(19.87, 4.60, MANY_SCALES, f"{HE}, Table 4"),
    ),
    _imagenet(
        "resnet152",
        2015,
        "residual bottlenecks, 152 layers; with five others, winner of ILSVRC 2015",
        RESNET,
        60_192_808,
        11_513_626_624,
        of_torchvision(78.312, 94.046),
        of_torchvision(82.284, 96.002, weights="IMAGENET1K_V2"),
        PublishedError(21.43, 5.71, TEN_CROPS, f"{HE}, Table 3"),
        PublishedError(19.38, 4.49, MANY_SCALES, f"{HE}, Table 4"),
        PublishedError(None, 3.57, "ImageNet test, six networks of different depth together", f"{HE}, Table 5"),
    ),
    _imagenet(
        "wide_resnet50_2",
        2016,
        "resnet50 with twice the channels in its 3×3 convolutions",
        WIDE,
        68_883_240,
        11_398_021_120,
        of_torchvision(78.468, 94.086),
        of_torchvision(81.602, 95.758, weights="IMAGENET1K_V2"),
        PublishedError(21.9, 6.03, ONE_CROP, f"{ZAGORUYKO}, Table 8, WRN-50-2-bottleneck"),
    ),
    _imagenet(
        "wide_resnet101_2",
        2016,
        "resnet101 with twice the channels in its 3×3 convolutions",
        WIDE,
        126_886_696,
        22_753_050_624,
        of_torchvision(78.848, 94.284),
        of_torchvision(82.510, 96.020, weights="IMAGENET1K_V2"),
    ),
    _imagenet(
        "resnext50_32x4d",
        2016,
        "residual bottlenecks, 50 layers, 3×3 convolutions in 32 groups",
        RESNEXT,
        25_028_904,
        4_230_479_872,
        of_torchvision(77.618, 93.698),
        of_torchvision(81.198, 95.340, weights="IMAGENET1K_V2"),
        PublishedError(22.2, None, ONE_CROP, f"{XIE}, Table 3"),
    ),
    _imagenet(
        "resnext101_32x8d",
        2016,
        "residual bottlenecks, 101 layers, 3×3 convolutions in 32 groups, twice as wide",
        RESNEXT,
        88_791_336,
        16_414_015_488,
        of_torchvision(79.312, 94.526),
        of_torchvision(82.834, 96.228, weights="IMAGENET1K_V2"),
    ),
    _imagenet(
        "resnext101_64x4d",
        2016,
        "residual bottlenecks, 101 layers, 3×3 convolutions in 64 groups",
        RESNEXT,
        83_455_272,
        15_460_270_080,
        of_torchvision(83.246, 96.454),
        PublishedError(20.4, 5.3, ONE_CROP, f"{XIE}, Table 5"),
        PublishedError(19.1, 4.4, "ImageNet validation, one crop of 320", f"{XIE}, Table 5"),
    ),
    _cifar("resnet20", 269_722, 40_551_040, _cifar_error(8.75)),
    _cifar("resnet32", 464_154, 68_862_592, _cifar_error(7.51)),
    _cifar("resnet44", 658_586, 97_174_144, _cifar_error(7.17)),
    _cifar("resnet56", 853_018, 125_485_696, _cifar_error(6.97)),
    _cifar(
        "resnet110",
        1_727_962,
        252_887_680,
        _cifar_error(6.61, "CIFAR-10 test, mean of five trainings (standard deviation 0.16)"),
        _cifar_error(6.43, "CIFAR-10 test, best of five trainings"),
    ),
)
