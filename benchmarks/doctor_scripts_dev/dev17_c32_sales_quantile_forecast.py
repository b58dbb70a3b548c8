"""Quantile forecasts of weekly sales of many shops: causal convolutions (TCN), windows scaled by their own mean,
pinball loss, split by time into train, validation and test, early stopping, stochastic weight averaging at the end."""
import argparse
import copy

import numpy as np
import torch
import torch.nn as nn
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader, Dataset

QUANTILES = (0.1, 0.5, 0.9)


def simulate_sales(shops=60, weeks=260, seed=5):
    rng = np.random.default_rng(seed)
    t = np.arange(weeks)
    level = rng.lognormal(5, 0.6, (shops, 1))
    trend = 1 + rng.normal(0, 0.001, (shops, 1)) * t
    phase = rng.uniform(0, 2 * np.pi, (shops, 1))
    season = 1 + rng.uniform(0.1, 0.3, (shops, 1)) * np.sin(2 * np.pi * t / 26 + phase) + 0.1 * np.sin(2 * np.pi * t / 13 + 2 * phase)
    noise = np.zeros((shops, weeks))
    for i in range(1, weeks):
        noise[:, i] = 0.5 * noise[:, i - 1] + rng.normal(0, 0.06, shops)
    return (level * trend * season * np.exp(noise)).clip(1)


class WindowedSeries(Dataset):
    """All windows whose targets lie within weeks [start, stop); inputs may reach back before start."""

    def __init__(self, sales, start, stop, context, horizon):
        self.sales = torch.tensor(sales, dtype=torch.float32)
        self.context, self.horizon = context, horizon
        origins = range(max(start, context), stop - horizon + 1)
        self.index = [(shop, origin) for shop in range(len(sales)) for origin in origins]

    def __len__(self):
        return len(self.index)

    def __getitem__(self, i):
        shop, origin = self.index[i]
        past = self.sales[shop, origin - self.context : origin]
        future = self.sales[shop, origin : origin + self.horizon]
        scale = past.mean()
        return (past / scale - 1) * 4, (future / scale - 1) * 4, scale


class CausalConv(nn.Module):
    def __init__(self, channels, dilation, dropout):
        super().__init__()
        self.pad = nn.ConstantPad1d((2 * dilation, 0), 0.0)
        self.conv = nn.Conv1d(channels, channels, 3, dilation=dilation)
        self.norm = nn.BatchNorm1d(channels)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        return x + self.drop(torch.relu(self.norm(self.conv(self.pad(x)))))


class TCN(nn.Module):
    def __init__(self, horizon, channels=32, dilations=(1, 2, 4, 8), dropout=0.05):
        super().__init__()
        self.inp = nn.Conv1d(1, channels, 1)
        self.blocks = nn.Sequential(*[CausalConv(channels, d, dropout) for d in dilations])
        self.head = nn.Linear(channels, horizon * len(QUANTILES))
        self.horizon = horizon

    def forward(self, past):
        x = self.blocks(self.inp(past.unsqueeze(1)))
        return self.head(x[:, :, -1]).view(-1, self.horizon, len(QUANTILES))


def pinball_loss(pred, target):
    q = torch.tensor(QUANTILES, device=pred.device)
    error = target.unsqueeze(-1) - pred
    return torch.maximum(q * error, (q - 1) * error).mean()


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    loss, wape_num, wape_den, covered, count = 0.0, 0.0, 0.0, 0.0, 0
    for past, future, scale in loader:
        pred = model(past)
        loss += pinball_loss(pred, future).item() * len(past)
        truth, median = (future / 4 + 1) * scale[:, None], (pred[..., 1] / 4 + 1) * scale[:, None]
        wape_num += (truth - median).abs().sum().item()
        wape_den += truth.sum().item()
        covered += ((future >= pred[..., 0]) & (future <= pred[..., 2])).float().mean(1).sum().item()
        count += len(past)
    return {"pinball": loss / count, "wape": wape_num / wape_den, "coverage": covered / count}


def main(args):
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    sales = simulate_sales()
    weeks = sales.shape[1]
    val_start, test_start = int(0.7 * weeks), int(0.85 * weeks)
    window = dict(context=args.context, horizon=args.horizon)
    train_set = WindowedSeries(sales, 0, val_start, **window)
    val_set = WindowedSeries(sales, val_start, test_start, **window)
    test_set = WindowedSeries(sales, test_start, weeks, **window)
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True, drop_last=True)
    val_loader, test_loader = DataLoader(val_set, 512), DataLoader(test_set, 512)
    print(f"windows: train {len(train_set)}, validation {len(val_set)}, test {len(test_set)}")

    model = TCN(args.horizon)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[args.epochs * 6 // 10, args.epochs * 8 // 10], gamma=0.3)
    swa_model, swa_start = AveragedModel(model), args.epochs * 7 // 10
    best, best_state, wait = float("inf"), None, 0
    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for past, future, _ in train_loader:
            optimizer.zero_grad()
            loss = pinball_loss(model(past), future)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item()
        scheduler.step()
        if epoch >= swa_start:
            swa_model.update_parameters(model)
        scores = evaluate(model, val_loader)
        print(f"epoch {epoch:2d} train {total / len(train_loader):.4f} " + " ".join(f"{k} {v:.4f}" for k, v in scores.items()))
        if scores["pinball"] < best:
            best, best_state, wait = scores["pinball"], copy.deepcopy(model.state_dict()), 0
        else:
            wait += 1
            if wait >= args.patience:
                break

    model.load_state_dict(best_state)
    chosen = model
    if swa_model.n_averaged > 0:
        update_bn(train_loader, swa_model)
        swa_scores = evaluate(swa_model, val_loader)
        print("average of weights on validation", swa_scores)
        chosen = swa_model if swa_scores["pinball"] < best else model
    naive = np.mean([(f - p[-1]).abs().sum().item() for p, f, _ in test_set]) / np.mean([(f / 4 + 1).sum().item() * 4 for _, f, _ in test_set])
    print(f"test: last value wape {naive:.4f}, model", {k: round(v, 4) for k, v in evaluate(chosen, test_loader).items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--context", type=int, default=40)
    parser.add_argument("--horizon", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    main(parser.parse_args())
