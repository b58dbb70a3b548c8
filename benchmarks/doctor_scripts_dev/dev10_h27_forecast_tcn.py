"""Forecast of the next six hours of a daily and weekly load from causal convolutions: chronological split, scale of the past, three quantiles."""
import argparse
import math

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

QUANTILES = (0.1, 0.5, 0.9)


def load_curve(hours, seed):
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    daily = 30 * np.sin(2 * np.pi * t / 24 - 1) + 12 * np.sin(4 * np.pi * t / 24)
    weekly = np.where((t // 24) % 7 >= 5, -25.0, 0.0)
    noise = np.zeros(hours)
    for i in range(1, hours):
        noise[i] = 0.8 * noise[i - 1] + 3 * rng.standard_normal()
    return (300 + daily + weekly + noise).astype(np.float32)


class Windows(Dataset):
    """Inputs are the past scaled load and the clock; targets are the load of the hours that follow."""

    def __init__(self, series, first, last, mean, std, past, horizon):
        self.load = torch.from_numpy((series - mean) / std)
        t = torch.arange(len(series))
        self.clock = torch.stack([torch.sin(2 * math.pi * t / 24), torch.cos(2 * math.pi * t / 24),
                                  ((t // 24) % 7 >= 5).float(), torch.sin(2 * math.pi * t / 168), torch.cos(2 * math.pi * t / 168)])
        self.past, self.horizon = past, horizon
        self.starts = range(first, last - past - horizon + 1)

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, i):
        a = self.starts[i]
        b, c = a + self.past, a + self.past + self.horizon
        return torch.cat([self.load[None, a:b], self.clock[:, a:b]]), self.load[b:c]


class CausalConv(nn.Conv1d):
    def forward(self, x):
        return super().forward(nn.functional.pad(x, ((self.kernel_size[0] - 1) * self.dilation[0], 0)))


class Layer(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        self.filter, self.gate = CausalConv(channels, channels, 3, dilation=dilation), CausalConv(channels, channels, 3, dilation=dilation)
        self.mix = nn.Conv1d(channels, channels, 1)

    def forward(self, x):
        return x + self.mix(torch.tanh(self.filter(x)) * torch.sigmoid(self.gate(x)))


class TCN(nn.Module):
    def __init__(self, horizon, channels=32, dilations=(1, 2, 4, 8)):
        super().__init__()
        self.entry = nn.Conv1d(6, channels, 1)
        self.layers = nn.Sequential(*[Layer(channels, d) for d in dilations])
        self.exit = nn.Linear(channels, horizon * len(QUANTILES))
        self.horizon = horizon

    def forward(self, x):
        state = self.layers(self.entry(x))[..., -1]
        return self.exit(torch.relu(state)).view(-1, self.horizon, len(QUANTILES))


def pinball(output, target):
    q = torch.tensor(QUANTILES)
    error = target.unsqueeze(-1) - output
    return torch.maximum(q * error, (q - 1) * error).mean()


@torch.no_grad()
def evaluate(model, loader, std):
    model.eval()
    loss, error, inside, count = 0.0, 0.0, 0.0, 0
    for x, y in loader:
        output = model(x)
        loss += pinball(output, y).item() * len(y)
        error += (output[..., 1] - y).abs().mean(1).sum().item() * std
        inside += ((y >= output[..., 0]) & (y <= output[..., 2])).float().mean(1).sum().item()
        count += len(y)
    return loss / count, error / count, inside / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--past", type=int, default=36)
    parser.add_argument("--horizon", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args()
    torch.manual_seed(0)

    series = load_curve(24 * 7 * 16, seed=0)
    end_train, end_val = 24 * 7 * 12, 24 * 7 * 14
    mean, std = float(series[:end_train].mean()), float(series[:end_train].std())
    make = lambda first, last: Windows(series, first, last, mean, std, args.past, args.horizon)
    train, val, test = make(0, end_train), make(end_train, end_val), make(end_val, len(series))
    train_loader = DataLoader(train, args.batch_size, shuffle=True, drop_last=True)
    val_loader, test_loader = DataLoader(val, 256), DataLoader(test, 256)
    naive = float(np.abs(series[end_val + 24:] - series[end_val:-24]).mean())
    print(f"{len(train)} windows; the same hour yesterday is wrong by {naive:.2f}")

    model = TCN(args.horizon)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=args.epochs, eta_min=args.lr / 30)
    best, kept = math.inf, None
    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for i, (x, y) in enumerate(train_loader):
            loss = pinball(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step(epoch + (i + 1) / len(train_loader) * 0.999)
            total += loss.detach()
        val_loss, mae, coverage = evaluate(model, val_loader, std)
        print(f"epoch {epoch} train {total / len(train_loader):.4f} val {val_loss:.4f} MAE {mae:.2f} within 80 % band {coverage:.3f}")
        if val_loss < best:
            best, kept = val_loss, {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(kept)
    loss, mae, coverage = evaluate(model, test_loader, std)
    print(f"test: pinball {loss:.4f} MAE {mae:.2f} coverage {coverage:.3f}")


if __name__ == "__main__":
    main()
