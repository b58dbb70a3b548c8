"""Two-input, two-task network: picture + table + sales history -> price (regression) and condition (3 classes)."""
import argparse
import logging

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

logger = logging.getLogger("houses")

COLUMNS = ["rooms", "age", "distance", "floors", "garden", "price"]
FEATURES = ["rooms", "age", "distance", "floors", "garden"]
ROOFS = ("flat", "gable", "stepped")


def draw_house(width, roof, rng, size=20):
    yy, xx = np.mgrid[:size, :size]
    c = rng.uniform(8, size - 8)
    img = rng.normal(0.3, 0.08, (size, size))
    img[(yy >= 10) & (yy < 17) & (abs(xx - c) < width / 2)] += 0.5
    half = {"flat": 0 * yy + width / 2, "gable": (yy - 4) * width / 12, "stepped": np.floor((yy - 3) / 3) * width / 6}[roof]
    img[(yy >= 5) & (yy < 10) & (abs(xx - c) < half)] += 0.35
    return img.astype(np.float32)


def make_records(n, seed):
    rng = np.random.default_rng(seed)
    records = []
    for _ in range(n):
        roof, width = int(rng.integers(len(ROOFS))), rng.uniform(5, 13)
        row = {"rooms": rng.integers(1, 8), "age": rng.uniform(0, 90), "distance": rng.exponential(8),
               "floors": rng.integers(1, 4), "garden": rng.uniform(0, 600)}
        history = np.cumsum(rng.normal(0, 0.4, rng.integers(3, 13))) + rng.normal(0, 1)
        price = (60_000 + 14_000 * width + 9_000 * row["rooms"] - 500 * row["age"] - 1_500 * row["distance"]
                 + 12_000 * row["floors"] + 25_000 * history[-1] + rng.normal(0, 12_000))
        row["price"] = price
        # the condition: read off the roof, except for old houses, where it is one worse
        condition = min(roof + int(row["age"] > 60), 2)
        records.append({"image": draw_house(width, ROOFS[roof], rng), "history": history.astype(np.float32),
                        "table": np.array([row[c] for c in COLUMNS], dtype=np.float32),
                        "price": price, "condition": condition})
    return records


class Scaler:
    def __init__(self, records):
        table = np.stack([r["table"] for r in records])
        prices = np.array([r["price"] for r in records])
        self.table_mean, self.table_std = table.mean(0), table.std(0)
        self.price_mean, self.price_std = float(prices.mean()), float(prices.std())


class HouseDataset(Dataset):
    def __init__(self, records, scaler, features):
        self.records, self.scaler = records, scaler
        self.columns = [COLUMNS.index(f) for f in features]

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        r, s = self.records[index], self.scaler
        table = (r["table"] - s.table_mean) / s.table_std
        return {
            "image": torch.from_numpy((r["image"] - 0.4) / 0.25).unsqueeze(0),
            "table": torch.from_numpy(table[self.columns]),
            "history": torch.from_numpy(r["history"]).unsqueeze(1),
            "price": (r["price"] - s.price_mean) / s.price_std,
            "condition": r["condition"],
        }


def collate(samples):
    # pack_padded_sequence wants the longest history first
    samples = sorted(samples, key=lambda s: len(s["history"]), reverse=True)
    inputs = {
        "image": torch.stack([s["image"] for s in samples]),
        "table": torch.stack([s["table"] for s in samples]),
        "history": pad_sequence([s["history"] for s in samples], batch_first=True),
        "lengths": torch.tensor([len(s["history"]) for s in samples]),
    }
    targets = {
        "price": torch.tensor([s["price"] for s in samples], dtype=torch.float32),
        "condition": torch.tensor([s["condition"] for s in samples]),
    }
    return inputs, targets


class HouseNet(nn.Module):
    def __init__(self, n_features, dim=32):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(16 * 5 * 5, dim), nn.ReLU())
        self.mlp = nn.Sequential(nn.Linear(n_features, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU())
        self.gru = nn.GRU(1, 16, batch_first=True)
        self.trunk = nn.Sequential(nn.Linear(2 * dim + 16, 64), nn.ReLU())
        self.price_head = nn.Linear(64, 1)
        self.condition_head = nn.Linear(64, len(ROOFS))

    def forward(self, batch):
        image = self.cnn(batch["image"])
        table = self.mlp(batch["table"])
        _, hidden = self.gru(pack_padded_sequence(batch["history"], batch["lengths"], batch_first=True))
        fused = self.trunk(torch.cat([image, table, hidden[-1]], dim=1))
        return self.price_head(fused).squeeze(1), self.condition_head(fused)


class MultiTaskLoss(nn.Module):
    def __init__(self, price_weight=1.0):
        super().__init__()
        self.price_weight = price_weight
        self.mse, self.ce = nn.MSELoss(), nn.CrossEntropyLoss()

    def forward(self, price, condition, targets):
        price_loss = self.mse(price, targets["price"])
        condition_loss = self.ce(condition, targets["condition"])
        return condition_loss + self.price_weight * price_loss


class Trainer:
    def __init__(self, model, loss_fn, args, steps):
        self.model, self.loss_fn, self.args = model, loss_fn, args
        params = list(model.parameters()) + list(loss_fn.parameters())
        self.optimizer = torch.optim.Adam(params, lr=args.lr)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=steps)

    def train_epoch(self, loader):
        self.model.train()
        total = 0.0
        for inputs, targets in loader:
            self.optimizer.zero_grad()
            price, condition = self.model(inputs)
            loss = self.loss_fn(price, condition, targets)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.args.max_norm)
            self.optimizer.step()
            self.scheduler.step()
            total += loss.item()
        return total / len(loader)

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        outputs = [(*self.model(inputs), targets) for inputs, targets in loader]
        price = torch.cat([o[0].reshape(-1) for o in outputs])
        price_true = torch.cat([o[2]["price"] for o in outputs])
        condition = torch.cat([o[1].argmax(1) for o in outputs])
        condition_true = torch.cat([o[2]["condition"] for o in outputs])
        r2 = 1 - ((price - price_true) ** 2).mean() / price_true.var(unbiased=False)
        return r2.item(), (condition == condition_true).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--max-norm", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(name)s | %(message)s")
    torch.manual_seed(args.seed)

    train_records, val_records = make_records(1500, args.seed), make_records(500, args.seed + 1)
    scaler = Scaler(train_records)
    train_set, val_set = (HouseDataset(r, scaler, FEATURES) for r in (train_records, val_records))
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(val_set, 100, collate_fn=collate)

    model, loss_fn = HouseNet(len(FEATURES)), MultiTaskLoss()
    trainer = Trainer(model, loss_fn, args, args.epochs * len(train_loader))
    r2 = acc = 0.0
    for epoch in range(args.epochs):
        loss = trainer.train_epoch(train_loader)
        r2, acc = trainer.evaluate(val_loader)
        logger.info("epoch %2d  loss %.4f  val price R2 %.4f  val condition acc %.4f", epoch, loss, r2, acc)
    print(f"final: price R2 {r2:.4f}, condition accuracy {acc:.4f}")


if __name__ == "__main__":
    main()
