"""Digits with engines and event handlers; the evaluator also averages over moved copies of each test image."""

import argparse
import tempfile
from collections import defaultdict
from enum import Enum
from types import SimpleNamespace

import torch
from torch import nn
from torch.utils.data import DataLoader

from toydata import Digits


class Events(Enum):
    STARTED = "started"
    EPOCH_STARTED = "epoch_started"
    ITERATION_COMPLETED = "iteration_completed"
    EPOCH_COMPLETED = "epoch_completed"
    COMPLETED = "completed"


class Engine:
    def __init__(self, process_function):
        self.process_function = process_function
        self.handlers = defaultdict(list)
        self.state = SimpleNamespace(epoch=0, iteration=0, output=None, metrics={})

    def on(self, event, every=1):
        def decorator(function):
            self.handlers[event].append((function, every))
            return function

        return decorator

    def fire(self, event):
        number = self.state.epoch if event in (Events.EPOCH_STARTED, Events.EPOCH_COMPLETED) else self.state.iteration
        for function in [function for function, every in self.handlers[event] if number % every == 0]:
            function(self)

    def run(self, loader, max_epochs=1):
        self.state.epoch = self.state.iteration = 0
        self.fire(Events.STARTED)
        for _ in range(max_epochs):
            self.state.epoch += 1
            self.fire(Events.EPOCH_STARTED)
            for batch in loader:
                self.state.iteration += 1
                self.state.output = self.process_function(self, batch)
                self.fire(Events.ITERATION_COMPLETED)
            self.fire(Events.EPOCH_COMPLETED)
        self.fire(Events.COMPLETED)
        return self.state


class Accuracy:
    def attach(self, engine, name):
        self.name = name
        engine.on(Events.EPOCH_STARTED)(self.reset)
        engine.on(Events.ITERATION_COMPLETED)(self.update)
        engine.on(Events.EPOCH_COMPLETED)(self.compute)

    def reset(self, engine):
        self.correct = self.count = 0

    def update(self, engine):
        y_pred, y = engine.state.output
        self.correct += (y_pred.argmax(1) == y).sum().item()
        self.count += y.numel()

    def compute(self, engine):
        engine.state.metrics[self.name] = self.correct / self.count


def build_model():
    return nn.Sequential(
        nn.Conv2d(1, 20, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(20, 40, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(40 * 16, 80), nn.ReLU(), nn.Dropout(0.3), nn.Linear(80, 10),
    )


def shift(images, dy, dx):
    """Moves images and repeats their borders."""
    height, width = images.shape[-2:]
    padded = nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    return padded[..., 1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]


def run(args):
    torch.manual_seed(12)
    raw = Digits(train=True, noise=0.15).data / 255
    mean, std = raw.mean(), raw.std()
    transform = lambda image: (image / 255 - mean) / std
    train_loader = DataLoader(Digits(True, noise=0.15, transform=transform), args.batch_size, shuffle=True)
    val_loader = DataLoader(Digits(False, noise=0.15, transform=transform), 150)
    model, loss_fn = build_model(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)

    def train_step(engine, batch):
        model.train()
        x, y = batch
        dy, dx = torch.randint(-1, 2, (2,)).tolist()
        optimizer.zero_grad()
        loss = loss_fn(model(shift(x, dy, dx)), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    def validation_step(engine, batch):
        model.eval()
        with torch.no_grad():
            return model(batch[0]), batch[1]

    def tta_step(engine, batch):
        model.eval()
        with torch.no_grad():
            x, y = batch
            views = [shift(x, dy, dx) for dy, dx in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))]
            return torch.stack([model(view).softmax(1) for view in views]).mean(0), y

    trainer, evaluator, tta_evaluator = Engine(train_step), Engine(validation_step), Engine(tta_step)
    Accuracy().attach(evaluator, "accuracy")
    Accuracy().attach(tta_evaluator, "accuracy")

    @trainer.on(Events.ITERATION_COMPLETED, every=15)
    def log_loss(engine):
        print(f"Epoch[{engine.state.epoch}] Iteration[{engine.state.iteration}] Loss: {engine.state.output:.3f}")

    @trainer.on(Events.EPOCH_COMPLETED)
    def log_validation(engine):
        accuracy = evaluator.run(val_loader).metrics["accuracy"]
        print(f"Validation results - epoch {engine.state.epoch}: accuracy {accuracy:.4f}")

    @trainer.on(Events.COMPLETED)
    def final(engine):
        accuracy = tta_evaluator.run(val_loader).metrics["accuracy"]
        print(f"With five views of each image: accuracy {accuracy:.4f}")
        torch.save(model.state_dict(), tempfile.mkdtemp() + "/model.pt")

    trainer.run(train_loader, max_epochs=args.epochs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch_size", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.03)
    run(parser.parse_args())
