"""Forecast of a series: encoder and decoder GRU; the decoder gets true values less and less often (scheduled sampling)."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


@dataclass
class Settings:
    past: int = 36
    future: int = 12
    hidden: int = 48
    batch: int = 32
    epochs: int = 16
    lr: float = 4e-3
    clip: float = 1.0


class Series(Dataset):
    """Two seasons with trend and noise; each row is another series, scaled by the mean and deviation of its past."""

    def __init__(self, settings, count, seed):
        rng = torch.Generator().manual_seed(seed)
        time = torch.arange(settings.past + settings.future).float()
        phase = 2 * math.pi * torch.rand(count, 2, 1, generator=rng)
        size = 0.5 + torch.rand(count, 2, 1, generator=rng)
        seasons = size * torch.sin(2 * math.pi * time / torch.tensor([[12.0], [7.0]]) + phase)
        trend = 0.02 * torch.randn(count, 1, generator=rng) * time
        values = seasons.sum(1) + trend + 0.05 * torch.randn(count, len(time), generator=rng)
        past = values[:, : settings.past]
        values = (values - past.mean(1, keepdim=True)) / past.std(1, keepdim=True)
        self.past, self.future = values[:, : settings.past], values[:, settings.past :]

    def __len__(self):
        return len(self.past)

    def __getitem__(self, index):
        return self.past[index], self.future[index]


class Seq2Seq(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.encoder = nn.GRU(1, hidden, batch_first=True)
        self.decoder = nn.GRUCell(1, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, past, steps, future=None, forcing=0.0):
        _, state = self.encoder(past.unsqueeze(-1))
        state, value = state[0], past[:, -1:]
        outputs = []
        for t in range(steps):
            state = self.decoder(value, state)
            prediction = value + self.out(state)
            outputs.append(prediction)
            value = prediction
            if future is not None and forcing > 0:
                told = torch.rand(len(past), 1) < forcing
                value = torch.where(told, future[:, t : t + 1], prediction)
        return torch.cat(outputs, dim=1)


def train_epoch(model, loader, optimizer, settings, forcing):
    model.train()
    total = 0.0
    for past, future in loader:
        prediction = model(past, settings.future, future, forcing)
        loss = nn.functional.mse_loss(prediction, future)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        total += loss.item() * len(past)
    return total / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader, settings):
    model.eval()
    error = naive = season = count = 0
    for past, future in loader:
        prediction = model(past, settings.future)
        error += (prediction - future).abs().sum().item()
        naive += (past[:, -1:] - future).abs().sum().item()
        season += (past[:, -settings.future :] - future).abs().sum().item()
        count += future.numel()
    return error / count, naive / count, season / count


def main(settings=Settings()):
    torch.manual_seed(0)
    train_loader = DataLoader(Series(settings, 1500, seed=0), settings.batch, shuffle=True)
    val_loader = DataLoader(Series(settings, 300, seed=1), 100)
    model = Seq2Seq(settings.hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs, eta_min=2e-4)
    for epoch in range(settings.epochs):
        forcing = max(0.0, 0.8 - 0.1 * epoch)
        loss = train_epoch(model, train_loader, optimizer, settings, forcing)
        scheduler.step()
        mae, naive, season = evaluate(model, val_loader, settings)
        print(
            f"epoch {epoch:2d}  forcing {forcing:.1f}  train mse {loss:.4f}  val mae {mae:.3f}"
            f"  (last value {naive:.3f}, last season {season:.3f})"
        )


if __name__ == "__main__":
    main()
