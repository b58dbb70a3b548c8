"""Mean Teacher (Tarvainen & Valpola, 2017) on digits: 200 images with labels, 1000 without."""

import copy
import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from toydata import Digits

NO_LABEL = -1


@dataclass
class Config:
    labelled_per_class: int = 20
    labelled_batch: int = 50
    unlabelled_batch: int = 100
    epochs: int = 30
    lr: float = 2e-3
    ema_decay: float = 0.97
    consistency: float = 10.0
    rampup_epochs: int = 8
    seed: int = 11


class TwoViews(Dataset):
    """Each image twice, shifted and with noise; targets of unlabelled images are NO_LABEL."""

    def __init__(self, base, has_label, mean, std):
        self.images = base.data.float() / 255
        self.targets = torch.where(has_label, base.targets, torch.full_like(base.targets, NO_LABEL))
        self.mean, self.std = mean, std

    def __len__(self):
        return len(self.images)

    def view(self, image):
        top, left = torch.randint(0, 3, (2,)).tolist()
        image = F.pad(image, (1, 1, 1, 1))[:, top : top + 16, left : left + 16]
        image = image + 0.05 * torch.randn_like(image)
        return (image - self.mean) / self.std

    def __getitem__(self, index):
        image = self.images[index]
        return self.view(image), self.view(image), self.targets[index]


class TwoStreamBatchSampler(Sampler):
    """One pass over the primary indices, with secondary indices repeated as often as needed."""

    def __init__(self, primary, secondary, primary_size, secondary_size):
        self.primary, self.secondary = primary, secondary
        self.primary_size, self.secondary_size = primary_size, secondary_size

    def __iter__(self):
        primary = np.random.permutation(self.primary)
        passes = (np.random.permutation(self.secondary) for _ in itertools.count())
        secondary = itertools.chain.from_iterable(passes)
        for step in range(len(self)):
            chosen = primary[step * self.primary_size : (step + 1) * self.primary_size]
            yield chosen.tolist() + [int(i) for i in itertools.islice(secondary, self.secondary_size)]

    def __len__(self):
        return len(self.primary) // self.primary_size


def make_network():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4 * 4, 10),
    )


@torch.no_grad()
def update_teacher(teacher, student, step, decay):
    decay = min(1 - 1 / (step + 1), decay)
    for slow, fast in zip(teacher.parameters(), student.parameters()):
        slow.lerp_(fast, 1 - decay)


@torch.no_grad()
def accuracy(network, images, targets):
    network.eval()
    return (network(images).argmax(1) == targets).float().mean().item()


def main(cfg):
    torch.manual_seed(cfg.seed)
    np.random.seed(cfg.seed)
    train_set, test_set = Digits(train=True), Digits(train=False)
    pixels = train_set.data.float() / 255
    mean, std = pixels.mean(), pixels.std()

    has_label = torch.zeros(len(train_set), dtype=torch.bool)
    for digit in range(10):
        has_label[(train_set.targets == digit).nonzero().flatten()[: cfg.labelled_per_class]] = True
    unlabelled, labelled = (~has_label).nonzero().flatten().numpy(), has_label.nonzero().flatten().numpy()
    sampler = TwoStreamBatchSampler(unlabelled, labelled, cfg.unlabelled_batch, cfg.labelled_batch)
    loader = DataLoader(TwoViews(train_set, has_label, mean, std), batch_sampler=sampler)
    test_images = (test_set.data.float() / 255 - mean) / std

    student = make_network()
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.Adam(student.parameters(), lr=cfg.lr)
    total = cfg.epochs * len(loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 0.5 * (1 + math.cos(math.pi * s / total)))

    step = 0
    for epoch in range(cfg.epochs):
        student.train()
        teacher.train()
        ramp = math.exp(-5 * (1 - min(1.0, epoch / cfg.rampup_epochs)) ** 2)
        losses = []
        for first, second, target in loader:
            logits = student(first)
            with torch.no_grad():
                guess = teacher(second).softmax(dim=1)
            supervised = F.cross_entropy(logits, target, ignore_index=NO_LABEL)
            agreement = F.mse_loss(logits.softmax(dim=1), guess)
            loss = supervised + cfg.consistency * ramp * agreement
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            step += 1
            update_teacher(teacher, student, step, cfg.ema_decay)
            losses.append(supervised.item())
        if (epoch + 1) % 5 == 0:
            print(
                f"epoch {epoch + 1:3d}  supervised loss {sum(losses) / len(losses):.3f}"
                f"  student {accuracy(student, test_images, test_set.targets):.3f}"
                f"  teacher {accuracy(teacher, test_images, test_set.targets):.3f}"
            )


if __name__ == "__main__":
    main(Config())
