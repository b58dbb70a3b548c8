"""Recipes of other tools for photographs, from random weights, in plain torch: fastai and timm need torchvision.

Command: python benchmarks/common/photograph_peers.py PEER FOLDER SECONDS SEED
FOLDER holds train/CLASS/NAME and test/CLASS/NAME. The accuracy on test/ is printed as JSON. The seconds are for
training alone: a peer reads its pictures before, once, and predicts after them.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import nn
from torch.nn import functional

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


@dataclass(frozen=True)
class Recipe:
    """`crop`: smallest and largest area of a crop. `varied` changes a picture further, `mixed` a batch."""

    network: Callable[[int], nn.Module]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    rate: Callable[[float], float]
    """Share of the rate after so great a share of the time."""
    size: int
    test_size: int
    batch: int
    crop: tuple[float, float]
    varied: Callable[[Image.Image], Image.Image]
    mixed: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    smoothing: float = 0.1


def pictures(folder: Path) -> tuple[list[Image.Image], torch.Tensor]:
    """All pictures below CLASS folders, decoded, with the numbers of their classes."""
    classes = sorted(p.name for p in folder.iterdir())
    files = sorted(folder.rglob("*.jpg"))
    return [Image.open(f).convert("RGB") for f in files], torch.tensor([classes.index(f.parent.name) for f in files])


def cropped(picture: Image.Image, size: int, area: tuple[float, float]) -> Image.Image:
    """A random crop of an area and of an aspect of 3/4 to 4/3, brought to the size, mirrored by chance."""
    for _ in range(10):
        wanted = picture.width * picture.height * random.uniform(*area)
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(wanted * aspect)), round(math.sqrt(wanted / aspect))
        if 0 < width <= picture.width and 0 < height <= picture.height:
            break
    else:
        width = height = min(picture.size)
    left, top = random.randint(0, picture.width - width), random.randint(0, picture.height - height)
    box = (left, top, left + width, top + height)
    made = picture.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return ImageOps.mirror(made) if random.random() < 0.5 else made


def to_tensor(picture: Image.Image) -> torch.Tensor:
    return (torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255 - MEAN) / STD


def resnet18(classes: int, *, shortcut_pools: bool) -> nn.Module:
    """ResNet-18; with `shortcut_pools` fastai's xresnet18: a stem of three convolutions, pooled shortcuts, and blocks
    that begin as identities (He et al., "Bag of tricks", 2019)."""

    def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
        layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        return nn.Sequential(layer, nn.BatchNorm2d(outputs))

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.path = nn.Sequential(
                convolution(inputs, outputs, 3, stride), nn.ReLU(inplace=True), convolution(outputs, outputs, 3)
            )
            pool = [nn.AvgPool2d(2, ceil_mode=True)] if stride > 1 and shortcut_pools else []
            same = inputs == outputs and stride == 1
            self.shortcut = (
                nn.Identity() if same else nn.Sequential(*pool, convolution(inputs, outputs, 1, 1 if pool else stride))
            )
            if shortcut_pools:
                nn.init.zeros_(self.path[2][1].weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.relu(self.path(x) + self.shortcut(x))

    stem: list[nn.Module] = [convolution(3, 64, 7, 2), nn.ReLU(inplace=True)]
    if shortcut_pools:
        stem = []
        for inputs, outputs, stride in ((3, 32, 2), (32, 32, 1), (32, 64, 1)):
            stem += [convolution(inputs, outputs, 3, stride), nn.ReLU(inplace=True)]
    blocks = [
        Block(inputs, outputs, stride if number == 0 else 1)
        for wide, outputs, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
        for number, inputs in enumerate((wide, outputs))
    ]
    head = nn.Linear(512, classes)
    return nn.Sequential(*stem, nn.MaxPool2d(3, 2, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def warmed_cosine(share: float) -> float:
    return share / 0.05 if share < 0.05 else 0.5 * (1 + math.cos(math.pi * (share - 0.05) / 0.95))


def one_cycle(share: float) -> float:
    """fastai's fit_one_cycle: from 1/25 up to the rate in a quarter of the time, then down to 1e-5 of it."""
    first, from_, to = (share / 0.25, 0.04, 1.0) if share < 0.25 else ((share - 0.25) / 0.75, 1.0, 1e-5)
    return to + (from_ - to) * 0.5 * (1 + math.cos(math.pi * first))


def fastai_varied(picture: Image.Image) -> Image.Image:
    """aug_transforms: rotation up to 10°, zoom up to 1.1, lighting up to 0.2, each three times of four."""
    if random.random() < 0.75:
        picture = picture.rotate(random.uniform(-10, 10), Image.Resampling.BILINEAR)
    if random.random() < 0.75:
        picture = ImageEnhance.Brightness(picture).enhance(random.uniform(0.8, 1.25))
        picture = ImageEnhance.Contrast(picture).enhance(random.uniform(0.8, 1.25))
    return picture


def rand_augment(picture: Image.Image) -> Image.Image:
    """timm's rand-m6-mstd0.5-inc1: two changes of strength 6 of 10 (Cubuk et al. 2020)."""
    for _ in range(2):
        if random.random() < 0.5:
            continue
        strength = min(1.0, max(0.0, random.gauss(0.6, 0.05)))
        signed = strength * random.choice((-1, 1))
        match random.randrange(12):
            case 0:
                picture = ImageOps.autocontrast(picture)
            case 1:
                picture = ImageOps.equalize(picture)
            case 2:
                picture = picture.rotate(30 * signed, Image.Resampling.BILINEAR)
            case 3:
                picture = ImageOps.posterize(picture, 4 + round(4 * (1 - strength)))
            case 4:
                picture = ImageOps.solarize(picture, round(256 * (1 - strength)))
            case 5 | 6 | 7 | 8 as which:
                kinds = (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness, ImageEnhance.Sharpness)
                picture = kinds[which - 5](picture).enhance(1 + 0.9 * signed)
            case 9:
                picture = _moved(picture, (1, 0.3 * signed, 0, 0, 1, 0))
            case 10:
                picture = _moved(picture, (1, 0, 0, 0.3 * signed, 1, 0))
            case 11:
                across, down = 0.45 * signed * picture.width, 0.45 * signed * picture.height
                picture = _moved(picture, (1, 0, across, 0, 1, 0) if random.random() < 0.5 else (1, 0, 0, 0, 1, down))
    return picture


def _moved(picture: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def mixed_or_cut(x: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup with α = 0.1 or CutMix with α = 1, in turns by chance (the procedure A3 of Wightman et al. 2021)."""
    other = torch.randperm(len(x))
    if random.random() < 0.5:
        share = random.betavariate(0.1, 0.1)
        return share * x + (1 - share) * x[other], share * targets + (1 - share) * targets[other]
    share, (height, width) = random.random(), x.shape[2:]
    side = math.sqrt(1 - share)
    y, z = random.randrange(height), random.randrange(width)
    top, bottom = max(0, round(y - side * height / 2)), min(height, round(y + side * height / 2))
    left, right = max(0, round(z - side * width / 2)), min(width, round(z + side * width / 2))
    x = x.clone()
    x[:, :, top:bottom, left:right] = x[other, :, top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (height * width)
    return x, share * targets + (1 - share) * targets[other]


def decayed(network: nn.Module, rate: float, decay: float) -> torch.optim.AdamW:
    """AdamW that leaves normalizations and biases undecayed, as both tools do."""
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return torch.optim.AdamW([{"params": kernels, "weight_decay": decay}, {"params": others, "weight_decay": 0}], rate)


PEERS = {
    "fastai": Recipe(
        network=lambda classes: resnet18(classes, shortcut_pools=True),
        optimizer=lambda network: decayed(network, 3e-3, 0.01),
        rate=one_cycle,
        size=128,
        test_size=128,
        batch=32,
        crop=(0.35, 1.0),
        varied=fastai_varied,
        mixed=lambda x, targets: (x, targets),
    ),
    "timm": Recipe(
        network=lambda classes: resnet18(classes, shortcut_pools=False),
        optimizer=lambda network: decayed(network, 1e-3, 0.05),
        rate=warmed_cosine,
        size=160,
        test_size=224,
        batch=32,
        crop=(0.08, 1.0),
        varied=rand_augment,
        mixed=mixed_or_cut,
    ),
    "torch": Recipe(
        network=lambda classes: resnet18(classes, shortcut_pools=False),
        optimizer=lambda network: torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=1e-4),
        rate=lambda share: 0.1 ** int(3 * share),
        size=224,
        test_size=224,
        batch=32,
        crop=(0.08, 1.0),
        varied=lambda picture: picture,
        mixed=lambda x, targets: (x, targets),
        smoothing=0.0,
    ),
}


def train(recipe: Recipe, folder: Path, seconds: float, seed: int) -> dict[str, float]:
    """Accuracy on test/ after so many seconds of training, the rate following the clock, and the passes made."""
    torch.manual_seed(seed)
    random.seed(seed)
    images, targets = pictures(folder / "train")
    classes = int(targets.max()) + 1
    # Larger than small pictures is no recipe: those of 32 pixels are trained at 64.
    shrink = min(1.0, 2 * min(min(image.size) for image in images) / recipe.size)
    size, test_size = (32 * max(2, round(shrink * side / 32)) for side in (recipe.size, recipe.test_size))
    network = recipe.network(classes).to(memory_format=torch.channels_last)
    optimizer = recipe.optimizer(network)
    rates = [group["lr"] for group in optimizer.param_groups]
    one_hot = functional.one_hot(targets, classes).float()
    started, seen = monotonic(), 0
    for rows in _batches(len(images), recipe.batch):
        share = (monotonic() - started) / seconds
        if share >= 1:
            break
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * recipe.rate(share)
        x = torch.stack([to_tensor(recipe.varied(cropped(images[row], size, recipe.crop))) for row in rows])
        x, wanted = recipe.mixed(x, one_hot[rows])
        loss = functional.cross_entropy(
            network(x.to(memory_format=torch.channels_last)), wanted, label_smoothing=recipe.smoothing
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(rows)
    passes = seen / len(images)
    network.eval()
    images, targets = pictures(folder / "test")
    with torch.no_grad():
        # The smaller side a seventh larger than what is looked at, as both tools do.
        fitted = [ImageOps.fit(image, (test_size, test_size), centering=(0.5, 0.5), bleed=0.06) for image in images]
        hits = sum(
            int(
                (
                    network(torch.stack([to_tensor(p) for p in fitted[i : i + 32]])).argmax(1) == targets[i : i + 32]
                ).sum()
            )
            for i in range(0, len(fitted), 32)
        )
    return {"accuracy": hits / len(images), "passes": passes, "size": size}


def _batches(samples: int, batch: int) -> Iterator[list[int]]:
    """Rows of each epoch in a new order; what is left over of an epoch is dropped, as both tools do."""
    batch = min(batch, samples)
    while True:
        order = torch.randperm(samples).tolist()
        yield from (order[i : i + batch] for i in range(0, samples - batch + 1, batch))


if __name__ == "__main__":
    peer, folder, seconds, seed = sys.argv[1:]
    print(json.dumps(train(PEERS[peer], Path(folder), float(seconds), int(seed))))
