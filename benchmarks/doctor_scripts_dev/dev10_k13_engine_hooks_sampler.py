"""Rare digits: an imbalanced set drawn evenly by a weighted sampler, trained by an engine that calls hooks."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from toydata import draw_digits


class RareDigits(Dataset):
    """Odd digits are four times rarer in training. Training pictures are moved by a pixel or so."""

    def __init__(self, count, seed, training):
        images, labels = draw_digits(count, seed=seed, shift=1)
        if training:
            drawn = torch.rand(count, generator=torch.Generator().manual_seed(seed + 1))
            kept = (labels % 2 == 0) | (drawn < 0.25)
            images, labels = images[kept], labels[kept]
        self.images, self.labels, self.training = (images.float() / 255 - 0.22) / 0.33, labels, training

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        if self.training:
            dy, dx = torch.randint(-1, 2, (2,)).tolist()
            image = torch.roll(image, (dy, dx), dims=(1, 2)) + 0.05 * torch.randn(image.shape)
        return image, self.labels[index]


class Hook:
    def before_train(self, engine): ...

    def before_epoch(self, engine): ...

    def after_step(self, engine): ...

    def after_epoch(self, engine): ...


class Schedule(Hook):
    def __init__(self, epochs):
        self.epochs = epochs

    def before_train(self, engine):
        self.scheduler = torch.optim.lr_scheduler.PolynomialLR(
            engine.optimizer, total_iters=self.epochs * len(engine.loader), power=0.9
        )

    def after_step(self, engine):
        self.scheduler.step()


class MeanLoss(Hook):
    def before_epoch(self, engine):
        self.total, self.seen = torch.zeros(()), 0

    def after_step(self, engine):
        self.total += engine.loss.detach() * engine.batch_size
        self.seen += engine.batch_size

    def after_epoch(self, engine):
        engine.report["loss"] = self.total.item() / self.seen


class Evaluate(Hook):
    """Recall of each class on an even set, and its mean."""

    def __init__(self, loader):
        self.loader = loader

    @torch.no_grad()
    def after_epoch(self, engine):
        engine.model.eval()
        right, present = torch.zeros(10), torch.zeros(10)
        for images, labels in self.loader:
            hit = (engine.model(images).argmax(1) == labels).float()
            right.index_add_(0, labels, hit)
            present.index_add_(0, labels, torch.ones_like(hit))
        recall = right / present
        engine.report["balanced_accuracy"] = recall.mean().item()
        engine.report["worst_recall"] = recall.min().item()


class Printer(Hook):
    def after_epoch(self, engine):
        print(f"epoch {engine.epoch}: " + "  ".join(f"{key} {value:.4f}" for key, value in engine.report.items()))


class Engine:
    def __init__(self, model, optimizer, loader, hooks):
        self.model, self.optimizer, self.loader, self.hooks = model, optimizer, loader, hooks
        self.report = {}

    def call(self, name):
        for hook in self.hooks:
            getattr(hook, name)(self)

    def run(self, epochs):
        self.call("before_train")
        for self.epoch in range(1, epochs + 1):
            self.report = {}
            self.call("before_epoch")
            self.model.train()
            for images, labels in self.loader:
                self.batch_size = len(labels)
                self.loss = F.cross_entropy(self.model(images), labels)
                self.optimizer.zero_grad()
                self.loss.backward()
                self.optimizer.step()
                self.call("after_step")
            self.call("after_epoch")


def make_model():
    layers, channels = [], 1
    for width in (20, 40):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(40 * 16, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))


def main():
    torch.manual_seed(23)
    train_set, val_set = RareDigits(4500, 71, training=True), RareDigits(500, 72, training=False)
    counts = torch.bincount(train_set.labels, minlength=10)
    print("class counts", counts.tolist())
    sampler = WeightedRandomSampler((1.0 / counts)[train_set.labels], num_samples=len(train_set), replacement=True)
    loader = DataLoader(train_set, batch_size=64, sampler=sampler, drop_last=True)
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    epochs = 9
    hooks = [Schedule(epochs), MeanLoss(), Evaluate(DataLoader(val_set, batch_size=250)), Printer()]
    Engine(model, optimizer, loader, hooks).run(epochs)


if __name__ == "__main__":
    main()
