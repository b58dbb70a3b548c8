"""Colored shapes: a registry of models, an abstract trainer, a network with squeeze and excitation, one-cycle SGD."""

import time
from abc import ABC, abstractmethod
from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import NAMES, Shapes

MODELS = {}


def register(name):
    def wrap(builder):
        assert name not in MODELS, name
        MODELS[name] = builder
        return builder

    return wrap


def create_model(name, **options):
    return MODELS[name](**options)


class SqueezeExcite(nn.Module):
    def __init__(self, channels, reduction=4):
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // reduction, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return x * self.gate(x)


class SEBlock(nn.Module):
    def __init__(self, inner, outer, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.se = SqueezeExcite(outer)
        self.shortcut = nn.Sequential()
        if stride != 1 or inner != outer:
            self.shortcut = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.se(self.bn2(self.conv2(out)))
        return F.relu(out + self.shortcut(x))


class SENet(nn.Module):
    def __init__(self, plan, num_classes, zero_init_residual=True):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        channels, layers = 16, []
        for width, stride in plan:
            layers.append(SEBlock(channels, width, stride))
            channels = width
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual:
            for block in self.layers:
                nn.init.zeros_(block.bn2.weight)  # each block begins as its shortcut

    def forward(self, x):
        x = self.layers(self.stem(x))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


@register("senet8")
def senet8(**options):
    return SENet([(16, 2), (32, 2), (64, 1)], **options)


@register("senet14")
def senet14(**options):
    return SENet([(16, 2), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)], **options)


class BaseTrainer(ABC):
    def __init__(self, model, train_loader, valid_loader, epochs):
        self.model, self.epochs = model, epochs
        self.train_loader, self.valid_loader = train_loader, valid_loader
        self.history = defaultdict(list)
        self.optimizer, self.scheduler = self.configure_optimizers()

    @abstractmethod
    def configure_optimizers(self): ...

    @abstractmethod
    def training_step(self, batch): ...

    @abstractmethod
    def validation_step(self, batch):
        """Sums over the batch, and "count"."""

    def fit(self):
        for epoch in range(self.epochs):
            start = time.perf_counter()
            self.model.train()
            losses = []
            for batch in self.train_loader:
                loss = self.training_step(batch)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.scheduler.step()
                losses.append(loss.detach())
            self.history["train_loss"].append(torch.stack(losses).mean().item())
            for name, value in self.validate().items():
                self.history[name].append(value)
            shown = " ".join(f"{name} {values[-1]:.4f}" for name, values in self.history.items())
            print(f"epoch {epoch + 1:2d} {shown} {time.perf_counter() - start:.1f} s", flush=True)

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        sums = defaultdict(float)
        for batch in self.valid_loader:
            for name, value in self.validation_step(batch).items():
                sums[name] += float(value)
        count = sums.pop("count")
        return {name: value / count for name, value in sums.items()}


class ShapesTrainer(BaseTrainer):
    max_lr, weight_decay = 0.08, 5e-4

    def configure_optimizers(self):
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        plain = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        optimizer = torch.optim.SGD(groups, lr=self.max_lr, momentum=0.9, nesterov=True)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.max_lr, epochs=self.epochs, steps_per_epoch=len(self.train_loader), pct_start=0.25
        )
        return optimizer, scheduler

    def training_step(self, batch):
        images, labels = batch
        flipped = torch.rand(len(images), 1, 1, 1) < 0.5
        images = torch.where(flipped, images.flip(3), images)  # all shapes are symmetric
        return F.cross_entropy(self.model(images), labels)

    def validation_step(self, batch):
        images, labels = batch
        logits = self.model(images)
        return {
            "valid_loss": F.cross_entropy(logits, labels, reduction="sum"),
            "valid_acc": (logits.argmax(1) == labels).sum(),
            "count": len(labels),
        }


def main():
    torch.manual_seed(3)
    train, valid = Shapes(train=True, count=1800), Shapes(train=False, count=300)
    train_images, valid_images = torch.stack(train.images), torch.stack(valid.images)
    mean = train_images.mean((0, 2, 3), keepdim=True)
    std = train_images.std((0, 2, 3), keepdim=True)
    train_set = TensorDataset((train_images - mean) / std, torch.tensor(train.targets))
    valid_set = TensorDataset((valid_images - mean) / std, torch.tensor(valid.targets))
    model = create_model("senet8", num_classes=len(NAMES))
    trainer = ShapesTrainer(
        model, DataLoader(train_set, batch_size=50, shuffle=True), DataLoader(valid_set, batch_size=100), epochs=30
    )
    trainer.fit()


if __name__ == "__main__":
    main()
