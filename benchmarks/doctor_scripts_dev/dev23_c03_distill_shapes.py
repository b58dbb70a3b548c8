"""Knowledge distillation: a wide teacher, a slim student of depthwise convolutions."""
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import NAMES, Shapes


@dataclass
class Config:
    teacher_epochs: int = 10
    student_epochs: int = 26
    batch_size: int = 64
    teacher_lr: float = 2e-3
    student_lr: float = 4e-3
    temperature: float = 4.0
    alpha: float = 0.7
    seed: int = 3


def normalize(image):
    return (image - 0.5) / 0.25


class Teacher(nn.Module):
    def __init__(self, classes):
        super().__init__()
        layers, width = [], 3
        for out, pool in ((32, True), (64, True), (96, False)):
            layers += [nn.Conv2d(width, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if pool else []
            width = out
        self.features = nn.Sequential(*layers)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        return self.fc(self.drop(self.features(x).amax(dim=(2, 3))))


class Separable(nn.Sequential):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__(
            nn.Conv2d(inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs), nn.ReLU(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs), nn.ReLU(),
        )


class Student(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(Separable(16, 32, stride=2), Separable(32, 48), Separable(48, 64, stride=2))
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        return self.fc(self.body(self.stem(x)).amax(dim=(2, 3)))


def augment(x):
    """Mirrored half of the time, each image for itself: all six shapes stay what they are."""
    flip = torch.rand(len(x), 1, 1, 1) < 0.5
    return torch.where(flip, x.flip(3), x)


def distillation_loss(student_logits, teacher_logits, targets, cfg):
    t = cfg.temperature
    soft = F.kl_div(
        F.log_softmax(student_logits / t, dim=1), F.softmax(teacher_logits / t, dim=1), reduction="batchmean"
    ) * t * t
    hard = F.cross_entropy(student_logits, targets)
    return cfg.alpha * soft + (1 - cfg.alpha) * hard


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    right = torch.zeros(len(NAMES))
    count = torch.zeros(len(NAMES))
    for x, y in loader:
        hits = (model(x).argmax(1) == y).float()
        right.index_add_(0, y, hits)
        count.index_add_(0, y, torch.ones_like(hits))
    return (right.sum() / count.sum()).item(), (right / count.clamp(min=1)).min().item()


def train_teacher(cfg, train_loader, valid_loader):
    teacher = Teacher(len(NAMES))
    optimizer = torch.optim.Adam(teacher.parameters(), lr=cfg.teacher_lr)
    for epoch in range(cfg.teacher_epochs):
        teacher.train()
        for x, y in train_loader:
            loss = F.cross_entropy(teacher(augment(x)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        accuracy, worst = evaluate(teacher, valid_loader)
        print(f"[teacher] epoch {epoch}: valid acc {accuracy:.3f}, worst class {worst:.3f}")
    return teacher.eval().requires_grad_(False)


def train_student(cfg, teacher, train_loader, valid_loader):
    student = Student(len(NAMES))
    optimizer = torch.optim.SGD(student.parameters(), lr=cfg.student_lr * 10, momentum=0.9, nesterov=True,
                                weight_decay=1e-4)
    steps = cfg.student_epochs * len(train_loader)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=40)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps - 40)
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[40])
    for epoch in range(cfg.student_epochs):
        student.train()
        total = 0.0
        for x, y in train_loader:
            x = augment(x)
            with torch.no_grad():
                guidance = teacher(x)
            loss = distillation_loss(student(x), guidance, y, cfg)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        accuracy, worst = evaluate(student, valid_loader)
        print(f"[student] epoch {epoch}: loss {total / len(train_loader):.4f}, valid acc {accuracy:.3f}, "
              f"worst class {worst:.3f}")
    return student


if __name__ == "__main__":
    cfg = Config()
    torch.manual_seed(cfg.seed)
    train_loader = DataLoader(Shapes(train=True, count=1600, transform=normalize), cfg.batch_size, shuffle=True)
    valid_loader = DataLoader(Shapes(train=False, count=300, transform=normalize), 150)
    teacher = train_teacher(cfg, train_loader, valid_loader)
    student = train_student(cfg, teacher, train_loader, valid_loader)
    size = [sum(p.numel() for p in m.parameters()) for m in (teacher, student)]
    print(f"parameters: teacher {size[0]}, student {size[1]}; student accuracy {evaluate(student, valid_loader)[0]:.3f}")
