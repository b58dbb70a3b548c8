"""A training as a script of plain torch has it: read, train, validate each epoch, keep the best, test.

Command: python benchmarks/common/plain_script.py DATA FOLDER EPOCHS
DATA: `mnist5k` or `fashion-mnist` (FOLDER holds train.npz, val.npz and test.npz), or `photographs` (FOLDER holds
train/CLASS/NAME.jpg, val/ and test/). The accuracy on the test split is printed as JSON, the best network is kept in
FOLDER/best.pt.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

SIZE = 160


def lectures_cnn() -> nn.Module:
    """The lectures' network for 28 × 28."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 24, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(384, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10)),
    )


class Block(nn.Module):
    """Two convolutions and a way past them."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.past = nn.Identity()
        if stride > 1 or before != width:
            self.past = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + self.past(x))


def resnet18(classes: int) -> nn.Module:
    """He et al. 2016, for photographs."""
    widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
        *(Block(*one) for one in [*widths, (512, 512, 1)]),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes)),
    )


class Photographs(Dataset):
    """Files below CLASS folders, each opened when it is asked for."""

    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

    def __init__(self, folder: Path, *, flip: bool) -> None:
        classes = sorted(p.name for p in folder.iterdir())
        self.files, self.flip = sorted(folder.rglob("*.jpg")), flip
        self.targets = [classes.index(f.parent.name) for f in self.files]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.files[i]) as opened:
            picture = ImageOps.fit(opened.convert("RGB"), (SIZE, SIZE), Image.Resampling.BILINEAR)
        x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        x = x.flip(2) if self.flip and torch.rand(()) < 0.5 else x
        return (x / 255 - self.mean) / self.std, self.targets[i]


def loaders(data: str, folder: Path) -> dict[str, DataLoader]:
    """Of each split, the training one shuffled."""
    photographs, splits = data == "photographs", {}
    for name in ("train", "val", "test"):
        if photographs:
            samples: Dataset = Photographs(folder / name, flip=name == "train")
        else:
            with np.load(folder / f"{name}.npz") as arrays:
                x = (torch.from_numpy(arrays["x"]).float() / 255 - 0.3) / 0.3
                samples = TensorDataset(x, torch.from_numpy(arrays["y"]).long())
        splits[name] = DataLoader(
            samples, 32 if photographs else 128, shuffle=name == "train", num_workers=2 if photographs else 0
        )
    return splits


def accuracy(network: nn.Module, loader: DataLoader) -> float:
    """Share of right answers."""
    network.eval()
    with torch.no_grad():
        right = [(network(x).argmax(1) == y).float() for x, y in loader]
    network.train()
    return float(torch.cat(right).mean())


def main(data: str, folder: Path, epochs: int) -> None:
    """Train and print."""
    splits = loaders(data, folder)
    network = resnet18(5) if data == "photographs" else lectures_cnn()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * len(splits["train"]))
    best = -1.0
    for _ in range(epochs):
        for x, y in splits["train"]:
            loss = functional.cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        reached = accuracy(network, splits["val"])
        if reached > best:
            best = reached
            torch.save(network.state_dict(), folder / "best.pt")
    network.load_state_dict(torch.load(folder / "best.pt"))
    print(json.dumps({"accuracy": accuracy(network, splits["test"])}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
