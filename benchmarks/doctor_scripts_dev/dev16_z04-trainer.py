"""Shape classifier, rare classes included.  python z04-trainer.py [key=value ...]"""
import ast
import copy
import random
import sys
from collections import Counter

import torch
from torch import nn

from toydata import NAMES, Shapes

DEFAULTS = {
    "seed": 7,
    "data": {"count": 2200, "rare": {"red cross": 0.2, "blue disc": 0.2}, "val": 0.2, "test": 0.2, "grain": 0.03},
    "model": {"channels": [16, 32, 64], "dropout": 0.25},
    "optim": {"lr": 3e-3, "weight_decay": 1e-4},
    "schedule": {"step_size": 4, "gamma": 0.3},
    "train": {"epochs": 12, "batch_size": 48, "patience": 5, "monitor": "val_acc", "mode": "max"},
}

CLASS_ID = {name: i for i, name in enumerate(NAMES)}


def read_records(cfg, rng):
    """List of (image, class id) where some classes occur far less often, as in the real catalogue."""
    source = Shapes(train=True, count=cfg["count"], size=16)
    records = []
    for image, name in zip(source.images, source.names):
        if rng.random() < cfg["rare"].get(name, 1.0):
            records.append((image + cfg["grain"] * torch.randn(image.shape), CLASS_ID[name]))
    rng.shuffle(records)
    return records


def oversample(records, rng):
    """Repeat records of rare classes until every class is as frequent as the largest."""
    counts = Counter(label for _, label in records)
    most = max(counts.values())
    extra = []
    for label, n in counts.items():
        pool = [r for r in records if r[1] == label]
        extra += [rng.choice(pool) for _ in range(most - n)]
    return records + extra


def split(records, cfg):
    n_val, n_test = int(cfg["val"] * len(records)), int(cfg["test"] * len(records))
    return records[n_val + n_test:], records[:n_val], records[n_val:n_val + n_test]


class Net(nn.Module):
    def __init__(self, channels, dropout, n_classes):
        super().__init__()
        blocks, last = [], 3
        for c in channels:
            blocks += [nn.Conv2d(last, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU(), nn.MaxPool2d(2)]
            last = c
        self.body = nn.Sequential(*blocks)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(last * 4, n_classes)

    def forward(self, x):
        return self.out(self.drop(self.body(x).flatten(1)))


class Trainer:
    def __init__(self, model, cfg, rng):
        self.model, self.cfg, self.rng = model, cfg["train"], rng
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.AdamW(model.parameters(), **cfg["optim"])
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, **cfg["schedule"])
        self.best, self.best_state, self.waited = None, None, 0

    def batches(self, records, shuffle):
        records = self.rng.sample(records, len(records)) if shuffle else records
        for i in range(0, len(records), self.cfg["batch_size"]):
            chunk = records[i:i + self.cfg["batch_size"]]
            images = torch.stack([image for image, _ in chunk])
            labels = torch.tensor([label for _, label in chunk])
            yield (images - 0.5) / 0.25, labels

    def train_epoch(self, records):
        self.model.train()
        running = 0.0
        for images, labels in self.batches(records, shuffle=True):
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(images), labels)
            loss.backward()
            self.optimizer.step()
            running += loss.item() * len(labels)
        self.scheduler.step()
        return running / len(records)

    @torch.no_grad()
    def evaluate(self, records):
        self.model.eval()
        total, hits, seen = 0.0, Counter(), Counter()
        for images, labels in self.batches(records, shuffle=False):
            logits = self.model(images)
            total += self.criterion(logits, labels).item() * len(labels)
            for truth, guess in zip(labels.tolist(), logits.argmax(1).tolist()):
                seen[truth] += 1
                hits[truth] += truth == guess
        recall = {NAMES[k]: hits[k] / seen[k] for k in sorted(seen)}
        return total / len(records), sum(recall.values()) / len(recall), recall

    def improved(self, value):
        if self.best is None:
            return True
        return value > self.best if self.cfg["mode"] == "max" else value < self.best

    def fit(self, train, val):
        for epoch in range(self.cfg["epochs"]):
            logs = {"loss": self.train_epoch(train)}
            logs["val_loss"], logs["val_acc"], _ = self.evaluate(val)
            print(f"{epoch:2d} " + " ".join(f"{k} {v:.4f}" for k, v in logs.items()))
            value = logs[self.cfg["monitor"]]
            if self.improved(value):
                self.best, self.waited = value, 0
                self.best_state = copy.deepcopy(self.model.state_dict())
            else:
                self.waited += 1
                if self.waited > self.cfg["patience"]:
                    print("no improvement, stopping")
                    break
        self.model.load_state_dict(self.best_state)


def override(cfg, arguments):
    for argument in arguments:
        path, value = argument.split("=", 1)
        *parents, key = path.split(".")
        node = cfg
        for parent in parents:
            node = node[parent]
        node[key] = ast.literal_eval(value)
    return cfg


if __name__ == "__main__":
    config = override(copy.deepcopy(DEFAULTS), sys.argv[1:])
    torch.manual_seed(config["seed"])
    rng = random.Random(config["seed"])
    records = read_records(config["data"], rng)
    train, val, test = split(records, config["data"])
    train = oversample(train, rng)
    print(f"{len(train)} train, {len(val)} val, {len(test)} test")
    trainer = Trainer(Net(n_classes=len(NAMES), **config["model"]), config, rng)
    trainer.fit(train, val)
    loss, acc, recall = trainer.evaluate(test)
    print(f"test loss {loss:.4f}, mean class accuracy {acc:.4f}")
    print({name: round(value, 2) for name, value in recall.items()})
