"""ImageNet's progress: the best answers to the challenge of each year, and a human's; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Method = Literal["features", "network", "human"]


@dataclass(frozen=True)
class ChallengeResult:
    """One entry of the classification task of the ImageNet challenge (ILSVRC): 1,000 classes, labels kept secret.

    `top5`: percent of test images whose label is not among five answers. `method`: hand-made features with a
    linear classifier, a convolutional network, or a human. `depth`: layers with weights, as its paper counts them.
    `place`: its rank in the year's challenge, with the given training data only. `test_set`: images and whose.
    `averaged`: how many networks answered together, where that is known. `zoo`: names of networks here that it was
    made of, or that are its published form. `extra_data_top5`: the same team's error with more training images.
    """

    year: int
    team: str
    network: str
    top5: float
    method: Method
    source: str
    test_set: str
    place: int | None = None
    depth: int | None = None
    averaged: int | None = None
    zoo: tuple[str, ...] = ()
    extra_data_top5: float | None = None


_TEST_2010 = "ILSVRC 2010 test, 150,000 images"
_TEST_2011 = "ILSVRC 2011 test, 100,000 images"
_TEST_2012 = "ILSVRC 2012 test, 100,000 images"
_SURVEY = "Russakovsky et al., ImageNet large scale visual recognition challenge, IJCV 115, 2015"

HISTORY: tuple[ChallengeResult, ...] = (
    ChallengeResult(
        year=2010,
        team="NEC-UIUC",
        network="coded SIFT and LBP, linear SVM",
        top5=28.2,
        method="features",
        source=f"{_SURVEY}, table of winners; Lin et al., CVPR 2011",
        test_set=_TEST_2010,
        place=1,
    ),
    ChallengeResult(
        year=2011,
        team="XRCE",
        network="Fisher vectors, linear SVM",
        top5=25.8,
        method="features",
        source=f"{_SURVEY}, table of winners; Perronnin and Sánchez, CVPR 2011",
        test_set=_TEST_2011,
        place=1,
    ),
    ChallengeResult(
        year=2012,
        team="ISI",
        network="Fisher vectors of four features",
        top5=26.2,
        method="features",
        source="image-net.org, results of ILSVRC 2012: 0.26172",
        test_set=_TEST_2012,
        place=2,
    ),
    ChallengeResult(
        year=2012,
        team="SuperVision",
        network="AlexNet",
        top5=16.4,
        method="network",
        source="image-net.org, results of ILSVRC 2012: 0.16422; Krizhevsky et al., NeurIPS 2012, table 2",
        test_set=_TEST_2012,
        place=1,
        depth=8,
        averaged=5,
        zoo=("alexnet-2012",),
        extra_data_top5=15.3,
    ),
    ChallengeResult(
        year=2013,
        team="ZF",
        network="ZFNet",
        top5=13.5,
        method="network",
        source="image-net.org, results of ILSVRC 2013: 0.13511; Zeiler and Fergus, ECCV 2014, report 14.8",
        test_set=_TEST_2012,
        place=3,
        depth=8,
        zoo=("zfnet",),
    ),
    ChallengeResult(
        year=2013,
        team="Clarifai",
        network="Clarifai, kin of ZFNet",
        top5=11.7,
        method="network",
        source=f"{_SURVEY}, table of winners",
        test_set=_TEST_2012,
        place=1,
        depth=8,
        extra_data_top5=11.2,
    ),
    ChallengeResult(
        year=2014,
        team="VGG",
        network="VGG",
        top5=7.3,
        method="network",
        source="Simonyan and Zisserman, ICLR 2015, table 7 (ILSVRC submission; 6.8 with two networks afterwards)",
        test_set=_TEST_2012,
        place=2,
        depth=19,
        averaged=7,
        zoo=("vgg16", "vgg19"),
    ),
    ChallengeResult(
        year=2014,
        team="GoogLeNet",
        network="GoogLeNet",
        top5=6.67,
        method="network",
        source="Szegedy et al., Going deeper with convolutions, CVPR 2015, table 2",
        test_set=_TEST_2012,
        place=1,
        depth=22,
        averaged=7,
        zoo=("googlenet",),
    ),
    ChallengeResult(
        year=2015,
        team="one expert",
        network="human",
        top5=5.1,
        method="human",
        source=f"{_SURVEY}, section 6.4: 1,500 images after training on 500; a second expert 12.0 on 258",
        test_set="1,500 images of the ILSVRC 2012 test set",
    ),
    ChallengeResult(
        year=2015,
        team="ReCeption",
        network="Inception-v3",
        top5=3.58,
        method="network",
        source="Szegedy et al., Rethinking the Inception architecture, CVPR 2016, table 5",
        test_set=_TEST_2012,
        place=2,
        depth=42,
        averaged=4,
        zoo=("inception_v3",),
    ),
    ChallengeResult(
        year=2015,
        team="MSRA",
        network="ResNet",
        top5=3.57,
        method="network",
        source="He et al., Deep residual learning for image recognition, CVPR 2016, table 5",
        test_set=_TEST_2012,
        place=1,
        depth=152,
        averaged=6,
        zoo=("resnet152",),
    ),
    ChallengeResult(
        year=2016,
        team="UCSD",
        network="ResNeXt",
        top5=3.03,
        method="network",
        source="Xie et al., Aggregated residual transformations, CVPR 2017, section 5.1",
        test_set=_TEST_2012,
        place=2,
        depth=101,
        zoo=("resnext101_64x4d",),
    ),
    ChallengeResult(
        year=2016,
        team="Trimps-Soushen",
        network="Inception and ResNet, fused",
        top5=2.99,
        method="network",
        source="image-net.org, results of ILSVRC 2016: 0.02991",
        test_set=_TEST_2012,
        place=1,
    ),
    ChallengeResult(
        year=2017,
        team="WMW",
        network="SENet",
        top5=2.25,
        method="network",
        source="Hu et al., Squeeze-and-excitation networks, CVPR 2018, abstract: 2.251",
        test_set=_TEST_2012,
        place=1,
        depth=154,
        zoo=("senet154",),
    ),
)
"""By year, within a year from the worse to the better."""
