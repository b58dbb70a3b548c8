"""Embeddings of digits with P x K batches and a batch-all triplet loss (in the style of open-reid)."""

import random
from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Sampler

from toydata import Digits

CFG = dict(num_ids=10, num_instances=4, dim=32, margin=0.3, lr=1e-3, batches=30)


def to_tensor(image):
    return (image.float() / 255.0 - 0.15) / 0.3


class RandomIdentitySampler(Sampler):
    """Each batch has `num_ids` identities with `num_instances` images each."""

    def __init__(self, labels, num_ids, num_instances, batches, seed=0):
        self.index = defaultdict(list)
        for i, label in enumerate(labels):
            self.index[int(label)].append(i)
        self.num_ids, self.num_instances, self.batches = num_ids, num_instances, batches
        self.random = random.Random(seed)

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for identity in self.random.sample(sorted(self.index), self.num_ids):
                batch += self.random.sample(self.index[identity], self.num_instances)
            yield batch


def conv_bn(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class EmbeddingNet(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.base = nn.Sequential(
            conv_bn(1, 16), nn.MaxPool2d(2), conv_bn(16, 32), nn.MaxPool2d(2), conv_bn(32, 64)
        )
        self.fc = nn.Linear(64 * 4 * 4, dim)

    def forward(self, x):
        return F.normalize(self.fc(self.base(x).flatten(1)), dim=1)


class BatchAllTriplet(nn.Module):
    """All triplets (anchor, positive, negative) of the batch; embeddings have length 1."""

    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, emb, labels):
        same = labels[:, None] == labels[None, :]
        positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        similarity = emb @ emb.t()
        dist = 2 - 2 * similarity
        gap = dist[:, :, None] - dist[:, None, :]
        valid = positive[:, :, None] & ~same[:, None, :]
        losses = F.relu(gap + self.margin) * valid
        return losses.sum() / valid.sum().clamp(min=1)


def setup():
    torch.manual_seed(0)
    train_set = Digits(train=True, transform=to_tensor)
    val_set = Digits(train=False, transform=to_tensor)
    sampler = RandomIdentitySampler(train_set.targets, CFG["num_ids"], CFG["num_instances"], CFG["batches"])
    return {
        "model": EmbeddingNet(CFG["dim"]),
        "train": DataLoader(train_set, batch_sampler=sampler),
        "val": DataLoader(val_set, batch_size=60),
        "loss": BatchAllTriplet(CFG["margin"]),
        "optimizer": lambda params: torch.optim.Adam(params, lr=CFG["lr"]),
    }
