"""Mean Teacher (Tarvainen & Valpola 2017) on digits of which a half are labeled; -1 stands for no label."""

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from toydata import Digits

NO_LABEL = -1
args = {"batch_size": 64, "lr": 2e-3, "ema_decay": 0.95, "consistency": 2.0, "rampup": 60, "labeled": 0.5}


def normalize(image):
    return (image.float() / 255 - 0.2) / 0.35


def relabel(dataset, share):
    generator = torch.Generator().manual_seed(7)
    hidden = torch.rand(len(dataset), generator=generator) >= share
    dataset.targets[hidden] = NO_LABEL
    return dataset


def convnet(classes=10):
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.GroupNorm(4, 32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, classes),
    )


class MeanTeacher(nn.Module):
    """The student is trained; the teacher, its moving average, is what is evaluated."""

    def __init__(self, decay):
        super().__init__()
        self.student = convnet()
        self.teacher = copy.deepcopy(self.student)
        for parameter in self.teacher.parameters():
            parameter.requires_grad_(False)
        self.decay = decay
        self.register_buffer("global_step", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        return self.student(x) if self.training else self.teacher(x)

    @torch.no_grad()
    def update_teacher(self):
        self.global_step += 1
        alpha = self.decay
        for ema, parameter in zip(self.teacher.parameters(), self.student.parameters()):
            ema.mul_(alpha).add_(parameter, alpha=1 - alpha)


def class_criterion(logits, targets):
    labeled = (targets != NO_LABEL).sum().clamp(min=1)
    return F.cross_entropy(logits, targets, ignore_index=NO_LABEL, reduction="sum") / labeled


def train_step(model, batch, optimizer, loss):
    images, targets = batch
    model.train()
    logits = model(images + 0.1 * torch.randn_like(images))
    with torch.no_grad():
        ema_logits = model.teacher(images + 0.1 * torch.randn_like(images))
    weight = args["consistency"] * min(1.0, model.global_step.item() / args["rampup"])
    consistency = F.mse_loss(logits.softmax(1), ema_logits.softmax(1))
    value = loss(logits, targets) + weight * consistency
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    model.update_teacher()
    return value


def build_optimizer(params):
    return torch.optim.Adam([p for p in params if p.requires_grad], lr=args["lr"])


def setup():
    torch.manual_seed(1)
    train_set = relabel(Digits(True, transform=normalize), args["labeled"])
    return {
        "model": MeanTeacher(args["ema_decay"]),
        "train": DataLoader(train_set, batch_size=args["batch_size"], shuffle=True, drop_last=True),
        "val": DataLoader(Digits(False, transform=normalize), batch_size=100),
        "loss": class_criterion,
        "optimizer": build_optimizer,
        "step": train_step,
    }
