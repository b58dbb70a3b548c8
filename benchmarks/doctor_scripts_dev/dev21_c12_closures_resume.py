"""Functional style: closures instead of classes. Two optimizers; training is cut off and goes on from a file."""

import os
import tempfile

import torch
from torch import nn
from torch.nn import functional as F

from toydata import Shapes


def load_tensors(train, count):
    shapes = Shapes(train=train, count=count)
    return (torch.stack(shapes.images) - 0.5) / 0.2, torch.tensor(shapes.targets)


def batches_of(inputs, targets, size, shuffle):
    def batches():
        order = torch.randperm(len(inputs)) if shuffle else torch.arange(len(inputs))
        for index in order.split(size):
            yield inputs[index], targets[index]

    return batches


def make_network():
    trunk = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.LeakyReLU(0.1),
        nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.LeakyReLU(0.1),
        nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.LeakyReLU(0.1),
    )
    head = nn.Sequential(nn.Flatten(), nn.Linear(64 * 4 * 4, 64), nn.LeakyReLU(0.1), nn.Linear(64, 6))
    return trunk, head


def make_session(train_batches, val_batches, epochs):
    trunk, head = make_network()
    trunk_opt = torch.optim.SGD(trunk.parameters(), lr=0.03, momentum=0.9, weight_decay=5e-4)
    head_opt = torch.optim.Adam(head.parameters(), lr=1e-3)
    optimizers = [trunk_opt, head_opt]
    schedulers = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs) for optimizer in optimizers]
    parts = {
        "trunk": trunk,
        "head": head,
        "trunk_opt": trunk_opt,
        "head_opt": head_opt,
        "trunk_sched": schedulers[0],
        "head_sched": schedulers[1],
    }
    state = {"epoch": 0}

    def predict(x):
        return head(trunk(x))

    def set_training(flag):
        trunk.train(flag)
        head.train(flag)

    def train_epoch():
        set_training(True)
        total = count = 0
        for x, y in train_batches():
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss_sum = F.cross_entropy(predict(x), y, reduction="sum")
            (loss_sum / len(x)).backward()
            for optimizer in optimizers:
                optimizer.step()
            total += loss_sum.item()
            count += len(x)
        for scheduler in schedulers:
            scheduler.step()
        state["epoch"] += 1
        return total / count

    def evaluate():
        set_training(False)
        with torch.no_grad():
            results = [(predict(x).argmax(1) == y) for x, y in val_batches()]
        return torch.cat(results).float().mean().item()

    def save(path):
        content = {name: part.state_dict() for name, part in parts.items()}
        content["epoch"], content["rng"] = state["epoch"], torch.get_rng_state()
        torch.save(content, path)

    def load(path):
        content = torch.load(path)
        for name, part in parts.items():
            part.load_state_dict(content[name])
        state["epoch"] = content["epoch"]
        torch.set_rng_state(content["rng"])

    def run(until, label):
        while state["epoch"] < until:
            loss = train_epoch()
            print(f"{label} epoch {state['epoch']:2d}  loss {loss:.4f}  accuracy {evaluate():.4f}")

    return run, evaluate, save, load


def main(epochs=18, cut=7):
    torch.manual_seed(12)
    train_batches = batches_of(*load_tensors(train=True, count=2400), size=64, shuffle=True)
    val_batches = batches_of(*load_tensors(train=False, count=480), size=120, shuffle=False)

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "checkpoint.pt")
        run, evaluate, save, _ = make_session(train_batches, val_batches, epochs)
        run(cut, "first")
        save(path)
        before = evaluate()

        # as if the program were started again
        run, evaluate, _, load = make_session(train_batches, val_batches, epochs)
        load(path)
        assert abs(evaluate() - before) < 0.005
        run(epochs, "resumed")
    print(f"final accuracy {evaluate():.4f}")


if __name__ == "__main__":
    main()
