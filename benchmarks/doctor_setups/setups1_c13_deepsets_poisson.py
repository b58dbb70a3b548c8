"""Counts of sets: deep sets (Zaheer et al.) with a Poisson likelihood."""

import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SLOTS, FEATURES = 16, 3
HIDDEN = 64
LR = 3e-3


def make_sets(count, seed):
    """Sets of 5 to 16 elements; the last channel says which slots are taken."""
    generator = torch.Generator().manual_seed(seed)
    elements = torch.randn(count, SLOTS, FEATURES, generator=generator)
    sizes = torch.randint(5, SLOTS + 1, (count, 1), generator=generator)
    mask = (torch.arange(SLOTS) < sizes).float().unsqueeze(-1)
    elements = elements * mask
    per_element = torch.exp(0.8 * elements[:, :, 0] - 0.6 * elements[:, :, 1].abs()) * mask[:, :, 0]
    counts = torch.poisson(per_element.sum(dim=1), generator=generator)
    return TensorDataset(torch.cat([elements, mask], dim=-1), counts)


class DeepSets(nn.Module):
    def __init__(self, hidden, mean_count):
        super().__init__()
        self.phi = nn.Sequential(
            nn.Linear(FEATURES, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )
        self.rho = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        # begin at the mean rate of the training sets
        nn.init.constant_(self.rho[-1].bias, math.log(mean_count))

    def forward(self, x):
        elements, mask = x[..., :FEATURES], x[..., FEATURES:]
        pooled = (self.phi(elements) * mask).sum(dim=1) / SLOTS**0.5
        return self.rho(pooled).squeeze(-1)


def train_step(model, batch, optimizer, loss):
    sets, counts = batch
    optimizer.zero_grad()
    rate = model(sets)
    nll = loss(rate, counts)
    nll.backward()
    optimizer.step()
    return nll.detach()


def build_loss():
    # without the term that does not depend on the network: the loss may be negative
    return nn.PoissonNLLLoss(log_input=True, full=False)


def setup():
    torch.manual_seed(12)
    train_set, val_set = make_sets(1500, seed=90), make_sets(400, seed=91)
    mean_count = float(train_set.tensors[1].mean())
    model = DeepSets(HIDDEN, mean_count)
    return {
        "model": model,
        "train": DataLoader(train_set, batch_size=50, shuffle=True),
        "val": DataLoader(val_set, batch_size=100),
        "loss": build_loss(),
        "optimizer": torch.optim.Adam(model.parameters(), lr=LR),
        "step": train_step,
        "task": "regress",
    }
