"""Claim frequency: a Poisson regression with entity embeddings and an exposure offset."""
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Config:
    policies: int = 2000
    valid_share: float = 0.2
    cardinalities: tuple = (8, 5, 12)  # region, fuel, brand
    embedding_sizes: tuple = (4, 3, 5)
    hidden: list = field(default_factory=lambda: [48, 24])
    dropout: float = 0.05
    batch_size: int = 64
    epochs: int = 12
    lr: float = 5e-3
    weight_decay: float = 1e-3
    seed: int = 7


# columns of the table of policies
REGION, FUEL, BRAND, AGE, POWER, DENSITY, BONUS, EXPOSURE, CLAIMS = range(9)


def make_table(config):
    """One row a policy; insured fleets, so that several claims a year are usual."""
    rng = np.random.default_rng(config.seed)
    n = config.policies
    cats = np.stack([rng.integers(0, k, n) for k in config.cardinalities], 1)
    age = rng.uniform(18, 80, n)
    power = rng.normal(90, 25, n)
    density = rng.lognormal(5, 1, n)
    bonus = rng.uniform(50, 150, n)
    exposure = rng.uniform(0.3, 1.0, n)
    effects = [rng.normal(0, s, k) for s, k in zip((0.5, 0.4, 0.4), config.cardinalities)]
    eta = 1.2 + sum(e[cats[:, i]] for i, e in enumerate(effects))
    eta += 0.4 * ((age - 49) / 18) ** 2 - 0.4 + 0.3 * (np.log(density) - 5) + 0.4 * (bonus - 100) / 29
    claims = rng.poisson(exposure * np.exp(np.clip(eta, -3, 3.2)))
    return np.column_stack([cats, age, power, density, bonus, exposure, claims])


def split(table, config):
    rng = np.random.default_rng(config.seed + 1)
    order = rng.permutation(len(table))
    cut = int(len(table) * (1 - config.valid_share))
    train_idx, valid_idx = order[:cut], order[cut:]
    return table[train_idx], table[valid_idx]


class Preprocessor:
    """Codes of the categories, standardized numbers, and log of the exposure."""

    def continuous(self, table):
        numbers = table[:, AGE:EXPOSURE].copy()
        numbers[:, DENSITY - AGE] = np.log(numbers[:, DENSITY - AGE])
        return numbers

    def fit(self, table):
        numbers = self.continuous(table)
        self.mean, self.std = numbers.mean(0), numbers.std(0)
        return self

    def transform(self, table):
        numbers = (self.continuous(table) - self.mean) / self.std
        return TensorDataset(
            torch.as_tensor(table[:, REGION:AGE], dtype=torch.long),
            torch.as_tensor(numbers, dtype=torch.float32),
            torch.as_tensor(np.log(table[:, EXPOSURE]), dtype=torch.float32),
            torch.as_tensor(table[:, CLAIMS], dtype=torch.float32),
        )


class FrequencyNet(nn.Module):
    def __init__(self, config, n_cont, base_rate):
        super().__init__()
        self.embeddings = nn.ModuleList(
            nn.Embedding(k, d) for k, d in zip(config.cardinalities, config.embedding_sizes)
        )
        sizes = [sum(config.embedding_sizes) + n_cont, *config.hidden]
        layers = []
        for a, b in zip(sizes, sizes[1:]):
            layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(config.dropout)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], 1)
        nn.init.constant_(self.head.bias, float(np.log(base_rate)))

    def forward(self, cats, conts, log_exposure):
        parts = [table(cats[:, i]) for i, table in enumerate(self.embeddings)]
        hidden = self.body(torch.cat(parts + [conts], 1))
        return self.head(hidden).squeeze(1) + log_exposure


def deviance(log_mu, y):
    """Sum of the Poisson deviances."""
    return 2 * (torch.xlogy(y, y) - y * log_mu - y + log_mu.exp()).sum()


class Learner:
    def __init__(self, model, config):
        self.model, self.config = model, config
        self.loss_func = nn.PoissonNLLLoss(log_input=True)
        self.opt = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)

    def fit(self, train_dl, valid_dl, null_deviance):
        sched = torch.optim.lr_scheduler.OneCycleLR(
            self.opt, self.config.lr, total_steps=self.config.epochs * len(train_dl), pct_start=0.25
        )
        for epoch in range(self.config.epochs):
            self.model.train()
            losses = []
            for *xb, yb in train_dl:
                loss = self.loss_func(self.model(*xb), yb)
                loss.backward()
                self.opt.step()
                self.opt.zero_grad()
                sched.step()
                losses.append(loss.item())
            explained = 1 - self.validate(valid_dl) / null_deviance
            print(f"{epoch:3d}  loss {np.mean(losses):8.4f}  explained deviance {explained:.3f}")

    @torch.no_grad()
    def validate(self, dl):
        self.model.eval()
        total = 0.0
        for *xb, yb in dl:
            total += deviance(self.model(*xb), yb).item()
        return total / len(dl.dataset)


def main():
    config = Config()
    torch.manual_seed(config.seed)
    train_table, valid_table = split(make_table(config), config)
    prep = Preprocessor().fit(train_table)
    train_ds, valid_ds = prep.transform(train_table), prep.transform(valid_table)
    train_dl = DataLoader(train_ds, config.batch_size, shuffle=True, drop_last=True)
    valid_dl = DataLoader(valid_ds, 2 * config.batch_size)

    base_rate = train_table[:, CLAIMS].sum() / train_table[:, EXPOSURE].sum()
    y, log_exposure = valid_ds.tensors[3], valid_ds.tensors[2]
    null = deviance(log_exposure + float(np.log(base_rate)), y).item() / len(y)
    print(f"claims a year {base_rate:.2f}, deviance of the constant model {null:.3f}")
    model = FrequencyNet(config, train_ds.tensors[1].shape[1], base_rate)
    Learner(model, config).fit(train_dl, valid_dl, null)


if __name__ == "__main__":
    main()
