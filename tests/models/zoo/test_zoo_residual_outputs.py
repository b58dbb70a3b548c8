"""Residual networks compute what torchvision 0.29 and timm 1.0.31 compute.

Weights follow a formula, and so does the image, 3×33×50. The numbers are outputs 0, 1, 2, 500 and 999 of those
libraries' networks with these weights, in float64 and eval mode.
"""

import pytest
import torch

from striate.models.build import build_model

OUTPUTS = {
    "resnet18": [-3.0958, 5.72904, 9.78434, 6.03166, 6.43111],
    "resnet50": [-41.0911, -35.6148, 98.5527, -52.596, -68.5017],
    "wide_resnet50_2": [-15.5216, -17.7105, 44.1794, -24.9529, -31.7258],
    "resnext50_32x4d": [1501.67, -8991.16, 12963.1, -10317.0, -11416.7],
    "seresnet50": [10.9754, -20.5052, 22.3582, -21.8752, -22.4843],
    "senet154": [-9.79842, 11.5602, -8.45683, 11.1082, 10.6303],
}
HEAVY = ("resnet50", "wide_resnet50_2", "senet154")


def fill(network):
    """Cosines in every tensor, scaled so that signals neither vanish nor explode."""
    for number, (name, tensor) in enumerate(network.state_dict().items()):
        wave = torch.cos(0.37 * torch.arange(tensor.numel(), dtype=torch.float64) + number).reshape(tensor.shape)
        if name.endswith("num_batches_tracked"):
            continue
        if tensor.dim() > 1:
            wave = wave * (2 / tensor[0].numel()) ** 0.5
        elif name.endswith("running_var"):
            wave = 1 + 0.5 * wave
        else:
            wave = 0.5 + 0.2 * wave if name.endswith("weight") else 0.1 * wave
        tensor.copy_(wave)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in HEAVY else ()) for name in OUTPUTS]
)
def test_outputs_are_those_of_the_other_library(name):
    network = build_model(name).eval()
    fill(network)
    x = torch.sin(0.1 * torch.arange(3 * 33 * 50, dtype=torch.float64)).reshape(1, 3, 33, 50)
    with torch.no_grad():
        # As the numbers were made: through an image in single precision.
        found = network.double()(x.float().double())[0, [0, 1, 2, 500, 999]]
    torch.testing.assert_close(found, torch.tensor(OUTPUTS[name], dtype=torch.float64), rtol=1e-5, atol=1e-5)
