"""Click prediction: entity embeddings and numbers, one-cycle schedule, in the manner of a competition notebook."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class CFG:
    seed: int = 42
    rows: int = 2000
    cardinalities: tuple = (12, 8, 24)
    emb_dim: int = 8
    hidden: int = 64
    batch_size: int = 64
    epochs: int = 10
    max_lr: float = 1e-2
    weight_decay: float = 1e-3
    valid_fraction: float = 0.2


def make_frame(cfg):
    """site, device, hour; price and two statistics; clicked or not."""
    rng = np.random.default_rng(cfg.seed)
    cats = np.stack([rng.integers(0, n, cfg.rows) for n in cfg.cardinalities], axis=1)
    nums = rng.normal(size=(cfg.rows, 3))
    effects = [rng.normal(0, 1.6, n) for n in cfg.cardinalities]
    score = sum(effect[cats[:, i]] for i, effect in enumerate(effects))
    score = score + 1.2 * nums[:, 0] - 0.8 * nums[:, 1] - 0.6
    clicks = rng.random(cfg.rows) < 1 / (1 + np.exp(-1.5 * score))
    return torch.from_numpy(cats), torch.from_numpy(nums).float(), torch.from_numpy(clicks).float()


class TabularModel(nn.Module):
    def __init__(self, cfg, n_nums=3):
        super().__init__()
        self.embeds = nn.ModuleList([nn.Embedding(n, cfg.emb_dim) for n in cfg.cardinalities])
        for embed in self.embeds:
            nn.init.normal_(embed.weight, std=0.1)
        self.bn = nn.BatchNorm1d(n_nums)
        self.layers = nn.Sequential(
            nn.Linear(len(cfg.cardinalities) * cfg.emb_dim + n_nums, cfg.hidden),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(cfg.hidden, 1),
        )

    def forward(self, cats, nums):
        x = torch.cat([embed(cats[:, i]) for i, embed in enumerate(self.embeds)] + [self.bn(nums)], dim=1)
        return self.layers(x).squeeze(1)


def seed_everything(seed):
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_loaders(cfg):
    data = make_frame(cfg)
    order = torch.randperm(cfg.rows)
    n_valid = int(cfg.rows * cfg.valid_fraction)
    train_idx, valid_idx = order[:-n_valid], order[-n_valid:]
    train_ds = TensorDataset(*(column[train_idx] for column in data))
    valid_ds = TensorDataset(*(column[valid_idx] for column in data))
    return DataLoader(train_ds, cfg.batch_size, shuffle=True), DataLoader(valid_ds, 2 * cfg.batch_size)


def train_fn(model, loader, optimizer, scheduler, loss_fn):
    model.train()
    total = 0.0
    for cats, nums, target in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(cats, nums), target)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(target)
    return total / len(loader.dataset)


def valid_fn(model, loader, loss_fn):
    model.eval()
    outputs, targets = [], []
    with torch.no_grad():
        for cats, nums, target in loader:
            outputs.append(model(cats, nums))
            targets.append(target)
    outputs, targets = torch.cat(outputs), torch.cat(targets)
    preds = (outputs.sigmoid() > 0.5).float()
    accuracy = (preds == targets).float().mean().item()
    return loss_fn(outputs, targets).item(), accuracy, roc_auc_score(targets.numpy(), outputs.numpy())


def main():
    cfg = CFG()
    seed_everything(cfg.seed)
    train_loader, valid_loader = make_loaders(cfg)
    model = TabularModel(cfg)
    loss_fn = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.max_lr, weight_decay=cfg.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=cfg.max_lr, total_steps=cfg.epochs * len(train_loader), pct_start=0.2
    )
    best_auc, best_state = 0.0, None
    for epoch in range(cfg.epochs):
        train_loss = train_fn(model, train_loader, optimizer, scheduler, loss_fn)
        valid_loss, accuracy, auc = valid_fn(model, valid_loader, loss_fn)
        print(f"EPOCH {epoch}: train {train_loss:.4f} valid {valid_loss:.4f} accuracy {accuracy:.4f} auc {auc:.4f}")
        if auc > best_auc:
            best_auc = auc
            best_state = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(best_state)
    print(f"best auc {best_auc:.4f}")


if __name__ == "__main__":
    main()
