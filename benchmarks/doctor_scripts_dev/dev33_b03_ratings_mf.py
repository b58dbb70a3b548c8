"""Biased matrix factorization for explicit ratings."""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
logger = logging.getLogger("recsys")


@dataclass
class DataConfig:
    num_users: int = 400
    num_items: int = 250
    num_ratings: int = 24_000
    true_dim: int = 4
    val_fraction: float = 0.15
    seed: int = 7


@dataclass
class ModelConfig:
    dim: int = 6
    init_std: float = 0.1


@dataclass
class TrainerConfig:
    epochs: int = 30
    batch_size: int = 128
    eval_batch_size: int = 1024
    lr: float = 5e-3
    lr_gamma: float = 0.93
    weight_decay: float = 1e-4
    seed: int = 11


def build_ratings(cfg: DataConfig) -> TensorDataset:
    """Draws ratings from 1 to 5 of random pairs, each pair at most once."""
    gen = torch.Generator().manual_seed(cfg.seed)
    users = torch.randn(cfg.num_users, cfg.true_dim, generator=gen)
    items = torch.randn(cfg.num_items, cfg.true_dim, generator=gen)
    user_bias = 0.4 * torch.randn(cfg.num_users, generator=gen)
    item_bias = 0.5 * torch.randn(cfg.num_items, generator=gen)
    pairs = torch.randperm(cfg.num_users * cfg.num_items, generator=gen)[: cfg.num_ratings]
    u, i = pairs // cfg.num_items, pairs % cfg.num_items
    score = 3.2 + user_bias[u] + item_bias[i] + 0.35 * (users[u] * items[i]).sum(1)
    score = score + 0.25 * torch.randn(len(pairs), generator=gen)
    return TensorDataset(u, i, score.clamp(1.0, 5.0))


def split_ratings(dataset: TensorDataset, cfg: DataConfig) -> tuple[Subset, Subset]:
    gen = torch.Generator().manual_seed(cfg.seed + 1)
    order = torch.randperm(len(dataset), generator=gen).tolist()
    num_val = int(cfg.val_fraction * len(dataset))
    val_indices = order[:num_val]
    train_indices = order[num_val:]
    return Subset(dataset, train_indices), Subset(dataset, val_indices)


class MatrixFactorization(nn.Module):
    def __init__(self, num_users: int, num_items: int, mean: float, cfg: ModelConfig) -> None:
        super().__init__()
        self.user_factors = nn.Embedding(num_users, cfg.dim)
        self.item_factors = nn.Embedding(num_items, cfg.dim)
        self.user_bias = nn.Embedding(num_users, 1)
        self.item_bias = nn.Embedding(num_items, 1)
        self.global_mean = nn.Parameter(torch.tensor(mean))
        for table in (self.user_factors, self.item_factors):
            nn.init.normal_(table.weight, std=cfg.init_std)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)

    def factor_parameters(self) -> list[nn.Parameter]:
        return [self.user_factors.weight, self.item_factors.weight]

    def bias_parameters(self) -> list[nn.Parameter]:
        return [self.user_bias.weight, self.item_bias.weight, self.global_mean]

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        interaction = (self.user_factors(users) * self.item_factors(items)).sum(dim=-1)
        bias = self.user_bias(users).squeeze(-1) + self.item_bias(items).squeeze(-1)
        return self.global_mean + bias + interaction


class Trainer:
    def __init__(self, model: nn.Module, train_set: Subset, val_set: Subset, cfg: TrainerConfig) -> None:
        self.model = model
        self.cfg = cfg
        self.train_loader = DataLoader(
            train_set,
            batch_size=cfg.batch_size,
            shuffle=True,
            generator=torch.Generator().manual_seed(cfg.seed),
        )
        self.val_loader = DataLoader(val_set, batch_size=cfg.eval_batch_size)
        self.loss_fn = nn.MSELoss()
        groups = [
            {"params": model.factor_parameters(), "weight_decay": cfg.weight_decay},
            {"params": model.bias_parameters(), "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.Adam(groups, lr=cfg.lr)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, gamma=cfg.lr_gamma)
        self.best_rmse = float("inf")
        self.best_state: dict[str, Tensor] = {}

    def fit(self) -> float:
        for epoch in range(1, self.cfg.epochs + 1):
            train_rmse = self._train_epoch()
            val_rmse = self.evaluate()
            self.scheduler.step()
            if val_rmse < self.best_rmse:
                self.best_rmse = val_rmse
                self.best_state = copy.deepcopy(self.model.state_dict())
            logger.info("epoch=%d train_rmse=%.4f val_rmse=%.4f", epoch, train_rmse, val_rmse)
        self.model.load_state_dict(self.best_state)
        return self.evaluate()

    def _train_epoch(self) -> float:
        self.model.train()
        squared_error, count = 0.0, 0
        for users, items, ratings in self.train_loader:
            self.optimizer.zero_grad()
            predictions = self.model(users, items)
            loss = self.loss_fn(predictions, ratings)
            loss.backward()
            self.optimizer.step()
            squared_error += loss.item() * len(ratings)
            count += len(ratings)
        return math.sqrt(squared_error / count)

    @torch.no_grad()
    def evaluate(self) -> float:
        self.model.eval()
        squared_error, count = 0.0, 0
        for users, items, ratings in self.val_loader:
            scores = self.model(users, items)
            squared_error += (scores - ratings).pow(2).sum().item()
            count += len(ratings)
        return math.sqrt(squared_error / count)


def main() -> None:
    data_cfg, model_cfg, trainer_cfg = DataConfig(), ModelConfig(), TrainerConfig()
    torch.manual_seed(trainer_cfg.seed)
    dataset = build_ratings(data_cfg)
    train_set, val_set = split_ratings(dataset, data_cfg)
    train_ratings = dataset.tensors[2][train_set.indices]
    logger.info("train=%d val=%d rating_std=%.3f", len(train_set), len(val_set), train_ratings.std().item())
    model = MatrixFactorization(data_cfg.num_users, data_cfg.num_items, train_ratings.mean().item(), model_cfg)
    trainer = Trainer(model, train_set, val_set, trainer_cfg)
    logger.info("best model: val_rmse=%.4f", trainer.fit())


if __name__ == "__main__":
    main()
