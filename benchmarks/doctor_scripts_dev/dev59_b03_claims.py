"""Claim frequency with entity embeddings: a Poisson network with an exposure offset, trained by a small Trainer."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CATEGORICAL = {"brand": 12, "region": 40}
NUMERIC = ("age", "power", "density")


@dataclass
class Config:
    samples: int = 2000
    epochs: int = 14
    batch_size: int = 50
    lr: float = 3e-3
    weight_decay: float = 1e-3
    embedding_dim: int = 3
    hidden: int = 48
    dropout: float = 0.05
    clip: float = 5.0
    patience: int = 2
    seed: int = 3


def make_policies(count, seed):
    """A portfolio as a dictionary of columns."""
    rng = np.random.default_rng(seed)
    table = {name: rng.integers(0, levels, count) for name, levels in CATEGORICAL.items()}
    table["age"] = rng.uniform(18, 80, count)
    table["power"] = rng.gamma(6.0, 15.0, count)
    table["density"] = np.exp(rng.normal(5.0, 1.0, count))
    brand_effect, region_effect = rng.normal(0, 0.5, 12), rng.normal(0, 0.7, 40)
    log_rate = (
        1.0
        + brand_effect[table["brand"]]
        + region_effect[table["region"]]
        + 0.9 * np.exp(-(table["age"] - 18) / 12)
        + 0.006 * (table["power"] - 90)
        + 0.3 * (np.log(table["density"]) - 5)
    )
    table["exposure"] = rng.uniform(0.3, 1.0, count)
    table["claims"] = rng.poisson(table["exposure"] * np.exp(log_rate))
    table["cost"] = table["claims"] * rng.gamma(20.0, 50.0, count)
    return table


def prepare(table, train_rows):
    """Tensors of the whole portfolio; means and deviations are those of the training rows."""
    cat = np.stack([table[name] for name in CATEGORICAL], 1)
    num = np.stack([np.log1p(table[name]) for name in NUMERIC], 1)
    num = (num - num[train_rows].mean(0)) / num[train_rows].std(0)
    return (
        torch.as_tensor(cat, dtype=torch.long),
        torch.as_tensor(num, dtype=torch.float32),
        torch.as_tensor(np.log(table["exposure"]), dtype=torch.float32),
        torch.as_tensor(table["claims"], dtype=torch.float32),
    )


class FrequencyNet(nn.Module):
    def __init__(self, cfg, mean_rate):
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(levels, cfg.embedding_dim) for levels in CATEGORICAL.values())
        width = cfg.embedding_dim * len(CATEGORICAL) + len(NUMERIC)
        self.body = nn.Sequential(
            nn.Linear(width, cfg.hidden), nn.LayerNorm(cfg.hidden), nn.SiLU(), nn.Dropout(cfg.dropout),
            nn.Linear(cfg.hidden, cfg.hidden), nn.SiLU(),
        )
        self.head = nn.Linear(cfg.hidden, 1)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.constant_(self.head.bias, float(np.log(mean_rate)))

    def forward(self, cat, num):
        parts = [embedding(cat[:, i]) for i, embedding in enumerate(self.embeddings)]
        return self.head(self.body(torch.cat(parts + [num], 1)))


def deviance(mu, y):
    """Poisson deviance of each policy."""
    return 2 * (torch.xlogy(y, y / mu) - (y - mu))


def parameter_groups(model, weight_decay):
    decay, no_decay = [], []
    for name, parameter in model.named_parameters():
        if name.startswith("embeddings"):
            no_decay.append(parameter)
        elif parameter.ndim < 2:
            no_decay.append(parameter)
        else:
            decay.append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]


class Trainer:
    def __init__(self, model, cfg):
        self.model, self.cfg = model, cfg
        self.criterion = nn.PoissonNLLLoss(log_input=True)
        self.optimizer = torch.optim.AdamW(parameter_groups(model, cfg.weight_decay), lr=cfg.lr)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, factor=0.3, patience=cfg.patience)

    def training_step(self, batch):
        cat, num, log_exposure, claims = batch
        eta = self.model(cat, num).squeeze(1) + log_exposure
        loss = self.criterion(eta, claims)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.clip)
        self.optimizer.step()
        return loss.item() * len(claims)

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        total, count = 0.0, 0
        for cat, num, log_exposure, claims in loader:
            mu = torch.exp(self.model(cat, num).squeeze(1) + log_exposure)
            total += deviance(mu, claims).sum().item()
            count += len(claims)
        return total / count

    def fit(self, train_loader, valid_loader, null_deviance):
        best, best_state = float("inf"), None
        for epoch in range(self.cfg.epochs):
            self.model.train()
            train_loss = sum(self.training_step(batch) for batch in train_loader) / len(train_loader.dataset)
            score = self.evaluate(valid_loader)
            self.scheduler.step(score)
            if score < best:
                best, best_state = score, copy.deepcopy(self.model.state_dict())
            print(f"{epoch:3d}  loss {train_loss:.4f}  valid deviance {score:.4f}  explained {1 - score / null_deviance:.3f}")
        self.model.load_state_dict(best_state)
        return best


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    table = make_policies(cfg.samples, cfg.seed)
    order = np.random.default_rng(cfg.seed + 1).permutation(cfg.samples)
    train_rows, valid_rows = order[:1600], order[1600:]
    tensors = prepare(table, train_rows)
    train_set = TensorDataset(*(t[torch.as_tensor(train_rows)] for t in tensors))
    valid_set = TensorDataset(*(t[torch.as_tensor(valid_rows)] for t in tensors))
    mean_rate = float(table["claims"][train_rows].sum() / table["exposure"][train_rows].sum())
    null = deviance(mean_rate * valid_set.tensors[2].exp(), valid_set.tensors[3]).mean().item()
    trainer = Trainer(FrequencyNet(cfg, mean_rate), cfg)
    train_loader = DataLoader(train_set, cfg.batch_size, shuffle=True)
    best = trainer.fit(train_loader, DataLoader(valid_set, 100), null)
    print(f"null deviance {null:.4f}, best {best:.4f}, explained {1 - best / null:.3f}")


if __name__ == "__main__":
    main()
