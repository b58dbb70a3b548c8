"""Claim frequency of motor fleets: embeddings and a Poisson head with exposure as offset (a LightningModule, without Lightning)."""

import math

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CATEGORICAL = {"region": 8, "body": 6, "fuel": 3}
NUMERIC = ["driver_age", "power", "bonus_malus", "density"]


def simulate_portfolio(n, seed):
    rng = np.random.default_rng(seed)
    frame = {name: rng.integers(0, levels, n) for name, levels in CATEGORICAL.items()}
    frame["driver_age"] = rng.uniform(20, 75, n)
    frame["power"] = rng.uniform(40, 200, n)
    frame["bonus_malus"] = rng.uniform(50, 150, n)
    frame["density"] = rng.normal(6.0, 1.5, n)
    frame["exposure"] = rng.uniform(0.3, 1.0, n)
    region = np.array([0.9, -0.8, 0.3, -0.4, 0.7, 0.0, -0.9, 0.4])[frame["region"]]
    body = np.array([0.5, -0.5, 0.0, 0.7, -0.6, 0.2])[frame["body"]]
    log_rate = 1.0 + region + body + 0.015 * (frame["bonus_malus"] - 100)
    log_rate = log_rate + 0.0006 * (frame["driver_age"] - 47) ** 2 - 0.2 + 0.15 * (frame["density"] - 6.0)
    frame["n_claims"] = rng.poisson(np.exp(log_rate) * frame["exposure"])
    frame["claim_amount"] = frame["n_claims"] * rng.normal(1500.0, 60.0, n)
    return frame


class ClaimsDataModule:
    def __init__(self, batch_size=64, numeric=tuple(NUMERIC)):
        self.batch_size, self.numeric = batch_size, list(numeric)

    def setup(self):
        train, val = simulate_portfolio(1500, seed=1), simulate_portfolio(400, seed=2)
        table = np.stack([train[name] for name in self.numeric], 1)
        self.mean, self.std = table.mean(0), table.std(0)
        self.train_set, self.val_set = self.encode(train), self.encode(val)
        self.frequency = float(train["n_claims"].sum() / train["exposure"].sum())

    def encode(self, frame):
        categorical = np.stack([frame[name] for name in CATEGORICAL], 1)
        numeric = (np.stack([frame[name] for name in self.numeric], 1) - self.mean) / self.std
        offset = np.log(frame["exposure"])[:, None]
        x = torch.from_numpy(np.concatenate([categorical, numeric, offset], 1)).float()
        return TensorDataset(x, torch.from_numpy(frame["n_claims"]).float())

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=256)


class ClaimFrequencyModule(nn.Module):
    def __init__(self, n_numeric, hidden=64, dropout=0.05, frequency=1.0, lr=3e-3):
        super().__init__()
        self.lr = lr
        self.embeddings = nn.ModuleList([nn.Embedding(levels, 4) for levels in CATEGORICAL.values()])
        self.trunk = nn.Sequential(
            nn.Linear(4 * len(CATEGORICAL) + n_numeric, hidden), nn.SiLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.SiLU(),
        )
        self.head = nn.Linear(hidden, 1)
        nn.init.constant_(self.head.bias, math.log(frequency))
        self.criterion = nn.PoissonNLLLoss(log_input=True)

    def forward(self, x):
        k = len(CATEGORICAL)
        categorical, numeric, offset = x[:, :k].long(), x[:, k:-1], x[:, -1]
        embedded = [emb(categorical[:, i]) for i, emb in enumerate(self.embeddings)]
        hidden = self.trunk(torch.cat(embedded + [numeric], dim=1))
        return self.head(hidden).squeeze(-1) + offset

    def training_step(self, batch, criterion):
        x, n_claims = batch
        return criterion(self(x), n_claims)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=1e-4)


def fit_step(module, batch, optimizer, loss):
    module.train()
    value = module.training_step(batch, loss)
    optimizer.zero_grad()
    value.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 5.0)
    optimizer.step()
    return value.detach()


def setup():
    torch.manual_seed(42)
    data = ClaimsDataModule()
    data.setup()
    module = ClaimFrequencyModule(n_numeric=len(data.numeric), frequency=data.frequency)
    return {
        "model": module,
        "train": data.train_dataloader(),
        "val": data.val_dataloader(),
        "loss": module.criterion,
        "optimizer": module.configure_optimizers(),
        "step": fit_step,
        "task": "regress",
    }
