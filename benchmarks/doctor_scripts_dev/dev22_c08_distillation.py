"""Knowledge distillation on colored shapes: a wide teacher is trained first, a small student learns from its soft answers."""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes


@dataclass
class Config:
    teacher_epochs: int = 10
    student_epochs: int = 30
    batch_size: int = 50
    teacher_lr: float = 2e-3
    student_lr: float = 4e-3
    temperature: float = 4.0
    alpha: float = 0.7  # share of the teacher in the loss
    train_count: int = 1500
    valid_count: int = 300
    seed: int = 21


class Teacher(nn.Module):
    def __init__(self, num_classes=6):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 48, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(48)
        self.conv3 = nn.Conv2d(48, 64, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(64)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.relu(self.bn3(self.conv3(x)))
        return self.fc(self.drop(x.amax((2, 3))))


def separable(inner, outer, stride):
    return nn.Sequential(
        nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU6(inplace=True),
        nn.Conv2d(inner, outer, 1, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU6(inplace=True),
    )


class Student(nn.Module):
    def __init__(self, num_classes=6):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU6(inplace=True),
            separable(12, 24, 2),
            separable(24, 32, 2),
            separable(32, 48, 1),
        )
        self.fc = nn.Linear(48, num_classes)

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


class DistillationLoss(nn.Module):
    """Hinton's loss; the factor of the squared temperature keeps the gradients of both parts comparable."""

    def __init__(self, temperature, alpha):
        super().__init__()
        self.temperature, self.alpha = temperature, alpha

    def forward(self, student_logits, teacher_logits, labels):
        soft = F.kl_div(
            F.log_softmax(student_logits / self.temperature, dim=1),
            F.softmax(teacher_logits / self.temperature, dim=1),
            reduction="batchmean",
        )
        hard = F.cross_entropy(student_logits, labels)
        return self.alpha * self.temperature**2 * soft + (1 - self.alpha) * hard


def prepare(cfg):
    train, valid = Shapes(True, cfg.train_count), Shapes(False, cfg.valid_count)
    images = torch.stack(train.images)
    mean, std = images.mean((0, 2, 3)).view(3, 1, 1), images.std((0, 2, 3)).view(3, 1, 1)
    train_set = TensorDataset((images - mean) / std, torch.tensor(train.targets))
    valid_set = TensorDataset((torch.stack(valid.images) - mean) / std, torch.tensor(valid.targets))
    return DataLoader(train_set, cfg.batch_size, shuffle=True), DataLoader(valid_set, 100, shuffle=False)


@torch.no_grad()
def test(model, loader):
    model.eval()
    hits = 0
    for images, labels in loader:
        hits += (model(images).argmax(1) == labels).sum().item()
    return 100.0 * hits / len(loader.dataset)


def train_teacher(cfg, train_loader, valid_loader):
    teacher = Teacher()
    optimizer = torch.optim.Adam(teacher.parameters(), lr=cfg.teacher_lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.3)
    for epoch in range(cfg.teacher_epochs):
        teacher.train()
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(teacher(images), labels)
            loss.backward()
            optimizer.step()
        scheduler.step()
        print(f"teacher epoch {epoch + 1:2d} accuracy {test(teacher, valid_loader):.2f} %", flush=True)
    for parameter in teacher.parameters():
        parameter.requires_grad = False
    return teacher.eval()


def train_student(cfg, teacher, train_loader, valid_loader):
    student = Student()
    criterion = DistillationLoss(cfg.temperature, cfg.alpha)
    optimizer = torch.optim.Adam(student.parameters(), lr=cfg.student_lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=cfg.student_epochs)
    for epoch in range(cfg.student_epochs):
        student.train()
        total = 0.0
        for images, labels in train_loader:
            with torch.no_grad():
                teacher_logits = teacher(images)
            loss = criterion(student(images), teacher_logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * labels.size(0)
        scheduler.step()
        print(
            f"student epoch {epoch + 1:2d} loss {total / len(train_loader.dataset):.4f} "
            f"accuracy {test(student, valid_loader):.2f} %",
            flush=True,
        )
    return student


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    train_loader, valid_loader = prepare(cfg)
    teacher = train_teacher(cfg, train_loader, valid_loader)
    student = train_student(cfg, teacher, train_loader, valid_loader)
    sizes = [sum(p.numel() for p in model.parameters()) for model in (teacher, student)]
    print("parameters of teacher and student:", *sizes)


if __name__ == "__main__":
    main()
