"""Long-tailed digits: rare classes are drawn more often."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Sampler, Subset, WeightedRandomSampler

from toydata import Digits

config = {"sampler": "weighted", "batch_size": 40, "lr": 2e-3, "rare": (5, 6, 7, 8, 9), "keep": 45}


def to_tensor(image):
    return (image.float() / 255 - 0.17) / 0.3


class ClassBalancedBatchSampler(Sampler):
    """Each batch has the same number of samples of every class, one class after the other."""

    def __init__(self, labels, per_class):
        self.labels = torch.as_tensor(labels)
        self.per_class = per_class
        self.members = [torch.nonzero(self.labels == k).flatten() for k in self.labels.unique()]
        self.batches = len(self.labels) // (per_class * len(self.members))

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for members in self.members:
                picked = torch.randperm(len(members))[: self.per_class]
                batch.extend(members[picked].tolist())
            yield batch


def long_tail(dataset):
    kept = []
    seen = {k: 0 for k in range(10)}
    for index, label in enumerate(dataset.targets.tolist()):
        seen[label] += 1
        if label not in config["rare"] or seen[label] <= config["keep"]:
            kept.append(index)
    return Subset(dataset, kept), dataset.targets[kept]


def build_train_loader(dataset, labels):
    if config["sampler"] == "balanced":
        sampler = ClassBalancedBatchSampler(labels, config["batch_size"] // 10)
        return DataLoader(dataset, batch_sampler=sampler)
    weights = 1.0 / torch.bincount(labels, minlength=10).float()
    sampler = WeightedRandomSampler(weights[labels].double(), num_samples=len(labels), replacement=True)
    return DataLoader(dataset, batch_size=config["batch_size"], sampler=sampler, drop_last=True)


def build_model():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 10),
    )


def setup():
    torch.manual_seed(3)
    dataset, labels = long_tail(Digits(train=True, count=1600, transform=to_tensor))
    model = build_model()
    return {
        "model": model,
        "train": build_train_loader(dataset, labels),
        "val": DataLoader(Digits(train=False, transform=to_tensor), batch_size=100),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.Adam(model.parameters(), lr=config["lr"]),
    }
