"""Knowledge distillation (Hinton et al., 2015): a wide teacher, a narrow student, digits."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from toydata import Digits


@dataclass
class TeacherConfig:
    width: int = 20
    epochs: int = 8
    lr: float = 2e-3


@dataclass
class StudentConfig:
    widths: tuple[int, ...] = (8, 16)
    epochs: int = 20
    lr: float = 1.5e-3
    dtype: torch.dtype = torch.float32


@dataclass
class Config:
    seed: int = 7
    batch_size: int = 64
    eval_batch_size: int = 128
    temperature: float = 4.0
    alpha: float = 0.7
    weight_decay: float = 1e-4
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    student: StudentConfig = field(default_factory=StudentConfig)


def preprocess(image: Tensor) -> Tensor:
    return (image.float() / 255.0 - 0.25) / 0.32


class Teacher(nn.Module):
    def __init__(self, cfg: TeacherConfig, num_classes: int = 10):
        super().__init__()
        w = cfg.width
        self.features = nn.Sequential(
            nn.Conv2d(1, w, 3, padding=1), nn.BatchNorm2d(w), nn.ReLU(),
            nn.Conv2d(w, w, 3, padding=1), nn.BatchNorm2d(w), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(w, 2 * w, 3, padding=1), nn.BatchNorm2d(2 * w), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.2), nn.Linear(2 * w * 16, 128), nn.ReLU(), nn.Linear(128, num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class Student(nn.Module):
    def __init__(self, cfg: StudentConfig, num_classes: int = 10):
        super().__init__()
        channels = (1, *cfg.widths)
        self.stages = nn.ModuleList(
            [nn.Conv2d(c_in, c_out, 3, padding=1) for c_in, c_out in zip(channels[:-1], channels[1:])]
        )
        self.head = nn.Linear(channels[-1] * 16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = F.max_pool2d(F.relu(stage(x)), 2)
        return self.head(x.flatten(1))


def distillation_loss(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, cfg: Config) -> Tensor:
    T = cfg.temperature
    log_p = F.log_softmax(student_logits / T, dim=1)
    q = F.softmax(teacher_logits / T, dim=1)
    soft = F.kl_div(log_p, q, reduction="batchmean") * T**2
    hard = F.cross_entropy(student_logits, labels)
    return cfg.alpha * soft + (1.0 - cfg.alpha) * hard


@torch.no_grad()
def accuracy(network: nn.Module, loader: DataLoader, dtype: torch.dtype = torch.float32) -> float:
    network.eval()
    correct = 0
    for images, labels in loader:
        correct += (network(images.to(dtype)).argmax(dim=1) == labels).sum().item()
    return correct / len(loader.dataset)


def train_teacher(cfg: Config, train_loader: DataLoader, test_loader: DataLoader) -> nn.Module:
    teacher = Teacher(cfg.teacher)
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=cfg.teacher.lr, weight_decay=cfg.weight_decay)
    for epoch in range(cfg.teacher.epochs):
        teacher.train()
        for images, labels in train_loader:
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(teacher(images), labels).backward()
            optimizer.step()
        print(f"[teacher] epoch {epoch:2d}  test acc {accuracy(teacher, test_loader):.3f}")
    return teacher


def train_student(cfg: Config, teacher: nn.Module, train_loader: DataLoader, test_loader: DataLoader) -> nn.Module:
    student = Student(cfg.student).to(cfg.student.dtype)
    trainable = list(student.parameters())
    optim = torch.optim.AdamW(trainable, lr=cfg.student.lr, weight_decay=cfg.weight_decay)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(optim, T_max=cfg.student.epochs)
    teacher.eval()
    for epoch in range(cfg.student.epochs):
        student.train()
        running = 0.0
        for images, labels in train_loader:
            with torch.no_grad():
                teacher_logits = teacher(images)
            student_logits = student(images.to(cfg.student.dtype)).float()
            loss = distillation_loss(student_logits, teacher_logits, labels, cfg)
            optim.zero_grad(set_to_none=True)
            loss.backward()
            optim.step()
            running += loss.item()
        sched.step()
        acc = accuracy(student, test_loader, cfg.student.dtype)
        print(f"[student] epoch {epoch:2d}  loss {running / len(train_loader):.3f}  test acc {acc:.3f}")
    return student


def run(cfg: Config) -> None:
    torch.manual_seed(cfg.seed)
    train_loader = DataLoader(Digits(train=True, transform=preprocess), batch_size=cfg.batch_size, shuffle=True)
    test_loader = DataLoader(Digits(train=False, transform=preprocess), batch_size=cfg.eval_batch_size)
    teacher = train_teacher(cfg, train_loader, test_loader)
    student = train_student(cfg, teacher, train_loader, test_loader)
    sizes = [sum(p.numel() for p in net.parameters()) for net in (teacher, student)]
    print(f"teacher {sizes[0]} weights, student {sizes[1]} weights")
    print(f"student final {accuracy(student, test_loader, cfg.student.dtype):.4f}")


if __name__ == "__main__":
    run(Config())
