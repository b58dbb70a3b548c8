"""Lists of files, such as images and masks, whose entries at the same position belong to different samples."""

from __future__ import annotations

import pytest
from torch import nn

from for_checks.asked import digits, perceptron
from for_checks.scripts import source_of
from striate.doctor.checks.data.labels.mispaired_files import mispaired_files
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup

IMAGES = [f"images/road_{n:03}.jpg" for n in range(12)]
MASKS = [f"masks/road_{n:03}_mask.png" for n in range(12)]
SCRIPT = "images = sorted(glob('images'))\nmasks = os.listdir('masks')\ndata = Roads(images[:8], masks[:8])\n"


@pytest.mark.parametrize(
    ("script", "images", "masks", "wrong"),
    [
        (SCRIPT, IMAGES, MASKS[::-1], True),
        (SCRIPT, IMAGES, MASKS, False),
        (SCRIPT, IMAGES, [f"other/{n}.png" for n in range(12)], False),
        ("a, b = Roads(images), Roads(masks)\n", IMAGES, MASKS[::-1], False),
        (SCRIPT, [f"{n}.png" for n in range(12)], [f"{n}.png" for n in reversed(range(12))], True),
        ("draw(images, masks)\n", [f"{n}.png" for n in range(12)], [f"{n}.png" for n in reversed(range(12))], False),
    ],
    ids=["reversed", "in order", "other names", "apart", "equal names", "shuffled copy"],
)
def test_files_at_one_position_are_of_one_sample(script: str, images: list[str], masks: list[str], wrong: bool) -> None:
    setup = make_setup(
        perceptron(), digits(), loss=nn.CrossEntropyLoss(), source=source_of(script, images=images, masks=masks)
    )
    found = mispaired_files(Evidence(setup, Clock(5.0)))
    assert (found is not None) is wrong
    assert found is None or "10 of 12 positions" in found.measured or "12 of 12 positions" in found.measured
