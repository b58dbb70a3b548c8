"""Squeeze-and-excitation networks."""

from __future__ import annotations

from striate.models.layer_strings.words import Parameter
from striate.models.model_info import ONE_CROP, STEM, ZOO, ModelInfo, PublishedError, width

SENET = "Hu et al., Squeeze-and-excitation networks, CVPR 2018 (arXiv:1709.01507, 2017)"
HU = "Hu et al., arXiv:1709.01507v4"

ENTRIES: tuple[ModelInfo, ...] = (
    ModelInfo(
        name="seresnet50",
        path=ZOO + "senet:seresnet50",
        year=2017,
        description="resnet50 with squeeze-and-excitation",
        source=SENET,
        input_shape=(3, 224, 224),
        outputs=1000,
        published_parameters=28_088_024,
        published_macs=4_091_699_200,
        parameters=(width(64), STEM),
        weights="timm",
        reduction=32,
        small_form="seresnet50(stem=small)",
        errors=(PublishedError(23.29, 6.62, ONE_CROP, f"{HU}, Table 2"),),
    ),
    ModelInfo(
        name="senet154",
        path=ZOO + "senet:senet154",
        year=2017,
        description="squeeze-and-excitation in a ResNeXt of 152 layers; of the entry that won ILSVRC 2017, the last",
        source=SENET,
        input_shape=(3, 224, 224),
        outputs=1000,
        published_parameters=115_088_984,
        published_macs=20_688_363_520,
        parameters=(width(64), STEM, Parameter("dropout", "number", 0.0, high=0.999)),
        weights="timm",
        reduction=32,
        small_form="senet154(stem=small)",
        errors=(
            PublishedError(18.68, 4.47, ONE_CROP, f"{HU}, Table 8"),
            PublishedError(17.28, 3.79, "ImageNet validation, one crop of 320", f"{HU}, Table 8"),
            PublishedError(16.88, 3.58, "ImageNet validation, trained and tested at 320", f"{HU}, Table 9"),
            PublishedError(
                None, 2.251, "ImageNet test, several SENets together, many scales and crops", f"{HU}, section 5.4"
            ),
        ),
    ),
)
