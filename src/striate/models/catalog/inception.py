"""GoogLeNet and Inception-v3."""

from __future__ import annotations

from striate.models.layer_strings.words import Parameter
from striate.models.model_info import STEM, ZOO, ModelInfo, PublishedError, of_torchvision

_WEIGHTS = "IMAGENET1K_V1, which were learned in TensorFlow"
_GOING_DEEPER = "Szegedy et al., Going deeper with convolutions, CVPR 2015"
_RETHINKING = "Szegedy et al., Rethinking the Inception architecture for computer vision, CVPR 2016"
_TRANSFORM = Parameter("transform_input", "flag", False)

ENTRIES: tuple[ModelInfo, ...] = (
    ModelInfo(
        name="googlenet",
        path=ZOO + "googlenet:googlenet",
        year=2014,
        description="windows of several sizes side by side, behind 1×1 convolutions; first in ILSVRC 2014",
        source=_GOING_DEEPER,
        input_shape=(3, 224, 224),
        outputs=1000,
        published_parameters=6_624_904,
        published_macs=1_498_376_192,
        parameters=(Parameter("aux", "flag", False), _TRANSFORM, STEM),
        weights="torchvision",
        reduction=32,
        small_form="googlenet(stem=small)",
        errors=(
            PublishedError(None, 6.67, "ILSVRC 2014 test, 7 networks, 144 crops", f"{_GOING_DEEPER}, tables 2 and 3"),
            PublishedError(None, 7.89, "ILSVRC 2014 validation, 1 network, 144 crops", f"{_GOING_DEEPER}, table 3"),
            PublishedError(None, 10.07, "ILSVRC 2014 validation, 1 network, 1 crop", f"{_GOING_DEEPER}, table 3"),
            of_torchvision(69.778, 89.530, weights=_WEIGHTS),
        ),
    ),
    ModelInfo(
        name="inception_v3",
        path=ZOO + "inception_v3:inception_v3",
        year=2015,
        description="GoogLeNet with large windows made of small ones and batch normalization; images from 75 pixels",
        source=_RETHINKING,
        input_shape=(3, 299, 299),
        outputs=1000,
        published_parameters=27_161_264,
        published_macs=5_713_216_096,
        parameters=(Parameter("aux", "flag", True), _TRANSFORM),
        weights="torchvision",
        reduction=32,
        errors=(
            PublishedError(21.2, 5.6, "ILSVRC 2012 validation, 1 network, 1 crop", f"{_RETHINKING}, table 3"),
            PublishedError(17.2, 3.58, "ILSVRC 2012 validation, 4 networks, 144 crops", f"{_RETHINKING}, table 5"),
            of_torchvision(77.294, 93.450, "ImageNet validation, one crop of 299", _WEIGHTS),
        ),
    ),
)
