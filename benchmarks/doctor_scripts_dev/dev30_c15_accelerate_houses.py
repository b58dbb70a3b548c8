"""Accelerate: prices of houses, gradients gathered over two batches, clipped, and a cosine schedule with warm-up."""

import math

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses

EPOCHS = 20
BATCH = 32
ACCUMULATE = 2


class ResMLP(nn.Module):
    def __init__(self, inputs=8, width=96, blocks=2):
        super().__init__()
        self.stem = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(blocks)
        )
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.out(x).squeeze(-1)


def make_loaders():
    train_x, train_y = houses(2400, seed=0)
    val_x, val_y = houses(500, seed=1)
    mean, std = train_x.mean(0), train_x.std(0)
    y_mean, y_std = train_y.mean(), train_y.std()
    train = TensorDataset((train_x - mean) / std, (train_y - y_mean) / y_std)
    val = TensorDataset((val_x - mean) / std, val_y)
    return DataLoader(train, BATCH, shuffle=True), DataLoader(val, 128), y_mean, y_std


def warmup_cosine(optimizer, warmup, total):
    def factor(step):
        if step < warmup:
            return (step + 1) / warmup
        return max(0.01, 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def main():
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATE)
    set_seed(0)
    train_loader, val_loader, y_mean, y_std = make_loaders()
    model = ResMLP()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    updates = EPOCHS * math.ceil(len(train_loader) / ACCUMULATE)
    scheduler = warmup_cosine(optimizer, warmup=60, total=updates)
    model, optimizer, train_loader, val_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, scheduler
    )
    criterion = nn.MSELoss()

    for epoch in range(EPOCHS):
        model.train()
        total = 0.0
        for x, y in train_loader:
            with accelerator.accumulate(model):
                loss = criterion(model(x), y)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            total += loss.item()

        model.eval()
        predictions, prices = [], []
        for x, y in val_loader:
            with torch.no_grad():
                prediction = model(x) * y_std + y_mean
            prediction, y = accelerator.gather_for_metrics((prediction, y))
            predictions.append(prediction)
            prices.append(y)
        predictions, prices = torch.cat(predictions), torch.cat(prices)
        mae = (predictions - prices).abs().mean().item()
        r2 = 1 - ((predictions - prices) ** 2).mean() / prices.var(unbiased=False)
        accelerator.print(
            f"epoch {epoch + 1:2d}  loss {total / len(train_loader):.4f}  mae {mae:.2f} thousand  r2 {r2.item():.4f}"
        )


if __name__ == "__main__":
    main()
