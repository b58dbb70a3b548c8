"""Knowledge distillation: a teacher is trained first, then frozen, and a student half of whose signal is the teacher's."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

from toydata import NAMES, Shapes


@dataclass
class TrainConfig:
    name: str
    epochs: int
    lr: float
    batch_size: int = 64
    weight_decay: float = 5e-4
    temperature: float = 4.0
    alpha: float = 0.7
    history: list = field(default_factory=list)


def load(train: bool, count: int, stats=None):
    shapes = Shapes(train=train, count=count, size=20)
    x = torch.stack(shapes.images)
    stats = stats or (x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True))
    return TensorDataset((x - stats[0]) / stats[1], torch.tensor(shapes.targets)), stats


class Teacher(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()

        def stage(cin, cout, pool):
            layers = [nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]
            return layers + ([nn.MaxPool2d(2)] if pool else [])

        self.body = nn.Sequential(*stage(3, 24, False), *stage(24, 24, True), *stage(24, 48, False), *stage(48, 48, True), *stage(48, 64, False))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(256, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Student(nn.Module):
    """Depthwise separable convolutions, some 3000 parameters."""

    def __init__(self, num_classes: int):
        super().__init__()

        def separable(cin, cout, stride):
            return nn.Sequential(
                nn.Conv2d(cin, cin, 3, stride, 1, groups=cin, bias=False),
                nn.BatchNorm2d(cin),
                nn.Conv2d(cin, cout, 1, bias=False),
                nn.BatchNorm2d(cout),
                nn.Hardswish(),
            )

        self.net = nn.Sequential(
            nn.Conv2d(3, 12, 3, 1, 1, bias=False), nn.BatchNorm2d(12), nn.Hardswish(), separable(12, 24, 2), separable(24, 32, 2), separable(32, 32, 1)
        )
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.net(x).mean((2, 3)))


class Trainer:
    def __init__(self, model: nn.Module, config: TrainConfig, train_set, val_set, teacher: nn.Module | None = None):
        self.model, self.config, self.teacher = model, config, teacher
        self.train_loader = DataLoader(train_set, config.batch_size, shuffle=True)
        self.val_loader = DataLoader(val_set, 200)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=0.9, weight_decay=config.weight_decay, nesterov=True)
        self.scheduler = CosineAnnealingLR(self.optimizer, T_max=config.epochs)
        if teacher is not None:
            teacher.eval()
            for p in teacher.parameters():
                p.requires_grad = False

    def criterion(self, x: Tensor, y: Tensor) -> Tensor:
        logits = self.model(x)
        hard = F.cross_entropy(logits, y)
        if self.teacher is None:
            return hard
        t = self.config.temperature
        with torch.no_grad():
            soft_targets = F.softmax(self.teacher(x) / t, dim=1)
        soft = F.kl_div(F.log_softmax(logits / t, dim=1), soft_targets, reduction="batchmean") * t * t
        return self.config.alpha * soft + (1 - self.config.alpha) * hard

    @torch.no_grad()
    def validate(self) -> float:
        self.model.eval()
        hits = sum((self.model(x).argmax(1) == y).sum().item() for x, y in self.val_loader)
        return hits / len(self.val_loader.dataset)

    def fit(self) -> float:
        for epoch in range(self.config.epochs):
            self.model.train()
            total = 0.0
            for x, y in self.train_loader:
                flip = torch.rand(len(x), 1, 1, 1) < 0.5
                x = torch.where(flip, x.flip(-1), x)
                loss = self.criterion(x, y)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                total += loss.item() * len(y)
            self.scheduler.step()
            accuracy = self.validate()
            self.config.history.append(accuracy)
            print(f"{self.config.name:8s} epoch {epoch:2d} loss {total / len(self.train_loader.dataset):.4f} val acc {accuracy:.4f}")
        return self.config.history[-1]


def main():
    torch.manual_seed(17)
    train_set, stats = load(True, 1600)
    val_set, _ = load(False, 400, stats)
    teacher, student = Teacher(len(NAMES)), Student(len(NAMES))
    sizes = [sum(p.numel() for p in m.parameters()) for m in (teacher, student)]
    print(f"teacher {sizes[0]} parameters, student {sizes[1]}")
    best_teacher = Trainer(teacher, TrainConfig("teacher", epochs=9, lr=0.02), train_set, val_set).fit()
    distilled = Trainer(student, TrainConfig("student", epochs=16, lr=0.04), train_set, val_set, teacher=teacher).fit()
    print(f"teacher {best_teacher:.4f}, distilled student {distilled:.4f}")


if __name__ == "__main__":
    main()
