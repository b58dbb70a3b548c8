"""A network of a few dozen weights for two circles: log-softmax and the negative log likelihood."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_circles
from torch.utils.data import DataLoader, TensorDataset


class TinyNet(nn.Module):
    def __init__(self, hidden=10):
        super().__init__()
        self.fc1 = nn.Linear(2, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 2)

    def forward(self, x):
        x = torch.tanh(self.fc1(x))
        x = torch.tanh(self.fc2(x))
        return F.log_softmax(self.out(x), dim=1)


def circles(count, seed):
    points, labels = make_circles(count, noise=0.08, factor=0.4, random_state=seed)
    points = torch.from_numpy(points).float() / 0.55
    return TensorDataset(points, torch.from_numpy(labels).long())


def make_step(total=600, base=0.02, floor=0.004):
    """The usual step, with a rate that falls linearly and then stays at the floor."""

    def step(model, batch, optimizer, loss_fn):
        for group in optimizer.param_groups:
            done = group.get("done", 0)
            group["lr"] = max(floor, base * (1 - done / total))
            group["done"] = done + 1
        inputs, targets = batch
        optimizer.zero_grad(set_to_none=True)
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss

    return step


def setup():
    torch.manual_seed(0)
    model = TinyNet()
    return {
        "model": model,
        "train": DataLoader(circles(1000, seed=0), batch_size=32, shuffle=True),
        "val": DataLoader(circles(300, seed=1), batch_size=100),
        "loss": nn.NLLLoss(),
        "optimizer": torch.optim.Adam(model.parameters(), lr=0.02),
        "step": make_step(),
    }
