"""The direction of a bar, as cosine and sine of twice its angle; an event engine with plateau scheduler, early stop and checkpoints."""
import enum
import math
import os
import tempfile
from collections import defaultdict

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Events(enum.Enum):
    STARTED = 0
    EPOCH_COMPLETED = 1
    COMPLETED = 2


class Engine:
    def __init__(self, process):
        self.process, self.handlers = process, defaultdict(list)
        self.epoch, self.outputs, self.should_terminate = 0, [], False

    def on(self, event):
        def register(handler):
            self.handlers[event].append(handler)
            return handler
        return register

    def fire(self, event):
        for handler in self.handlers[event]:
            handler(self)

    def run(self, loader, max_epochs=1):
        self.epoch, self.should_terminate = 0, False
        self.fire(Events.STARTED)
        while self.epoch < max_epochs and not self.should_terminate:
            self.epoch += 1
            self.outputs = [self.process(self, batch) for batch in loader]
            self.fire(Events.EPOCH_COMPLETED)
        self.fire(Events.COMPLETED)
        return self


def bars(count, seed, size=20):
    g = torch.Generator().manual_seed(seed)
    angle = math.pi * torch.rand(count, generator=g)
    center = size / 2 - 0.5 + 2 * torch.randn(count, 2, generator=g)
    y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    dx, dy = x - center[:, 0, None, None], y - center[:, 1, None, None]
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along, across = dx * c + dy * s, -dx * s + dy * c
    image = torch.sigmoid(3 * (6 - along.abs())) * torch.sigmoid(3 * (1.2 - across.abs()))
    image = image + 0.1 * torch.randn(image.shape, generator=g)
    target = torch.stack([torch.cos(2 * angle), torch.sin(2 * angle)], 1)
    return image[:, None], target


class AngleNet(nn.Module):
    def __init__(self):
        super().__init__()
        def stage(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.GroupNorm(4, o), nn.Mish(), nn.AvgPool2d(2))
        self.net = nn.Sequential(stage(1, 24), stage(24, 48), nn.Conv2d(48, 64, 3, padding=1), nn.GroupNorm(4, 64), nn.Mish(),
                                 nn.Flatten(), nn.Linear(64 * 25, 64), nn.Mish(), nn.Linear(64, 2))

    def forward(self, x):
        return self.net(x)


def degrees_off(output, target):
    a, b = torch.atan2(output[:, 1], output[:, 0]), torch.atan2(target[:, 1], target[:, 0])
    difference = torch.remainder(a - b + math.pi, 2 * math.pi) - math.pi
    return difference.abs() * 90 / math.pi


def main():
    torch.manual_seed(0)
    (train_x, train_y), (val_x, val_y) = bars(1500, 0), bars(300, 1)
    mean, std = train_x.mean(), train_x.std()
    train_loader = DataLoader(TensorDataset((train_x - mean) / std, train_y), 60, shuffle=True)
    val_loader = DataLoader(TensorDataset((val_x - mean) / std, val_y), 150)
    model, criterion = AngleNet(), nn.SmoothL1Loss(beta=0.3)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.4, patience=1)
    folder = tempfile.TemporaryDirectory()
    best = {"loss": math.inf, "path": os.path.join(folder.name, "best.pt"), "waited": 0}

    def train_step(engine, batch):
        model.train()
        x, y = batch
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def eval_step(engine, batch):
        model.eval()
        x, y = batch
        output = model(x)
        return criterion(output, y) * len(y), degrees_off(output, y).sum(), len(y)

    trainer, evaluator = Engine(train_step), Engine(eval_step)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        evaluator.run(val_loader)
        losses, errors, counts = zip(*evaluator.outputs)
        loss, error = float(sum(losses)) / sum(counts), float(sum(errors)) / sum(counts)
        print(f"epoch {engine.epoch} train {torch.stack(engine.outputs).mean():.4f} val {loss:.4f} "
              f"error {error:.2f} degrees lr {optimizer.param_groups[0]['lr']:.1e}")
        plateau.step(loss)
        if loss < best["loss"]:
            best.update(loss=loss, error=error, waited=0)
            torch.save(model.state_dict(), best["path"])
        else:
            best["waited"] += 1
            engine.should_terminate = best["waited"] >= 6

    @trainer.on(Events.COMPLETED)
    def restore(engine):
        model.load_state_dict(torch.load(best["path"]))
        print(f"best: {best['error']:.2f} degrees")

    trainer.run(train_loader, max_epochs=20)


if __name__ == "__main__":
    main()
