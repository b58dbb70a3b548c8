"""`model.shrinks-too-fast`: do the feature maps shrink to nothing before the last convolutions?"""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from for_checks.asked import asked, digits, perceptron, quick_adam
from for_checks.networks import seeded
from striate.doctor.checks.model.shrinks_too_fast import SHRINKS_TOO_FAST


def stages(*strides: int, kernel: int = 3) -> nn.Module:
    layers: list[nn.Module] = []
    channels = 1
    for stride in strides:
        layers += [nn.Conv2d(channels, 12, kernel, stride=stride, padding=kernel // 2), nn.ReLU()]
        channels = 12
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10))


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "make",
    [
        lambda: stages(4, 2, 1, 1),
        lambda: stages(4, 1, 1, kernel=5),
        lambda: nn.Sequential(
            *[nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(8), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU()],
            *[nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 10)],
        ),
    ],
)
def test_maps_that_are_used_up(make: Any) -> None:
    (found,) = asked(SHRINKS_TOO_FAST, seeded(make), digits(), optimizer=quick_adam)
    assert (found.code, found.severity) == ("model.shrinks-too-fast", "warning")
    assert "inputs of 8 have shrunk to maps of" in found.measured


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("kernel", "severity"), [(8, "warning"), (5, "note")])
def test_a_kernel_much_wider_than_its_map(kernel: int, severity: str) -> None:
    model = seeded(
        lambda: nn.Sequential(
            *[nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4)],
            *[nn.Conv2d(8, 16, kernel, padding=kernel // 2), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten()],
            nn.Linear(16, 10),
        )
    )
    (found,) = asked(SHRINKS_TOO_FAST, model, digits(), optimizer=quick_adam)
    assert found.severity == severity


def test_a_kernel_larger_than_its_map_is_named() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(4), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4, 10))
    (found,) = asked(SHRINKS_TOO_FAST, model, digits(), optimizer=quick_adam)
    assert (found.severity, found.where) == ("error", "2")
    assert "conv2d in 2 gets maps of 1 positions" in found.measured


@pytest.mark.parametrize(
    "make",
    [
        lambda: stages(1, 2, 1),
        lambda: stages(2, 2, 2),
        lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 6), nn.Flatten(), nn.Linear(8, 10)),
        perceptron,
    ],
)
def test_maps_that_last(make: Any) -> None:
    assert not asked(SHRINKS_TOO_FAST, seeded(make), digits(), optimizer=quick_adam)
