"""Textures with a small engine in the manner of PyTorch-Ignite: events, handlers, metrics that attach."""
from collections import defaultdict
from copy import deepcopy
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

SIZE = 20


class Events(Enum):
    STARTED = "started"
    EPOCH_STARTED = "epoch_started"
    ITERATION_COMPLETED = "iteration_completed"
    EPOCH_COMPLETED = "epoch_completed"
    COMPLETED = "completed"


@dataclass
class State:
    epoch: int = 0
    iteration: int = 0
    output: object = None
    metrics: dict = field(default_factory=dict)


class Engine:
    def __init__(self, process_function):
        self.process_function = process_function
        self.handlers = defaultdict(list)
        self.state = State()

    def on(self, event):
        def decorator(handler):
            self.handlers[event].append(handler)
            return handler
        return decorator

    def fire(self, event):
        for handler in self.handlers[event]:
            handler(self)

    def run(self, data, max_epochs=1):
        self.state = State()
        self.fire(Events.STARTED)
        for self.state.epoch in range(1, max_epochs + 1):
            self.fire(Events.EPOCH_STARTED)
            for batch in data:
                self.state.iteration += 1
                self.state.output = self.process_function(self, batch)
                self.fire(Events.ITERATION_COMPLETED)
            self.fire(Events.EPOCH_COMPLETED)
        self.fire(Events.COMPLETED)
        return self.state


class Metric:
    """A mean over samples of what `values` computes for each."""

    def __init__(self, values):
        self.values = values

    def attach(self, engine, name):
        @engine.on(Events.EPOCH_STARTED)
        def reset(engine):
            self.total, self.count = 0.0, 0

        @engine.on(Events.ITERATION_COMPLETED)
        def update(engine):
            values = self.values(*engine.state.output)
            self.total += values.sum().item()
            self.count += len(values)

        @engine.on(Events.EPOCH_COMPLETED)
        def compute(engine):
            engine.state.metrics[name] = self.total / self.count


def make_textures(count, seed=0):
    """Stripes of four directions in warm or cool colors; labels of 1 to 8 as in the original .mat file."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    labels = rng.integers(1, 9, count)
    images = np.empty((count, SIZE, SIZE, 3), np.float32)
    for i, label in enumerate(labels):
        angle = np.pi / 4 * ((label - 1) % 4) + rng.normal(0, 0.08)
        phase, cycles = rng.uniform(0, 2 * np.pi), rng.uniform(2.5, 4)
        wave = np.sin(2 * np.pi * cycles * (x * np.cos(angle) + y * np.sin(angle)) + phase)
        tint = (1.0, 0.7, 0.3) if label <= 4 else (0.3, 0.7, 1.0)
        images[i] = 0.5 + 0.25 * wave[:, :, None] * np.array(tint)
    images += rng.normal(0, 0.2, images.shape).astype(np.float32)
    return (images.clip(0, 1) * 255).astype(np.uint8), labels


def get_data_loaders(train_batch_size, val_batch_size):
    images, labels = make_textures(1600)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    targets = torch.from_numpy(labels - 1).long()
    permutation = torch.randperm(len(inputs))
    train_idx, val_idx = permutation[:1200], permutation[1200:]
    mean = inputs[train_idx].mean((0, 2, 3), keepdim=True)
    std = inputs[train_idx].std((0, 2, 3), keepdim=True)
    inputs = (inputs - mean) / std
    train_set = TensorDataset(inputs[train_idx], targets[train_idx])
    val_set = TensorDataset(inputs[val_idx], targets[val_idx])
    return (DataLoader(train_set, batch_size=train_batch_size, shuffle=True),
            DataLoader(val_set, batch_size=val_batch_size, shuffle=False))


def build_model(num_classes=8):
    return nn.Sequential(
        nn.Conv2d(3, 24, 5, padding=2),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1),
        nn.BatchNorm2d(48),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(48, num_classes),
    )


def run(train_batch_size=48, val_batch_size=100, epochs=40, lr=0.01, momentum=0.9):
    torch.manual_seed(12)
    torch.set_num_threads(1)
    train_loader, val_loader = get_data_loaders(train_batch_size, val_batch_size)
    model = build_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    scheduler = ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=3)
    criterion = nn.CrossEntropyLoss()

    def train_step(engine, batch):
        model.train()
        optimizer.zero_grad()
        x, y = batch
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    def eval_step(engine, batch):
        model.eval()
        with torch.no_grad():
            x, y = batch
            return model(x), y

    trainer, evaluator = Engine(train_step), Engine(eval_step)
    Metric(lambda y_pred, y: (y_pred.argmax(dim=1) == y).float()).attach(evaluator, "accuracy")
    Metric(lambda y_pred, y: nn.functional.cross_entropy(y_pred, y, reduction="none")).attach(evaluator, "nll")
    best = {"accuracy": 0.0, "weights": None, "epoch": 0}

    @trainer.on(Events.EPOCH_COMPLETED)
    def log_validation_results(engine):
        metrics = evaluator.run(val_loader).metrics
        print(f"Validation Results - Epoch: {engine.state.epoch}  Avg accuracy: {metrics['accuracy']:.4f} "
              f"Avg loss: {metrics['nll']:.4f}  lr: {optimizer.param_groups[0]['lr']:.1e}")
        scheduler.step(metrics["accuracy"])
        if metrics["accuracy"] > best["accuracy"]:
            best.update(accuracy=metrics["accuracy"], weights=deepcopy(model.state_dict()), epoch=engine.state.epoch)

    @trainer.on(Events.COMPLETED)
    def restore_best(engine):
        model.load_state_dict(best["weights"])
        metrics = evaluator.run(val_loader).metrics
        print(f"Best: epoch {best['epoch']}  accuracy {metrics['accuracy']:.4f}  loss {metrics['nll']:.4f}")

    trainer.run(train_loader, max_epochs=epochs)


if __name__ == "__main__":
    run()
