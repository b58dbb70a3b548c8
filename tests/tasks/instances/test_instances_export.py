"""What an exported network finds is what the program finds, in one batch."""

from __future__ import annotations

import numpy as np
import torch

from striate.tasks.exported import Frame
from striate.tasks.instances.decode import instances
from striate.tasks.instances.task import Instances

HEIGHT, WIDTH, CLASSES, TYPICAL = 48, 40, 2, 6.0


def _outputs(noise: float) -> torch.Tensor:
    """Of three images with a few disks each, some beside one another; in the last one nothing."""
    generator = torch.Generator().manual_seed(1)
    outputs = torch.full((3, CLASSES + 2, HEIGHT, WIDTH), -4.0)
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    for image in range(2):
        for number in range(5):
            cx, cy, radius = (torch.rand(3, generator=generator) * torch.tensor([WIDTH, HEIGHT, 4])).tolist()
            inside = (x - cx) ** 2 + (y - cy) ** 2 < (3 + radius) ** 2
            outputs[image, :CLASSES, inside] = -3.0
            outputs[image, number % CLASSES, inside] = 2.5 + number / 10
            outputs[image, CLASSES, inside] = ((cx - x) / TYPICAL)[inside]
            outputs[image, CLASSES + 1, inside] = ((cy - y) / TYPICAL)[inside]
    return outputs + noise * torch.randn(outputs.shape, generator=generator)


def test_the_same_objects_are_found_as_by_the_program() -> None:
    task = Instances(("a", "b"), (HEIGHT, WIDTH), typical=TYPICAL, most=20)
    whole = torch.tensor([float(WIDTH), float(HEIGHT)])
    frame = Frame(torch.ones(2), torch.zeros(2), whole, (HEIGHT, WIDTH), resized=False)
    for noise in (0.0, 0.05, 0.4):
        outputs = _outputs(noise)
        right = instances(outputs, CLASSES, 20, TYPICAL).numpy()
        arrays = [part.numpy() for part in task.export(outputs, frame)]
        found = task.from_exported(arrays, (HEIGHT, WIDTH))
        assert [part.shape for part in arrays] == [(3, 20, 4), (3, 20), (3, 20), (3, 20, 28, 28)]
        assert (right[:2, 0, 4] >= 0).all()
        assert (right[2, :, 4] == -1).all()
        for one, other in zip(right, found, strict=True):
            difference, same = task.disparity(one, other)
            assert same
            assert difference < 1e-5
            assert np.array_equal(one[:, 4], other[:, 4])


def test_another_mask_is_no_parity() -> None:
    task = Instances(("a", "b"), (HEIGHT, WIDTH), typical=TYPICAL, most=20)
    right = instances(_outputs(0.05), CLASSES, 20, TYPICAL).numpy()[0].astype(np.float64)
    other = right.copy()
    other[0, :4] += 4
    assert not task.disparity(right, other)[1]
    other = right.copy()
    other[0, 5] += 0.01
    assert task.disparity(right, other)[0] > 1e-3
