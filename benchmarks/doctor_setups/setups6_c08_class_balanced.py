"""Long-tailed digits, class-balanced batches (P classes, K samples each) and a multi-class hinge loss."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from toydata import draw_digits

CFG = {"classes": 10, "per_class": 4, "batches": 30, "margin": 1.0, "lr": 2e-3}


class LongTailDigits(Dataset):
    """Of the odd digits one in three is kept."""

    def __init__(self, count, seed, long_tail):
        images, labels = draw_digits(count, seed=seed)
        if long_tail:
            generator = torch.Generator().manual_seed(seed)
            keep = (labels % 2 == 0) | (torch.rand(count, generator=generator) < 1 / 3)
            images, labels = images[keep], labels[keep]
        self.images = (images.float() / 255 - 0.2) / 0.35
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


class ClassBalancedBatchSampler(Sampler):
    def __init__(self, labels, per_class, batches):
        self.by_class = [torch.nonzero(labels == c).flatten() for c in labels.unique().tolist()]
        self.per_class = per_class
        self.batches = batches

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for indices in self.by_class:
                chosen = torch.randperm(len(indices))[: self.per_class]
                batch.extend(indices[chosen].tolist())
            order = torch.randperm(len(batch))
            yield [batch[i] for i in order.tolist()]


class MarginNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.norm1 = nn.GroupNorm(4, 16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, 32)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(32 * 4 * 4, num_classes)

    def forward(self, x):
        x = self.pool(torch.relu(self.norm1(self.conv1(x))))
        x = self.pool(torch.relu(self.norm2(self.conv2(x))))
        return self.fc(x.flatten(1))


def setup():
    torch.manual_seed(7)
    train_set = LongTailDigits(1800, seed=0, long_tail=True)
    val_set = LongTailDigits(300, seed=1, long_tail=False)
    sampler = ClassBalancedBatchSampler(train_set.labels, CFG["per_class"], CFG["batches"])
    model = MarginNet(CFG["classes"])
    return {
        "model": model,
        "train": DataLoader(train_set, batch_sampler=sampler),
        "val": DataLoader(val_set, batch_size=100),
        "loss": nn.MultiMarginLoss(margin=CFG["margin"]),
        "optimizer": torch.optim.Adam(model.parameters(), lr=CFG["lr"]),
        "task": "classify",
    }
