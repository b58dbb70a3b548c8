"""Fraud detection in card transactions: a small network for an imbalanced table.

usage: python b01_fraud_table.py --epochs 14 --lr 1e-3
"""

import argparse
import copy

import numpy as np
import torch
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make_transactions(count, seed=0, fraud_rate=0.03):
    """Five numbers and a merchant category per transaction; about three in a hundred are fraud."""
    rng = np.random.default_rng(seed)
    amount = rng.lognormal(3.5, 1.0, count)
    hour = rng.uniform(0, 24, count)
    distance = rng.exponential(20, count)
    velocity = rng.poisson(2, count)
    account_age = rng.uniform(10, 3000, count)
    category = rng.integers(0, 12, count)
    risky = np.isin(category, [2, 5, 9])
    score = 1.3 * (np.log(amount) - 3.5)
    score += 2.5 * risky * (hour < 7)
    score += 0.05 * distance * (velocity > 3)
    score -= 0.0006 * account_age
    score += 0.4 * rng.logistic(size=count)
    fraud = (score > np.quantile(score, 1 - fraud_rate)).astype(np.int64)
    numbers = np.stack([np.log1p(amount), hour, np.log1p(distance), velocity, account_age], axis=1)
    return numbers.astype(np.float32), category, fraud


class FraudNet(nn.Module):
    def __init__(self, numbers, categories, width=64, dropout=0.1):
        super().__init__()
        self.embedding = nn.Embedding(categories, 6)
        self.layers = nn.Sequential(
            nn.Linear(numbers + 6, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, 1),
        )

    def forward(self, numbers, category):
        features = torch.cat([numbers, self.embedding(category)], dim=1)
        return self.layers(features).squeeze(1)


def to_dataset(numbers, category, fraud):
    return TensorDataset(
        torch.as_tensor(numbers, dtype=torch.float32),
        torch.as_tensor(category, dtype=torch.long),
        torch.as_tensor(fraud, dtype=torch.float32),
    )


def train_one_epoch(model, loader, criterion, optimizer):
    model.train()
    total, seen = 0.0, 0
    for numbers, category, fraud in loader:
        optimizer.zero_grad()
        loss = criterion(model(numbers, category), fraud)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(fraud)
        seen += len(fraud)
    return total / seen


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    logits, targets = [], []
    for numbers, category, fraud in loader:
        logits.append(model(numbers, category))
        targets.append(fraud.long())
    logits, targets = torch.cat(logits).numpy(), torch.cat(targets).numpy()
    return {
        "ap": average_precision_score(targets, logits),
        "auc": roc_auc_score(targets, logits),
        "balanced": balanced_accuracy_score(targets, (logits > 0).astype(np.int64)),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=40000)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)

    numbers, category, fraud = make_transactions(args.rows)
    rows = np.arange(len(fraud))
    train_rows, val_rows = train_test_split(rows, test_size=0.25, stratify=fraud[rows], random_state=args.seed)

    scaler = StandardScaler().fit(numbers[train_rows])
    train_set = to_dataset(scaler.transform(numbers[train_rows]), category[train_rows], fraud[train_rows])
    val_set = to_dataset(scaler.transform(numbers[val_rows]), category[val_rows], fraud[val_rows])
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=1024)

    positives = int(fraud[train_rows].sum())
    negatives = len(train_rows) - positives
    print(f"{len(train_rows)} training rows, {positives} of them fraud; {len(val_rows)} validation rows")
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(negatives / positives))

    model = FraudNet(numbers.shape[1], 12)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)

    best, best_state = 0.0, None
    for epoch in range(1, args.epochs + 1):
        loss = train_one_epoch(model, train_loader, criterion, optimizer)
        scheduler.step()
        scores = evaluate(model, val_loader)
        if scores["ap"] > best:
            best, best_state = scores["ap"], copy.deepcopy(model.state_dict())
        print(
            f"epoch {epoch:2d}  loss {loss:.4f}  average precision {scores['ap']:.3f}  "
            f"auc {scores['auc']:.3f}  balanced accuracy {scores['balanced']:.3f}"
        )
    model.load_state_dict(best_state)
    print("best:", evaluate(model, val_loader))


if __name__ == "__main__":
    main()
