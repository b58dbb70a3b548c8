"""Multi-task network for a table: the price of a house and whether it stands in a quiet street."""
import argparse
import copy

import numpy as np
import torch
from sklearn.metrics import r2_score, roc_auc_score
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


def load_table(count, seed):
    features, price = houses(count=count, seed=seed)
    generator = torch.Generator().manual_seed(seed + 100)
    score = 1.5 * features[:, 5] - 1.5 * features[:, 6] + 0.8 * features[:, 0]
    quiet = (score + 0.3 * torch.randn(count, generator=generator) > 0).float()
    return features, price, quiet


class Standardizer:
    def fit(self, values):
        self.mean, self.std = values.mean(0), values.std(0)
        return self

    def transform(self, values):
        return (values - self.mean) / self.std

    def inverse(self, values):
        return values * self.std + self.mean


class MultiTaskNet(nn.Module):
    """A shared trunk and two heads, one for each task."""

    def __init__(self, in_features, hidden=64, quiet_weight=1.0):
        super().__init__()
        self.quiet_weight = quiet_weight
        self.trunk = nn.Sequential(
            nn.Linear(in_features, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.price_head = nn.Linear(hidden, 1)
        self.quiet_head = nn.Linear(hidden, 1)

    def forward(self, x):
        h = self.trunk(x)
        return self.price_head(h).squeeze(-1), self.quiet_head(h).squeeze(-1)

    def loss(self, outputs, price, quiet):
        price_loss = F.mse_loss(outputs[0], price)
        quiet_loss = F.binary_cross_entropy_with_logits(outputs[1], quiet)
        total = price_loss + self.quiet_weight * quiet_loss
        return total, price_loss.detach(), quiet_loss.detach()


def train_one_epoch(model, loader, optimizer, accumulate):
    model.train()
    sums = np.zeros(2)
    optimizer.zero_grad()
    for i, (x, price, quiet) in enumerate(loader):
        total, price_loss, quiet_loss = model.loss(model(x), price, quiet)
        (total / accumulate).backward()
        if (i + 1) % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
        sums += len(x) * np.array([price_loss.item(), quiet_loss.item()])
    return sums / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader, scaler):
    model.eval()
    prices, quiets, price_predictions, quiet_predictions = [], [], [], []
    for x, price, quiet in loader:
        price_out, quiet_out = model(x)
        price_predictions.append(scaler.inverse(price_out))
        quiet_predictions.append(quiet_out.sigmoid())
        prices.append(scaler.inverse(price))
        quiets.append(quiet)
    r2 = r2_score(torch.cat(prices).numpy(), torch.cat(price_predictions).numpy())
    auc = roc_auc_score(torch.cat(quiets).numpy(), torch.cat(quiet_predictions).numpy())
    return r2, auc


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=25)
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    x_train, price_train, quiet_train = load_table(800, seed=0)
    x_val, price_val, quiet_val = load_table(300, seed=1)
    x_scaler = Standardizer().fit(x_train)
    price_scaler = Standardizer().fit(price_train)
    train_set = TensorDataset(x_scaler.transform(x_train), price_scaler.transform(price_train), quiet_train)
    val_set = TensorDataset(x_scaler.transform(x_val), price_scaler.transform(price_val), quiet_val)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=100)

    model = MultiTaskNet(x_train.shape[1])
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs, eta_min=args.lr / 50)

    best, best_state = float("-inf"), None
    for epoch in range(1, args.epochs + 1):
        price_loss, quiet_loss = train_one_epoch(model, train_loader, optimizer, args.accumulate)
        scheduler.step()
        r2, auc = evaluate(model, val_loader, price_scaler)
        print(f"[{epoch:2d}] price mse {price_loss:.4f}  quiet bce {quiet_loss:.4f}  val R2 {r2:.4f}  AUC {auc:.4f}")
        if r2 + auc > best:
            best, best_state = r2 + auc, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    r2, auc = evaluate(model, val_loader, price_scaler)
    print(f"best: R2 {r2:.4f}, AUC {auc:.4f}")


if __name__ == "__main__":
    main()
