"""House prices with Lookahead (Zhang et al. 2019) around SGD: k fast steps, one slow step towards them."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from toydata import houses

CONFIG = {"hidden": 64, "batch_size": 32, "lr": 0.03, "momentum": 0.9, "lookahead": {"k": 5, "alpha": 0.5}}


class PriceNet(nn.Module):
    def __init__(self, features, hidden):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.layers(x)


class LookaheadStep:
    """The slow weights are kept beside the momentum, in the state of the optimizer."""

    def __init__(self, k, alpha):
        self.k, self.alpha = k, alpha
        self.count = 0

    @torch.no_grad()
    def remember(self, optimizer):
        for group in optimizer.param_groups:
            for p in group["params"]:
                if "slow" not in optimizer.state[p]:
                    optimizer.state[p]["slow"] = p.detach().clone()

    @torch.no_grad()
    def synchronize(self, optimizer):
        for group in optimizer.param_groups:
            for p in group["params"]:
                state = optimizer.state[p]
                state["slow"].add_(p - state["slow"], alpha=self.alpha)
                p.copy_(state["slow"])

    def __call__(self, model, batch, optimizer, loss):
        features, prices = batch
        optimizer.zero_grad()
        value = loss(model(features), prices)
        value.backward()
        optimizer.step()
        self.remember(optimizer)
        self.count += 1
        if self.count % self.k == 0:
            self.synchronize(optimizer)
        return value.detach()


def build_data(batch_size):
    features, price = houses(1200)
    everything = TensorDataset(features, price[:, None])
    parts = random_split(everything, [960, 240], generator=torch.Generator().manual_seed(10))
    (x_train, y_train), (x_val, y_val) = (everything[list(part.indices)] for part in parts)
    mean, std = y_train.mean(), y_train.std()  # prices are in thousands
    train_set = TensorDataset(x_train, (y_train - mean) / std)
    val_set = TensorDataset(x_val, (y_val - mean) / std)
    return DataLoader(train_set, batch_size=batch_size, shuffle=True), DataLoader(val_set, batch_size=240)


def setup():
    torch.manual_seed(10)
    train, val = build_data(CONFIG["batch_size"])
    model = PriceNet(8, CONFIG["hidden"])
    return {
        "model": model,
        "train": train,
        "val": val,
        "loss": nn.SmoothL1Loss(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=CONFIG["lr"], momentum=CONFIG["momentum"]),
        "step": LookaheadStep(**CONFIG["lookahead"]),
        "task": "regress",
    }
