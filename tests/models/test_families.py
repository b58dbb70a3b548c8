"""Every network of the zoo at work on real photographs, at a small size: gradients, learning, export, bf16, layouts.

A few that are built in different ways run always, the others with the slow tests.
"""

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import nn

from quick import few_quick
from striate.models.build import build_model
from striate.models.registry import MODELS

SIZES = {"alexnet": 95, "alexnet-2012": 99, "zfnet": 99, "inception_v3": 107}
"""Sides of images, where twice the reduction, or the published size if smaller, is too small."""
FORMS = {name: f"{name}(width=16)" for name in MODELS if name.startswith("vgg")} | {
    "alexnet": "alexnet(width=16)",
    "inception_v3": "inception_v3(aux=false)",
}
"""Thinner where the fully connected layers take most of the time; without the classifier that wants 299×299."""
BATCH = 4
EXPORTED = ["alexnet", "resnet18"]
"""What differs in what is to be exported: a plain chain, and additions; concatenations are slow."""


OF_IMAGES = [
    name
    for name, info in MODELS.items()
    if len(info.input_shape) == 3 and name not in ("autoencoder", "rbm", "dbn", "crbm", "psd")  # learn without labels
]
EXPORTABLE = [name for name, info in MODELS.items() if len(info.input_shape) == 3 and name != "autoencoder"]
NETWORKS = few_quick(OF_IMAGES, ["lenet5", "alexnet", "vgg11", "resnet18", "googlenet"])


def shape_of(name):
    info = MODELS[name]
    published = info.input_shape[-1]
    side = SIZES.get(name, published if info.reduction == 1 else max(32, 2 * info.reduction))
    return (info.input_shape[0], side, side)


def photographs(shape):
    """Half of the batch are pieces of a building, half of a flower: (N, C, H, W) of mean 0 and deviation 1."""
    pictures = [torch.tensor(picture).permute(2, 0, 1).float() for picture in load_sample_images().images]
    channels, side, _ = shape
    pieces = []
    for number in range(BATCH):
        picture = pictures[number % 2]
        top = 40 + 37 * number
        piece = picture[:, top : top + side, 2 * top : 2 * top + side]
        pieces.append(piece if channels == 3 else piece.mean(0, keepdim=True))
    x = torch.stack(pieces)
    return (x - x.mean()) / x.std(), torch.arange(BATCH) % 2


def made(name, seed=0):
    torch.manual_seed(seed)
    shape = shape_of(name)
    x, labels = photographs(shape)
    info = MODELS[name]
    network = build_model(FORMS.get(name, name), shape, 2)
    if info.dense:
        labels = labels[:, None, None].expand(-1, *shape[1:])
    return network, x, labels


def logits_of(out):
    """Networks with auxiliary heads give those too while they are trained."""
    return out if isinstance(out, torch.Tensor) else out[0]


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("name", NETWORKS)
def test_steps_lower_the_loss(name):
    network, x, labels = made(name)
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.eval()  # else two losses would differ by chance
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4)
    losses = []
    for _ in range(4):
        out = network(x)
        loss = nn.functional.cross_entropy(logits_of(out), labels)
        auxiliary = () if isinstance(out, torch.Tensor) else out[1:]
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        (loss + sum(nn.functional.cross_entropy(part, labels) for part in auxiliary if part is not None)).backward()
        if len(losses) == 1:
            assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)
        optimizer.step()
    assert losses[-1] < losses[0]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("name", few_quick(EXPORTABLE, EXPORTED))
def test_export(name):
    network, x, _ = made(name)
    network.eval()
    with torch.no_grad():
        exported = torch.export.export(network, (x,)).module()(x)
        torch.testing.assert_close(exported, network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("name", NETWORKS)
def test_layout_and_precision_agree_with_plain_fp32(name):
    """Relative to the norm of the outputs: 10⁻⁴ where only the layout changes, 5 % in bf16, whose numbers have a
    relative spacing of 2⁻⁷ and whose errors add up over the layers."""
    network, x, _ = made(name)
    network.eval()
    with torch.no_grad():
        plain = network(x)
        network.to(memory_format=torch.channels_last)
        turned = x.to(memory_format=torch.channels_last)
        assert (network(turned) - plain).norm() <= 1e-4 * plain.norm()
        with torch.autocast("cpu", torch.bfloat16):
            assert (network(turned).float() - plain).norm() <= 0.05 * plain.norm()
