"""Knowledge distillation (Hinton et al., 2015): a small student learns from labels and from a larger teacher."""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


@dataclass
class Config:
    seed: int = 3
    n_train: int = 1216
    n_val: int = 200
    n_test: int = 400
    teacher_epochs: int = 8
    teacher_lr: float = 2e-3
    student_epochs: int = 16
    student_lr: float = 0.05
    batch_size: int = 16
    accum_steps: int = 4
    max_norm: float = 5.0
    temperature: float = 2.0
    alpha: float = 0.3


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(48 * 16, 10))

    def forward(self, x):
        return self.classifier(self.features(x))


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc = nn.Linear(16 * 16, 10)

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = F.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.fc(x.flatten(1))


def make_set(count, seed):
    images, labels = draw_digits(count, seed=seed)
    return TensorDataset((images.float() / 255 - 0.18) / 0.31, labels)


def distillation_loss(student_logits, teacher_logits, labels, cfg):
    T = cfg.temperature
    hard = F.cross_entropy(student_logits, labels)
    log_q = F.log_softmax(student_logits / T, dim=1)
    p = F.softmax(teacher_logits / T, dim=1)
    soft = -(p * log_q).sum(dim=1).mean() * T * T
    return cfg.alpha * hard + (1 - cfg.alpha) * soft


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    loss, hits, count = 0.0, 0, 0
    for x, y in loader:
        logits = model(x)
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        hits += (logits.argmax(1) == y).sum().item()
        count += len(y)
    return loss / count, hits / count


def train_teacher(teacher, train_set, cfg):
    loader = DataLoader(train_set, batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=cfg.teacher_lr)
    teacher.train()
    for _ in range(cfg.teacher_epochs):
        for x, y in loader:
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(teacher(x), y).backward()
            optimizer.step()
    return teacher


def train_student(student, teacher, train_set, val_loader, cfg):
    loader = DataLoader(train_set, batch_size=cfg.batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(student.parameters(), lr=cfg.student_lr, momentum=0.9, weight_decay=1e-4)
    total_steps = cfg.student_epochs * (len(loader) // cfg.accum_steps)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=cfg.student_lr, total_steps=total_steps)
    scaler = torch.amp.GradScaler("cpu")

    best_loss = float("inf")
    best_weights = None
    teacher.eval()
    for epoch in range(cfg.student_epochs):
        student.train()
        for i, (x, y) in enumerate(loader):
            with torch.no_grad():
                teacher_logits = teacher(x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                student_logits = student(x)
            loss = distillation_loss(student_logits.float(), teacher_logits, y, cfg)
            scaler.scale(loss / cfg.accum_steps).backward()
            if (i + 1) % cfg.accum_steps == 0:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(student.parameters(), cfg.max_norm)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                scheduler.step()

        val_loss, val_acc = evaluate(student, val_loader)
        print(f"[{epoch + 1:02d}/{cfg.student_epochs}] val loss {val_loss:.3f} acc {val_acc:.3f}")
        if val_loss < best_loss:
            best_loss = val_loss
            best_weights = copy.deepcopy(student.state_dict())
    student.load_state_dict(best_weights)
    return student


def main(cfg):
    torch.manual_seed(cfg.seed)
    train_set = make_set(cfg.n_train, seed=100)
    val_loader = DataLoader(make_set(cfg.n_val, seed=101), batch_size=100)
    test_loader = DataLoader(make_set(cfg.n_test, seed=102), batch_size=100)

    teacher = train_teacher(Teacher(), train_set, cfg)
    print("teacher: test loss %.3f, accuracy %.3f" % evaluate(teacher, test_loader))
    student = train_student(Student(), teacher, train_set, val_loader, cfg)
    print("student: test loss %.3f, accuracy %.3f" % evaluate(student, test_loader))


if __name__ == "__main__":
    main(Config())
