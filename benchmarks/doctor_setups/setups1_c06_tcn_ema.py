"""Dilated one-dimensional convolutions (TCN) on waves; evaluation takes an average of the weights."""

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

HP = {"channels": 32, "levels": 4, "classes": 4, "lr": 2e-3, "warmup": 20, "ema_decay": 0.98, "batch": 32}


class TemporalBlock(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.norm = nn.GroupNorm(4, channels)

    def forward(self, x):
        return x + F.relu(self.norm(self.conv(x)))


class TCN(nn.Module):
    def __init__(self, hp):
        super().__init__()
        self.stem = nn.Conv1d(1, hp["channels"], 5, padding=2)
        self.blocks = nn.Sequential(*[TemporalBlock(hp["channels"], 2**i) for i in range(hp["levels"])])
        self.head = nn.Linear(hp["channels"], hp["classes"])

    def forward(self, x):
        return self.head(self.blocks(F.relu(self.stem(x))).mean(dim=-1))


class WithEMA(nn.Module):
    """The network that is trained, and the moving average of its weights that is evaluated."""

    def __init__(self, net, decay):
        super().__init__()
        self.net = net
        self.ema = copy.deepcopy(net).requires_grad_(False)
        self.decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self):
        self.updates += 1
        n = int(self.updates)
        decay = min(self.decay, (1 + n) / (10 + n))
        for average, parameter in zip(self.ema.parameters(), self.net.parameters()):
            average.lerp_(parameter, 1 - decay)

    def forward(self, x):
        return self.net(x) if self.training else self.ema(x)


def step(model, batch, optimizer, loss):
    signal, label = batch
    for group in optimizer.param_groups:
        # linear warm-up, then constant; the count is kept with the optimizer
        group["count"] = group.get("count", 0) + 1
        group["lr"] = HP["lr"] * min(1.0, group["count"] / HP["warmup"])
    optimizer.zero_grad()
    value = loss(model(signal), label)
    value.backward()
    optimizer.step()
    model.update()
    return value.detach()


def setup():
    torch.manual_seed(5)
    model = WithEMA(TCN(HP), HP["ema_decay"])
    return {
        "model": model,
        "train": DataLoader(TensorDataset(*waves(900, seed=40)), batch_size=HP["batch"], shuffle=True),
        "val": DataLoader(TensorDataset(*waves(240, seed=41)), batch_size=80),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.AdamW(model.net.parameters(), lr=HP["lr"], weight_decay=0.01),
        "step": step,
        "task": "classify",
    }
