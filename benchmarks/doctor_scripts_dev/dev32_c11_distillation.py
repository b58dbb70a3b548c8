"""Knowledge distillation: a wide teacher, a student with a tenth of its parameters."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

TEMPERATURE, ALPHA = 3.0, 0.7


def conv_net(a, b):
    return nn.Sequential(
        nn.Conv2d(1, a, 3, padding=1), nn.BatchNorm2d(a), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(b * 16, 10),
    )  # fmt: skip


class Trainer:
    def __init__(self, model, loaders, lr, epochs):
        self.model, self.epochs = model, epochs
        self.train_loader, self.val_loader = loaders
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [epochs * 2 // 3], gamma=0.2)

    def loss(self, images, labels):
        return F.cross_entropy(self.model(images), labels)

    def train_epoch(self):
        self.model.train()
        total, count = 0.0, 0
        for images, labels in self.train_loader:
            loss = self.loss(images, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(labels)
            count += len(labels)
        self.scheduler.step()
        return total / count

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        right = sum((self.model(x).argmax(1) == y).sum().item() for x, y in self.val_loader)
        return right / len(self.val_loader.dataset)

    def fit(self):
        for epoch in range(self.epochs):
            loss = self.train_epoch()
            print(f"{type(self).__name__} {epoch + 1:2d}: loss {loss:.4f} accuracy {self.validate():.3f}")
        return self.model


class Distiller(Trainer):
    def __init__(self, model, teacher, *args):
        super().__init__(model, *args)
        self.teacher = teacher.eval().requires_grad_(False)

    def loss(self, images, labels):
        with torch.no_grad():
            wanted = self.teacher(images)
        logits = self.model(images)
        soft = F.kl_div(
            F.log_softmax(logits / TEMPERATURE, dim=1), F.softmax(wanted / TEMPERATURE, dim=1), reduction="batchmean"
        )
        return ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * F.cross_entropy(logits, labels)


def main():
    torch.manual_seed(5)
    transform = lambda image: (image.float() / 255 - 0.22) / 0.35
    train_set = Digits(train=True, count=1800, transform=transform)
    val_set = Digits(train=False, count=400, transform=transform)
    loaders = DataLoader(train_set, 45, shuffle=True), DataLoader(val_set, 200)
    teacher = Trainer(conv_net(24, 48), loaders, 1e-3, 9).fit()
    student = Distiller(conv_net(6, 12), teacher, loaders, 3e-3, 14).fit()
    size = lambda model: sum(p.numel() for p in model.parameters())
    print(f"teacher {size(teacher)} parameters, student {size(student)}")


if __name__ == "__main__":
    main()
