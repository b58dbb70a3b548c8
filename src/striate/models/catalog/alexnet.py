"""AlexNet in its three forms, and ZFNet."""

from __future__ import annotations

from striate.models.layer_strings.words import Parameter
from striate.models.model_info import ZOO, ModelInfo, PublishedError, of_torchvision, width

_KRIZHEVSKY = "Krizhevsky et al., ImageNet classification with deep convolutional neural networks, NIPS 2012"
_ZEILER = "Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV 2014"
_INIT = Parameter("init", "choice", "he", choices=("he", "printed"))

ENTRIES: tuple[ModelInfo, ...] = (
    ModelInfo(
        name="alexnet-2012",
        path=ZOO + "alexnet:alexnet_2012",
        year=2012,
        description="AlexNet as printed: two groups, response normalization, overlapping pooling",
        source=_KRIZHEVSKY,
        input_shape=(3, 227, 227),
        outputs=1000,
        published_parameters=60_965_224,
        published_macs=724_406_816,
        parameters=(Parameter("groups", "count", 2, low=1, high=2), _INIT),
        reduction=32,
        adapts="only the number of inputs of fc6 was",
        errors=(
            PublishedError(40.7, 18.2, "ILSVRC-2012 validation, one network, 10 crops", f"{_KRIZHEVSKY}, table 2"),
            PublishedError(38.1, 16.4, "ILSVRC-2012 validation, 5 networks, 10 crops", f"{_KRIZHEVSKY}, table 2"),
            PublishedError(None, 16.4, "ILSVRC-2012 test, 5 networks, 10 crops", f"{_KRIZHEVSKY}, table 2"),
            PublishedError(
                None,
                15.3,
                "ILSVRC-2012 test, 7 networks, two of them pre-trained on more data",
                f"{_KRIZHEVSKY}, table 2",
            ),
            PublishedError(37.5, 17.0, "ILSVRC-2010 test, one network, 10 crops", f"{_KRIZHEVSKY}, table 1"),
        ),
    ),
    ModelInfo(
        name="alexnet",
        path=ZOO + "alexnet:alexnet",
        year=2014,
        description="AlexNet in one column without response normalization; torchvision's form",
        source="Krizhevsky, One weird trick for parallelizing convolutional neural networks, arXiv:1404.5997",
        input_shape=(3, 224, 224),
        outputs=1000,
        published_parameters=61_100_840,
        published_macs=714_188_480,
        parameters=(width(64),),
        weights="torchvision",
        reduction=32,
        errors=(of_torchvision(56.522, 79.066),),
    ),
    ModelInfo(
        name="zfnet",
        path=ZOO + "zfnet:zfnet",
        year=2013,
        description="AlexNet with 7×7 filters and stride 2 in its first layer, found by looking at what layers see",
        source=f"{_ZEILER}, figure 3",
        input_shape=(3, 224, 224),
        outputs=1000,
        published_parameters=62_357_608,
        published_macs=1_168_032_896,
        parameters=(_INIT,),
        reduction=32,
        adapts="only the number of inputs of fc6 was",
        errors=(
            PublishedError(
                38.4, 16.5, "ImageNet 2012 validation, one network as in figure 3, 10 crops", f"{_ZEILER}, table 2"
            ),
            PublishedError(36.7, 15.3, "ImageNet 2012 validation, 5 networks as in figure 3", f"{_ZEILER}, table 2"),
            PublishedError(
                37.5, 16.0, "ImageNet 2012 validation, one network with 512-1024-512 maps", f"{_ZEILER}, table 2"
            ),
            PublishedError(None, 14.8, "ImageNet 2012 test, 6 networks of both kinds", f"{_ZEILER}, table 2"),
        ),
    ),
)
