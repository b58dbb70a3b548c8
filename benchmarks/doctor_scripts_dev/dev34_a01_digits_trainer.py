"""Digit recognition with our in-house Trainer: a config, a model, and callbacks for all the rest."""

import copy
import random
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Digits


@dataclass
class Config:
    seed: int = 7
    epochs: int = 14
    batch_size: int = 32
    max_lr: float = 4e-3
    weight_decay: float = 1e-3
    patience: int = 6
    val_count: int = 400


class View(Dataset):
    """Some samples of a dataset, each passed through a transform of this split's own."""

    def __init__(self, base, indices, transform):
        self.base, self.indices, self.transform = base, list(indices), transform

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, i):
        image, label = self.base[self.indices[i]]
        return self.transform(image), label


class Prepare:
    def __init__(self, mean, std, augment=False):
        self.mean, self.std, self.augment = mean, std, augment

    def __call__(self, image):
        image = (image.float() / 255 - self.mean) / self.std
        if self.augment:
            shift = (random.randint(-1, 1), random.randint(-1, 1))
            image = torch.roll(image, shift, dims=(1, 2))
        return image


class DigitNet(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.features = nn.Sequential(
            self.block(1, 24), self.block(24, 24), nn.MaxPool2d(2),
            self.block(24, 48), nn.MaxPool2d(2),
            self.block(48, 64),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 4 * 4, classes))

    @staticmethod
    def block(inside, outside):
        return nn.Sequential(
            nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
        )

    def forward(self, images):
        return self.classifier(self.features(images))


class Callback:
    def on_batch_end(self, trainer): ...

    def on_epoch_end(self, trainer): ...

    def on_fit_end(self, trainer): ...


class OneCycle(Callback):
    def __init__(self, optimizer, max_lr, total_steps):
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr, total_steps=total_steps)

    def on_batch_end(self, trainer):
        self.scheduler.step()


class Logger(Callback):
    def on_epoch_end(self, trainer):
        print(f"epoch {trainer.epoch:2d} " + " ".join(f"{k} {v:.4f}" for k, v in trainer.metrics.items()), flush=True)


class BestCheckpoint(Callback):
    """Keeps the weights of the best epoch in memory and puts them back at the end."""

    def __init__(self, monitor, mode):
        self.monitor, self.sign = monitor, 1 if mode == "max" else -1
        self.best, self.state = -float("inf"), None

    def on_epoch_end(self, trainer):
        value = self.sign * trainer.metrics[self.monitor]
        if value > self.best:
            self.best, self.state = value, copy.deepcopy(trainer.model.state_dict())

    def on_fit_end(self, trainer):
        trainer.model.load_state_dict(self.state)


class EarlyStopping(Callback):
    def __init__(self, monitor, patience):
        self.monitor, self.patience, self.best, self.waited = monitor, patience, float("inf"), 0

    def on_epoch_end(self, trainer):
        if trainer.metrics[self.monitor] < self.best:
            self.best, self.waited = trainer.metrics[self.monitor], 0
        else:
            self.waited += 1
            trainer.stop = self.waited >= self.patience


class Trainer:
    def __init__(self, model, optimizer, criterion, callbacks):
        self.model, self.optimizer, self.criterion = model, optimizer, criterion
        self.callbacks, self.metrics, self.epoch, self.stop = callbacks, {}, 0, False

    def emit(self, event):
        for callback in self.callbacks:
            getattr(callback, event)(self)

    def fit(self, train_loader, val_loader, epochs):
        for self.epoch in range(1, epochs + 1):
            train_loss = self.train_epoch(train_loader)
            val_loss, val_acc = self.evaluate(val_loader)
            self.metrics = {"train_loss": train_loss, "val_loss": val_loss, "val_acc": val_acc}
            self.emit("on_epoch_end")
            if self.stop:
                break
        self.emit("on_fit_end")

    def train_epoch(self, loader):
        self.model.train()
        total = 0.0
        for images, labels in loader:
            loss = self.criterion(self.model(images), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(labels)
            self.emit("on_batch_end")
        return total / len(loader.dataset)

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        total, correct = 0.0, 0
        for images, labels in loader:
            logits = self.model(images)
            total += self.criterion(logits, labels).item() * len(labels)
            correct += (logits.argmax(1) == labels).sum().item()
        return total / len(loader.dataset), correct / len(loader.dataset)


def main():
    config = Config()
    random.seed(config.seed)
    torch.manual_seed(config.seed)
    base = Digits(train=True, count=2600, noise=0.2)
    order = torch.randperm(len(base)).tolist()
    val_part, train_part = order[: config.val_count], order[config.val_count :]
    pixels = base.data[train_part].float() / 255
    mean, std = pixels.mean().item(), pixels.std().item()
    plain = Prepare(mean, std)
    test = Digits(train=False, count=400, noise=0.2)

    train_loader = DataLoader(
        View(base, train_part, Prepare(mean, std, augment=True)), config.batch_size, shuffle=True
    )
    val_loader = DataLoader(View(base, val_part, plain), 100)
    test_loader = DataLoader(View(test, range(len(test)), plain), 100)

    model = DigitNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.max_lr, weight_decay=config.weight_decay)
    callbacks = [
        OneCycle(optimizer, config.max_lr, config.epochs * len(train_loader)),
        Logger(),
        BestCheckpoint("val_acc", mode="max"),
        EarlyStopping("val_loss", config.patience),
    ]
    trainer = Trainer(model, optimizer, nn.CrossEntropyLoss(), callbacks)
    trainer.fit(train_loader, val_loader, config.epochs)
    loss, accuracy = trainer.evaluate(test_loader)
    print(f"test loss {loss:.4f} accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
