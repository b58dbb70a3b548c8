"""House prices with a ResNet for tables, after the idiom of rtdl: index batches, no DataLoader."""

import argparse
import copy
import math
from typing import Dict, Iterator

import torch
from torch import Tensor, nn

from toydata import houses


class ResidualBlock(nn.Module):
    def __init__(self, d: int, d_hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d)
        self.linear0 = nn.Linear(d, d_hidden)
        self.dropout = nn.Dropout(dropout)
        self.linear1 = nn.Linear(d_hidden, d)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.relu(self.linear0(self.norm(x)))
        return x + self.linear1(self.dropout(z))


class ResNet(nn.Module):
    def __init__(self, d_in: int, d: int, d_hidden: int, n_blocks: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(d_in, d)
        self.blocks = nn.ModuleList([ResidualBlock(d, d_hidden, dropout) for _ in range(n_blocks)])
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.head(torch.relu(self.norm(x))).squeeze(-1)


def index_batches(size: int, batch_size: int) -> Iterator[Tensor]:
    yield from torch.randperm(size).split(batch_size)


def prepare(seed: int) -> Dict[str, Dict[str, Tensor]]:
    x, y = houses(count=1600, seed=seed)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    parts = dict(zip(("train", "val", "test"), order.split([1200, 200, 200])))
    return {name: {"x": x[idx], "y": y[idx]} for name, idx in parts.items()}


class Standardizer:
    """Figures of the training part, used for all parts."""

    def __init__(self, values: Tensor) -> None:
        self.mean, self.std = values.mean(0), values.std(0)

    def transform(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.std

    def inverse(self, values: Tensor) -> Tensor:
        return values * self.std + self.mean


@torch.no_grad()
def evaluate(model: nn.Module, part: Dict[str, Tensor], target: Standardizer) -> Dict[str, float]:
    model.eval()
    prediction = target.inverse(model(part["x"]))
    price = target.inverse(part["y"])
    mse = (prediction - price).square().mean().item()
    return {"rmse": math.sqrt(mse), "r2": 1 - mse / price.var(unbiased=False).item()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--d", type=int, default=64)
    parser.add_argument("--n-blocks", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.05)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    data = prepare(args.seed)
    feature, target = Standardizer(data["train"]["x"]), Standardizer(data["train"]["y"])
    for part in data.values():
        part["x"] = feature.transform(part["x"])
        part["y"] = target.transform(part["y"])

    model = ResNet(data["train"]["x"].shape[1], args.d, 2 * args.d, args.n_blocks, args.dropout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)
    loss_fn = nn.MSELoss()

    best = {"rmse": math.inf}
    best_state = copy.deepcopy(model.state_dict())
    train_x, train_y = data["train"]["x"], data["train"]["y"]
    for epoch in range(args.epochs):
        model.train()
        total = torch.zeros(())
        for idx in index_batches(len(train_x), args.batch_size):
            optimizer.zero_grad()
            loss = loss_fn(model(train_x[idx]), train_y[idx])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(idx)
        schedule.step()
        scores = evaluate(model, data["val"], target)
        print(f"epoch {epoch:2d}  loss {total.item() / len(train_x):.4f}  "
              f"val rmse {scores['rmse']:.2f}  r2 {scores['r2']:.3f}")
        if scores["rmse"] < best["rmse"]:
            best = scores
            best_state = copy.deepcopy(model.state_dict())

    model.load_state_dict(best_state)
    scores = evaluate(model, data["test"], target)
    print(f"test rmse {scores['rmse']:.2f}  r2 {scores['r2']:.3f}")


if __name__ == "__main__":
    main()
