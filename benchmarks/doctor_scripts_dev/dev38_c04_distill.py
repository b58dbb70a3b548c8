"""Knowledge distillation (Hinton et al., 2015) of a convolutional teacher into a student of a quarter of its size."""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import toydata


@dataclass
class Config:
    seed: int = 7
    holdout: int = 200
    batch_size: int = 50
    embed_dim: int = 48
    teacher_epochs: int = 8
    student_epochs: int = 16
    lr: float = 2e-3
    temperature: float = 3.0
    alpha: float = 0.7


def conv_bn(n_in, n_out):
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU())


class Teacher(nn.Module):
    def __init__(self, embed_dim, n_classes=10):
        super().__init__()
        self.body = nn.Sequential(
            conv_bn(1, 20), conv_bn(20, 20), nn.MaxPool2d(2),
            conv_bn(20, 40), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(40 * 4 * 4, embed_dim), nn.ReLU(),
        )
        self.fc = nn.Linear(embed_dim, n_classes)

    def forward(self, x):
        return self.fc(self.body(x))


class Student(nn.Module):
    def __init__(self, embed_dim, n_classes=10):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(12 * 4 * 4, embed_dim), nn.ReLU(),
        )
        self.fc = nn.Linear(embed_dim, n_classes)

    def forward(self, x):
        return self.fc(self.body(x))


def load_data(cfg):
    pool, test = toydata.Digits(train=True), toydata.Digits(train=False)
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(cfg.seed))
    held, kept = order[: cfg.holdout], order[cfg.holdout :]
    pixels = pool.data.float() / 255
    mean, std = pixels[kept].mean(), pixels[kept].std()
    train_set = TensorDataset((pixels[kept] - mean) / std, pool.targets[kept])
    val_set = TensorDataset((pixels[held] - mean) / std, pool.targets[held])
    test_set = TensorDataset((test.data.float() / 255 - mean) / std, test.targets)
    return (
        DataLoader(train_set, batch_size=cfg.batch_size, shuffle=True),
        DataLoader(val_set, batch_size=100),
        DataLoader(test_set, batch_size=100),
    )


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    hits = sum((model(x).argmax(dim=1) == y).sum().item() for x, y in loader)
    return hits / len(loader.dataset)


def train_teacher(cfg, train_loader, val_loader):
    teacher = Teacher(cfg.embed_dim)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=cfg.lr)
    for epoch in range(cfg.teacher_epochs):
        teacher.train()
        for x, y in train_loader:
            loss = F.cross_entropy(teacher(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"teacher {epoch + 1}: validation accuracy {accuracy(teacher, val_loader):.3f}")
    return teacher


def distillation_loss(student_logits, teacher_logits, labels, cfg):
    t = cfg.temperature
    soft = F.kl_div(
        F.log_softmax(student_logits / t, dim=1), F.softmax(teacher_logits / t, dim=1), reduction="batchmean"
    )
    hard = F.cross_entropy(student_logits, labels)
    return cfg.alpha * t * t * soft + (1 - cfg.alpha) * hard


def train_student(cfg, teacher, train_loader, val_loader):
    student = Student(cfg.embed_dim)
    optimizer = torch.optim.Adam(student.parameters(), lr=cfg.lr)
    best_accuracy, best_weights = 0.0, copy.deepcopy(student.state_dict())
    teacher.eval()
    for epoch in range(cfg.student_epochs):
        student.train()
        for x, y in train_loader:
            with torch.no_grad():
                teacher_logits = teacher(x)
            loss = distillation_loss(student(x), teacher_logits, y, cfg)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        val_accuracy = accuracy(student, val_loader)
        if val_accuracy > best_accuracy:
            best_accuracy, best_weights = val_accuracy, copy.deepcopy(student.state_dict())
        print(f"student {epoch + 1}: validation accuracy {val_accuracy:.3f}")
    student.load_state_dict(best_weights)
    return student


def count_parameters(model):
    return sum(p.numel() for p in model.parameters())


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    train_loader, val_loader, test_loader = load_data(cfg)
    teacher = train_teacher(cfg, train_loader, val_loader)
    student = train_student(cfg, teacher, train_loader, val_loader)
    for name, model in (("teacher", teacher), ("student", student)):
        print(f"{name}: {count_parameters(model)} parameters, test accuracy {accuracy(model, test_loader):.3f}")


if __name__ == "__main__":
    main()
