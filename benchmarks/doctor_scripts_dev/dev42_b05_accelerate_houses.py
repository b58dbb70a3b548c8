#!/usr/bin/env python
"""House prices from a table of listings, with Accelerate (one process or many)."""

import argparse
import os
import tempfile

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset
from transformers import get_cosine_schedule_with_warmup

from toydata import houses


def load_listings(count):
    raw, price = houses(count, seed=3)
    raw = raw.numpy().astype(np.float64)
    return pd.DataFrame(
        {
            "listing_id": np.arange(count),
            "living_area": 150 + 35 * raw[:, 0],
            "distance_km": 18 + 4 * raw[:, 1],
            "garden_m2": 600 + 150 * raw[:, 2],
            "sun_hours": 5 + raw[:, 3],
            "heading": 180 + 40 * raw[:, 4],
            "year_built": 1970 + 15 * raw[:, 5],
            "ceiling_cm": 250 + 12 * raw[:, 6],
            "noise_db": 50 + 6 * raw[:, 7],
            "price": 1000 * price.numpy().astype(np.float64),
        }
    )


def build_datasets(args):
    table = load_listings(args.num_listings)
    features = [name for name in table.columns if name not in ("listing_id", "price")]
    train_df, val_df = train_test_split(table, test_size=0.2, random_state=args.seed)

    scaler = StandardScaler().fit(train_df[features])
    price_mean, price_std = train_df["price"].mean(), train_df["price"].std()

    def to_dataset(frame):
        x = torch.tensor(scaler.transform(frame[features]), dtype=torch.float32)
        y = torch.tensor((frame["price"].to_numpy() - price_mean) / price_std, dtype=torch.float32)
        return TensorDataset(x, y)

    return to_dataset(train_df), to_dataset(val_df), len(features), price_std


class PriceNet(nn.Module):
    def __init__(self, num_features, hidden=64):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(num_features, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.net(x)


@torch.no_grad()
def evaluate(accelerator, model, loader):
    """R2, and the mean absolute error in the units of the target."""
    model.eval()
    preds, targets = [], []
    for x, y in loader:
        pred, target = accelerator.gather_for_metrics((model(x).squeeze(-1), y))
        preds.append(pred)
        targets.append(target)
    preds, targets = torch.cat(preds), torch.cat(targets)
    r2 = 1 - (preds - targets).square().sum() / (targets - targets.mean()).square().sum()
    return r2.item(), (preds - targets).abs().mean().item()


def training_function(args):
    accelerator = Accelerator(cpu=True)
    set_seed(args.seed)

    train_set, val_set, num_features, price_std = build_datasets(args)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=256)

    model = PriceNet(num_features)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    num_steps = args.epochs * len(train_loader)
    scheduler = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=50, num_training_steps=num_steps)
    model, optimizer, train_loader, val_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, scheduler
    )

    best_r2 = -float("inf")
    with tempfile.TemporaryDirectory() as output_dir:
        checkpoint = os.path.join(output_dir, "best.pt")
        for epoch in range(args.epochs):
            model.train()
            total_loss = 0.0
            for x, y in train_loader:
                pred = model(x).squeeze(-1)
                loss = F.mse_loss(pred, y)
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
                total_loss += loss.detach().item()

            r2, mae = evaluate(accelerator, model, val_loader)
            if r2 > best_r2:
                best_r2 = r2
                accelerator.save(accelerator.unwrap_model(model).state_dict(), checkpoint)
            if (epoch + 1) % 5 == 0:
                accelerator.print(
                    f"epoch {epoch + 1}: train loss {total_loss / len(train_loader):.4f}, "
                    f"R2 {r2:.4f}, mean absolute error ${mae * price_std:,.0f}"
                )

        accelerator.unwrap_model(model).load_state_dict(torch.load(checkpoint))
        r2, _ = evaluate(accelerator, model, val_loader)
        accelerator.print(f"best R2 on validation: {r2:.4f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num_listings", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=42)
    training_function(parser.parse_args())


if __name__ == "__main__":
    main()
