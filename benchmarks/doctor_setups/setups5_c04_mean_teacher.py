"""Mean Teacher: half of the shapes have a label, a moving average of the student gives targets for all."""

import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

NO_LABEL = -1


class SemiSupervised(Dataset):
    """Hides the labels of all but every `keep`-th sample."""

    def __init__(self, base, keep=2):
        self.base, self.keep = base, keep

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image, target = self.base[index]
        return image, target if index % self.keep == 0 else NO_LABEL


def normalize(image):
    return (image - 0.5) / 0.2


def build_network(classes=6, width=24):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.GroupNorm(4, width), nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.GroupNorm(4, 2 * width), nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.GroupNorm(4, 2 * width), nn.ReLU(),
        nn.AdaptiveMaxPool2d(2), nn.Flatten(),
        nn.Linear(8 * width, classes),
    )


class MeanTeacher(nn.Module):
    def __init__(self, network, decay=0.97):
        super().__init__()
        self.student = network
        self.teacher = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update_teacher(self):
        self.updates += 1
        decay = min(self.decay, 1 - 1 / (self.updates.item() + 1))
        for average, weight in zip(self.teacher.parameters(), self.student.parameters()):
            average.mul_(decay).add_(weight, alpha=1 - decay)

    def forward(self, x):
        return self.student(x)


def supervised_loss(logits, targets):
    total = F.cross_entropy(logits, targets, ignore_index=NO_LABEL, reduction="sum")
    return total / (targets != NO_LABEL).sum().clamp(min=1)


class MeanTeacherStep:
    def __init__(self, weight=1.0, rampup=60, noise=0.2):
        self.weight, self.rampup, self.noise = weight, rampup, noise

    def perturb(self, images):
        return images + self.noise * torch.randn_like(images)

    def __call__(self, model, batch, optimizer, loss):
        images, targets = batch
        logits = model(self.perturb(images))
        with torch.no_grad():
            guess = model.teacher(self.perturb(images)).softmax(dim=1)
        weight = self.weight * min(1.0, model.updates.item() / self.rampup)
        consistency = F.mse_loss(logits.softmax(dim=1), guess)
        value = loss(logits, targets) + weight * consistency
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        model.update_teacher()
        return value


def setup():
    torch.manual_seed(3)
    train = DataLoader(SemiSupervised(Shapes(True, transform=normalize)), batch_size=48, shuffle=True)
    val = DataLoader(Shapes(False, transform=normalize), batch_size=120)
    model = MeanTeacher(build_network())
    optimizer = torch.optim.Adam(model.student.parameters(), lr=2e-3)
    return dict(model=model, train=train, val=val, loss=supervised_loss, optimizer=optimizer, step=MeanTeacherStep())
