"""Engines and events as in ignite: lopsided waves, a weighted sampler, and sharpness-aware minimization (two passes)."""
import tempfile
from collections import defaultdict
from enum import Enum
from types import SimpleNamespace

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from toydata import waves


class Events(Enum):
    EPOCH_STARTED = 1
    ITERATION_COMPLETED = 2
    EPOCH_COMPLETED = 3


class Engine:
    def __init__(self, process):
        self.process, self.handlers = process, defaultdict(list)

    def on(self, event, every=1):
        def decorator(function):
            self.handlers[event].append((every, function))
            return function

        return decorator

    def fire(self, event):
        count = self.state.iteration if event is Events.ITERATION_COMPLETED else self.state.epoch
        for function in [f for every, f in self.handlers[event] if count % every == 0]:
            function(self)

    def run(self, data, max_epochs=1):
        self.state = SimpleNamespace(epoch=0, iteration=0, output=None, metrics={})
        for _ in range(max_epochs):
            self.state.epoch += 1
            self.fire(Events.EPOCH_STARTED)
            for batch in data:
                self.state.iteration += 1
                self.state.output = self.process(self, batch)
                self.fire(Events.ITERATION_COMPLETED)
            self.fire(Events.EPOCH_COMPLETED)
        return self.state


class Accuracy:
    def attach(self, engine, name):
        @engine.on(Events.EPOCH_STARTED)
        def reset(_):
            self.hits, self.counts = torch.zeros(4), torch.zeros(4)

        @engine.on(Events.ITERATION_COMPLETED)
        def update(engine):
            y_pred, y = engine.state.output
            self.hits += torch.bincount(y, (y_pred.argmax(1) == y).float(), minlength=4)
            self.counts += torch.bincount(y, minlength=4)
            engine.state.metrics[name] = (self.hits / self.counts.clamp(min=1)).mean().item()


class SAM:
    """Climbs to the worst point nearby, takes the gradient there, returns, and steps with it."""

    def __init__(self, base, rho=0.05):
        self.base, self.rho, self.param_groups = base, rho, base.param_groups

    def parameters(self):
        return [p for group in self.param_groups for p in group["params"] if p.grad is not None]

    @torch.no_grad()
    def first_step(self):
        norm = torch.stack([p.grad.norm() for p in self.parameters()]).norm()
        self.moves = [(p, p.grad * (self.rho / (norm + 1e-12))) for p in self.parameters()]
        for p, move in self.moves:
            p.add_(move)
        self.base.zero_grad()

    @torch.no_grad()
    def second_step(self):
        for p, move in self.moves:
            p.sub_(move)
        self.base.step()
        self.base.zero_grad()


def lopsided(count, seed, keep=(1.0, 0.5, 0.3, 0.2)):
    signals, labels = waves(count, seed=seed)
    chosen = torch.rand(count, generator=torch.Generator().manual_seed(seed)) < torch.tensor(keep)[labels]
    return TensorDataset(signals[chosen], labels[chosen])


def get_loaders(batch_size):
    train = lopsided(2000, 0)
    labels = train.tensors[1]
    sampler = WeightedRandomSampler(1.0 / torch.bincount(labels).double()[labels], num_samples=len(train), replacement=True)
    return DataLoader(train, batch_size, sampler=sampler), DataLoader(TensorDataset(*waves(400, seed=1)), 100)


def build():
    def layer(inp, out):
        return [nn.Conv1d(inp, out, 7, stride=2, padding=3, bias=False), nn.GroupNorm(4, out), nn.ReLU()]

    return nn.Sequential(*layer(1, 16), *layer(16, 32), *layer(32, 32), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 4))


def main():
    torch.manual_seed(0)
    train_loader, val_loader = get_loaders(40)
    model, criterion = build(), nn.CrossEntropyLoss()
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4), rho=0.05)

    def train_step(engine, batch):
        model.train()
        x, y = batch
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.first_step()
        criterion(model(x), y).backward()
        optimizer.second_step()
        return loss.item()

    def eval_step(engine, batch):
        model.eval()
        with torch.no_grad():
            return model(batch[0]), batch[1]

    trainer, evaluator = Engine(train_step), Engine(eval_step)
    Accuracy().attach(evaluator, "balanced_accuracy")
    folder, best = tempfile.mkdtemp(), {"score": 0.0}

    @trainer.on(Events.ITERATION_COMPLETED, every=10)
    def log(engine):
        print(f"epoch {engine.state.epoch} iteration {engine.state.iteration} loss {engine.state.output:.4f}")

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        score = evaluator.run(val_loader).metrics["balanced_accuracy"]
        print(f"epoch {engine.state.epoch} validation balanced accuracy {score:.4f}")
        if score > best["score"]:
            best["score"] = score
            torch.save(model.state_dict(), folder + "/best.pt")

    trainer.run(train_loader, max_epochs=12)
    print("best", best)


if __name__ == "__main__":
    main()
