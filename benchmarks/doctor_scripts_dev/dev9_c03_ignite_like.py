"""Event-driven engine, written out. Signals classification with an attached loss, accuracy and early stopping."""
import enum
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

class Events(enum.Enum):
    STARTED = 0
    ITERATION_COMPLETED = 1
    EPOCH_COMPLETED = 2
    COMPLETED = 3

class State:
    epoch = iteration = max_epochs = 0
    output = metrics = None

class Engine:
    def __init__(self, fn):
        self.fn, self.handlers, self.state, self.should_stop = fn, {e: [] for e in Events}, State(), False

    def on(self, event, every=1):
        def deco(f):
            self.handlers[event].append((f, every))
            return f
        return deco
    def fire(self, event, n=1):
        for f, every in self.handlers[event]:
            if n % every == 0:
                f(self)

    def terminate(self):
        self.should_stop = True

    def run(self, data, max_epochs=1):
        self.state = State()
        self.state.metrics, self.state.max_epochs = {}, max_epochs
        self.fire(Events.STARTED)
        while self.state.epoch < max_epochs and not self.should_stop:
            self.state.epoch += 1
            for batch in data:
                self.state.iteration += 1
                self.state.output = self.fn(self, batch)
                self.fire(Events.ITERATION_COMPLETED, self.state.iteration)
            self.fire(Events.EPOCH_COMPLETED, self.state.epoch)
        self.fire(Events.COMPLETED)
        return self.state

torch.manual_seed(0)
x, y = waves(800)
ds = TensorDataset(x, y)
train_ds, val_ds = torch.utils.data.random_split(ds, [640, 160], generator=torch.Generator().manual_seed(7))
train_loader, val_loader = DataLoader(train_ds, 40, shuffle=True), DataLoader(val_ds, 80)
net = nn.Sequential(
    nn.Conv1d(1, 24, 7, padding=3), nn.ELU(), nn.MaxPool1d(2), nn.Conv1d(24, 32, 5, padding=2), nn.ELU(),
    nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(32, 4))
opt = torch.optim.AdamW(net.parameters(), lr=2e-3)
criterion = nn.CrossEntropyLoss()
ckpt = Path(tempfile.mkdtemp()) / "best_model.pt"

def _update(engine, batch):
    net.train()
    opt.zero_grad()
    xb, yb = batch
    loss = criterion(net(xb), yb)
    loss.backward()
    opt.step()
    return loss.item()

def _inference(engine, batch):
    net.eval()
    with torch.no_grad():
        xb, yb = batch
        return net(xb), yb

trainer = Engine(_update)
evaluator = Engine(_inference)

@evaluator.on(Events.STARTED)
def reset(engine):
    engine.hits, engine.seen, engine.nll = 0, 0, 0.0

@evaluator.on(Events.ITERATION_COMPLETED)
def accumulate(engine):
    y_pred, y_true = engine.state.output
    engine.hits += int((y_pred.argmax(-1) == y_true).sum())
    engine.nll += criterion(y_pred, y_true).item() * len(y_true)
    engine.seen += len(y_true)

@evaluator.on(Events.EPOCH_COMPLETED)
def compute(engine):
    engine.state.metrics.update(accuracy=engine.hits / engine.seen, nll=engine.nll / engine.seen)

@trainer.on(Events.ITERATION_COMPLETED, every=8)
def log_training_loss(engine):
    print(f"Epoch[{engine.state.epoch}] Iter[{engine.state.iteration}] Loss: {engine.state.output:.3f}")

best = {"nll": float("inf"), "patience": 0}

@trainer.on(Events.EPOCH_COMPLETED)
def validate(engine):
    for tag, loader in (("train", train_loader), ("val", val_loader)):
        m = evaluator.run(loader).metrics
        print(f"  {tag:5s} acc {m['accuracy']:.3f} nll {m['nll']:.3f}")
    if m["nll"] < best["nll"]:
        best.update(nll=m["nll"], patience=0)
        torch.save(net.state_dict(), ckpt)
    else:
        best["patience"] += 1
        if best["patience"] >= 5:
            engine.terminate()

@trainer.on(Events.COMPLETED)
def restore(engine):
    net.load_state_dict(torch.load(ckpt))
    print("final", evaluator.run(val_loader).metrics)

trainer.run(train_loader, max_epochs=14)
