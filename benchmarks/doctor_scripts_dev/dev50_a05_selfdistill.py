"""Self-distillation: the student also learns from a moving average of itself."""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import Digits


@dataclass
class Config:
    n_images: int = 1500
    n_val: int = 300
    batch_size: int = 50
    epochs: int = 12
    lr: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 5e-4
    ema: float = 0.95
    alpha: float = 0.5
    ramp_epochs: int = 4
    noise: float = 0.1
    seed: int = 5


def build_network(width=24):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * 16, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def standardize(images):
    return (images.float() / 255 - 0.27) / 0.33


def perturb(x, cfg):
    shift = torch.randint(-1, 2, (2,)).tolist()
    return torch.roll(x, shift, dims=(2, 3)) + cfg.noise * torch.randn_like(x)


@torch.no_grad()
def update_teacher(teacher, student, cfg):
    for t, s in zip(teacher.parameters(), student.parameters()):
        t.lerp_(s, 1 - cfg.ema)
    for t, s in zip(teacher.buffers(), student.buffers()):
        t.copy_(s)


@torch.no_grad()
def evaluate(net, loader):
    net.eval()
    right = total = 0
    for x, y in loader:
        right += (net(x).argmax(-1) == y).sum().item()
        total += y.numel()
    return right / total


def get_loaders(cfg):
    source = Digits(train=True, count=cfg.n_images, noise=0.4)
    images, targets = standardize(source.data), source.targets
    order = torch.randperm(cfg.n_images, generator=torch.Generator().manual_seed(cfg.seed))
    val_idx = order[: cfg.n_val]
    train_idx = order[cfg.n_val :]
    train = TensorDataset(images[train_idx], targets[train_idx])
    val = TensorDataset(images[val_idx], targets[val_idx])
    held_out = Digits(train=False, noise=0.4)
    test = TensorDataset(standardize(held_out.data), held_out.targets)
    return (
        DataLoader(train, batch_size=cfg.batch_size, shuffle=True),
        DataLoader(val, batch_size=100),
        DataLoader(test, batch_size=100),
    )


def fit(cfg):
    torch.manual_seed(cfg.seed)
    train_loader, val_loader, test_loader = get_loaders(cfg)

    student = build_network()
    teacher = copy.deepcopy(student).requires_grad_(False)
    teacher.eval()
    optimizer = torch.optim.SGD(
        student.parameters(), lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay
    )
    total_steps = cfg.epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.02, 1 - step / total_steps))

    for epoch in range(cfg.epochs):
        student.train()
        ramp = min(1.0, epoch / cfg.ramp_epochs)
        running = 0.0
        for x, y in train_loader:
            with torch.no_grad():
                soft = teacher(x).softmax(dim=-1)
            logp = student(perturb(x, cfg)).log_softmax(dim=-1)
            hard = -logp.gather(1, y.unsqueeze(1)).mean()
            distill = -(soft * logp).sum(dim=-1).mean()
            loss = hard + ramp * cfg.alpha * distill

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            update_teacher(teacher, student, cfg)
            running += loss.item()
        print(
            f"[{epoch + 1}/{cfg.epochs}] loss {running / len(train_loader):.3f} "
            f"student {evaluate(student, val_loader):.3f} teacher {evaluate(teacher, val_loader):.3f}"
        )

    print(f"test accuracy of the teacher: {evaluate(teacher, test_loader):.3f}")
    return teacher


if __name__ == "__main__":
    fit(Config())
