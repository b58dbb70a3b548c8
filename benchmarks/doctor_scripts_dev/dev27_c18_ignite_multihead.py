"""An engine with events, after PyTorch Ignite; two heads (color, kind) with own losses; warm restarts; label smoothing."""
from collections import defaultdict
from enum import Enum, auto
from types import SimpleNamespace

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class Events(Enum):
    STARTED = auto()
    EPOCH_STARTED = auto()
    ITERATION_COMPLETED = auto()
    EPOCH_COMPLETED = auto()
    COMPLETED = auto()


class Engine:
    def __init__(self, process_function):
        self._process = process_function
        self._handlers = defaultdict(list)
        self.state = SimpleNamespace(epoch=0, iteration=0, output=None, metrics={})

    def on(self, event, *args):
        def decorator(f):
            self._handlers[event].append((f, args))
            return f
        return decorator

    def _fire(self, event):
        for handler, args in self._handlers[event]:
            handler(self, *args)

    def run(self, data, max_epochs=1):
        self.state.epoch = 0
        self._fire(Events.STARTED)
        while self.state.epoch < max_epochs:
            self.state.epoch += 1
            self._fire(Events.EPOCH_STARTED)
            for batch in data:
                self.state.iteration += 1
                self.state.output = self._process(self, batch)
                self._fire(Events.ITERATION_COMPLETED)
            self._fire(Events.EPOCH_COMPLETED)
        self._fire(Events.COMPLETED)
        return self.state


class Accuracy:
    def __init__(self, output_transform):
        self.output_transform = output_transform

    def attach(self, engine, name):
        @engine.on(Events.EPOCH_STARTED)
        def reset(_):
            self.right = self.total = 0

        @engine.on(Events.ITERATION_COMPLETED)
        def update(e):
            y_pred, y = self.output_transform(e.state.output)
            self.right += (y_pred.argmax(dim=1) == y).sum().item()
            self.total += y.shape[0]

        @engine.on(Events.EPOCH_COMPLETED)
        def compute(e):
            e.state.metrics[name] = self.right / self.total


class TwoTargets(Dataset):
    def __init__(self, train):
        self.data = Shapes(train, count=1000 if train else 250)

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        image, target = self.data[index]
        return (image - 0.48) / 0.18, target // 3, target % 3


class TwoHeads(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.InstanceNorm2d(width, affine=True), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 3 * width, 3, padding=1), nn.BatchNorm2d(3 * width), nn.ReLU(),
            nn.AdaptiveMaxPool2d(2), nn.Flatten())
        self.color = nn.Linear(12 * width, 2)
        self.kind = nn.Sequential(nn.Linear(12 * width, 48), nn.ReLU(), nn.Linear(48, 3))

    def forward(self, x):
        h = self.backbone(x)
        return self.color(h), self.kind(h)


def run(epochs=21, batch_size=32, lr=0.02):
    torch.manual_seed(12)
    train_loader = DataLoader(TwoTargets(True), batch_size, shuffle=True)
    val_loader = DataLoader(TwoTargets(False), 125)
    model = TwoHeads()
    color_loss = nn.CrossEntropyLoss()
    kind_loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    restarts = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=3 * len(train_loader), T_mult=2)

    def update(engine, batch):
        model.train()
        x, color, kind = batch
        color_out, kind_out = model(x)
        loss = color_loss(color_out, color) + kind_loss(kind_out, kind)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def inference(engine, batch):
        model.eval()
        with torch.no_grad():
            x, color, kind = batch
            color_out, kind_out = model(x)
            return color_out, color, kind_out, kind

    trainer, evaluator = Engine(update), Engine(inference)
    Accuracy(lambda out: (out[0], out[1])).attach(evaluator, "color")
    Accuracy(lambda out: (out[2], out[3])).attach(evaluator, "kind")
    losses = []

    @trainer.on(Events.ITERATION_COMPLETED)
    def per_iteration(engine):
        restarts.step()
        losses.append(engine.state.output)

    @trainer.on(Events.EPOCH_COMPLETED, val_loader)
    def per_epoch(engine, loader):
        metrics = evaluator.run(loader).metrics
        print(f"epoch {engine.state.epoch}: loss {sum(losses) / len(losses):.4f} "
              f"color {metrics['color']:.3f} kind {metrics['kind']:.3f} lr {optimizer.param_groups[0]['lr']:.4f}")
        losses.clear()

    trainer.run(train_loader, max_epochs=epochs)


if __name__ == "__main__":
    run()
