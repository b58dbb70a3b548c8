"""Few labels: pseudo-labels of an averaged teacher for weakly shifted images, learned from strongly changed ones."""

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from toydata import Digits


@dataclass
class Settings:
    labels_per_class: int = 15
    steps: int = 300
    batch: int = 32
    ratio: int = 3
    threshold: float = 0.9
    weight: float = 1.0
    lr: float = 0.05
    weight_decay: float = 5e-4
    ema: float = 0.99
    dtype: torch.dtype = torch.float32
    seed: int = 11


def shift(images, amount):
    count, _, height, width = images.shape
    padded = F.pad(images, [amount] * 4)[:, 0]
    top, left = torch.randint(0, 2 * amount + 1, (2, count))
    rows = (top[:, None] + torch.arange(height))[:, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None, :]
    return padded[torch.arange(count)[:, None, None], rows, columns].unsqueeze(1)


def weak(images):
    return shift(images, 1)


def strong(images):
    images = shift(images, 2).clone()
    for image, (y, x) in zip(images, torch.randint(0, 13, (len(images), 2)).tolist()):
        image[:, y : y + 4, x : x + 4] = 0
    return images + 0.1 * torch.randn_like(images)


def make_net():
    def block(inputs, outputs):
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(*block(1, 16), *block(16, 32), *block(32, 32), nn.Flatten(), nn.Linear(32 * 4, 10))


class SemiSupervised:
    def __init__(self, settings):
        self.s = settings
        self.student = make_net().to(settings.dtype)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval()
        self.optimizer = torch.optim.SGD(
            self.student.parameters(),
            lr=settings.lr,
            momentum=0.9,
            nesterov=True,
            weight_decay=settings.weight_decay,
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: math.cos(7 / 16 * math.pi * step / settings.steps)
        )

    def normalize(self, images):
        return ((images - 0.17) / 0.3).to(self.s.dtype)

    @torch.no_grad()
    def update_teacher(self, step):
        decay = min(self.s.ema, 1 - 1 / (step + 1))
        for average, current in zip(self.teacher.parameters(), self.student.parameters()):
            average.mul_(decay).add_(current, alpha=1 - decay)
        for average, current in zip(self.teacher.buffers(), self.student.buffers()):
            average.copy_(current)

    def training_step(self, labelled, targets, unlabelled):
        with torch.no_grad():
            guess = self.teacher(self.normalize(weak(unlabelled))).float().softmax(dim=1)
            confidence, pseudo = guess.max(dim=1)
            sure = (confidence >= self.s.threshold).float()
        inputs = torch.cat([weak(labelled), strong(unlabelled)])
        logits = self.student(self.normalize(inputs)).float()
        logits_labelled, logits_unlabelled = logits.split([len(labelled), len(unlabelled)])
        supervised = F.cross_entropy(logits_labelled, targets)
        unsupervised = (F.cross_entropy(logits_unlabelled, pseudo, reduction="none") * sure).mean()
        return supervised + self.s.weight * unsupervised, sure.mean()

    def fit(self, labelled_loader, unlabelled_loader, validate):
        self.student.train()
        for step, ((x, y), (u,)) in enumerate(zip(labelled_loader, unlabelled_loader)):
            loss, used = self.training_step(x, y, u)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            self.update_teacher(step)
            if (step + 1) % 50 == 0:
                print(f"step {step + 1}: loss {loss:.3f}, pseudo-labels used {used:.2f}, validation {validate():.3f}")

    @torch.no_grad()
    def accuracy(self, loader):
        right = total = 0
        for images, targets in loader:
            inputs = self.normalize(images)
            right += (self.teacher(inputs).argmax(dim=1) == targets).sum().item()
            total += len(targets)
        return right / total


def loader_of(dataset, batch, steps):
    sampler = RandomSampler(dataset, replacement=True, num_samples=batch * steps)
    return DataLoader(dataset, batch_size=batch, sampler=sampler)


if __name__ == "__main__":
    settings = Settings()
    torch.manual_seed(settings.seed)
    digits, held_out = Digits(train=True, count=1500), Digits(train=False, count=600)
    images, targets = digits.data.float() / 255, digits.targets
    chosen = torch.cat([(targets == c).nonzero().flatten()[: settings.labels_per_class] for c in range(10)])
    others = torch.ones(len(images), dtype=torch.bool)
    others[chosen] = False

    labelled_loader = loader_of(TensorDataset(images[chosen], targets[chosen]), settings.batch, settings.steps)
    unlabelled_loader = loader_of(TensorDataset(images[others]), settings.batch * settings.ratio, settings.steps)
    evaluation = TensorDataset(held_out.data.float() / 255, held_out.targets)
    val_set = torch.utils.data.Subset(evaluation, range(300))
    test_set = torch.utils.data.Subset(evaluation, range(300, 600))
    val_loader, test_loader = DataLoader(val_set, batch_size=100), DataLoader(test_set, batch_size=100)

    trainer = SemiSupervised(settings)
    trainer.fit(labelled_loader, unlabelled_loader, lambda: trainer.accuracy(val_loader))
    print(f"test accuracy of the teacher {trainer.accuracy(test_loader):.3f}")
