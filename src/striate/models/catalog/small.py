"""Small networks that adapt to any data, trained from scratch."""

from __future__ import annotations

from striate.models.layer_strings.words import Parameter
from striate.models.model_info import ZOO, ModelInfo, PublishedError, width

ENTRIES = (
    ModelInfo(
        name="small-cnn",
        path=ZOO + "small_cnn:small_cnn",
        year=2015,
        description="convolutions with batch normalization, as deep as the input allows; 1-D, 2-D and 3-D grids",
        source="Ioffe and Szegedy, Batch normalization, ICML 2015",
        input_shape=(1, 8, 8),
        outputs=10,
        published_parameters=72_666,
        published_macs=599_680,
        parameters=(width(16),),
    ),
    ModelInfo(
        name="small-resnet",
        path=ZOO + "small_resnet:small_resnet",
        year=2016,
        description="a small residual network for photographs and CIFAR-sized images, trained from scratch",
        source="He et al., Deep residual learning for image recognition, CVPR 2016",
        input_shape=(3, 32, 32),
        outputs=10,
        published_parameters=696_618,
        published_macs=105_743_616,
        parameters=(width(32), Parameter("blocks", "count", 2, low=1, high=50)),
    ),
    ModelInfo(
        name="small-unet",
        path=ZOO + "small_unet:small_unet",
        year=2015,
        description="encoder and decoder with skip connections for masks; sizes divisible by 4",
        source="Ronneberger et al., U-Net, MICCAI 2015",
        input_shape=(3, 64, 64),
        outputs=2,
        published_parameters=117_378,
        published_macs=100_466_688,
        parameters=(width(16),),
        dense=True,
    ),
    ModelInfo(
        name="small-dilated",
        path=ZOO + "small_dilated:small_dilated",
        year=2016,
        description="dilated convolutions at full resolution for masks of any size",
        source="Yu and Koltun, Multi-scale context aggregation by dilated convolutions, ICLR 2016",
        input_shape=(3, 64, 64),
        outputs=2,
        published_parameters=47_394,
        published_macs=192_544_768,
        parameters=(width(32),),
        dense=True,
    ),
    ModelInfo(
        name="airbench",
        path=ZOO + "airbench:airbench",
        year=2024,
        description="made for short trainings: patches whitened by the data, convolutions that begin as identities",
        source="Jordan, 94 % on CIFAR-10 in 3.29 seconds on a single GPU, 2024",
        input_shape=(3, 32, 32),
        outputs=10,
        published_parameters=1_971_352,
        published_macs=118_147_360,
        parameters=(width(64),),
        errors=(
            PublishedError(
                5.99,
                None,
                "CIFAR-10 test, mean over trainings of 3.29 seconds, six views an image",
                "Jordan 2024, abstract",
            ),
        ),
    ),
)
