"""House prices from a table, with Hugging Face Accelerate: gradient accumulation, warmup, early choice of the best."""

import argparse
import copy
import math

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses

COLUMNS = ["area", "distance", "light", "rooms", "season", "noise", "age", "garden"]


def load_frame():
    features, price = houses(count=1600, seed=0)
    frame = pd.DataFrame(features.numpy(), columns=COLUMNS)
    frame["area"] = 90 + 25 * frame["area"]  # square meters
    frame["distance"] = 8 + 3 * frame["distance"]  # kilometers
    frame["age"] = 40 + 15 * frame["age"]
    frame["price"] = price.numpy()  # thousands
    return frame


def get_datasets(seed):
    """Every scale is that of the training rows alone."""
    rest, test = train_test_split(load_frame(), test_size=200, random_state=seed)
    train, val = train_test_split(rest, test_size=200, random_state=seed)
    x_scaler = StandardScaler().fit(train[COLUMNS])
    y_scaler = StandardScaler().fit(train[["price"]])

    def to_dataset(frame):
        x = torch.tensor(x_scaler.transform(frame[COLUMNS]), dtype=torch.float32)
        y = torch.tensor(y_scaler.transform(frame[["price"]]), dtype=torch.float32)
        return TensorDataset(x, y.squeeze(1))

    scale = float(y_scaler.scale_[0])
    return to_dataset(train), to_dataset(val), to_dataset(test), scale


class Regressor(nn.Module):
    def __init__(self, n_features, hidden):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.layers(x).squeeze(-1)


def warmup_cosine(warmup, total):
    def factor(update):
        if update < warmup:
            return (update + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (update - warmup) / (total - warmup)))

    return factor


@torch.no_grad()
def evaluate(accelerator, model, loader, scale):
    model.eval()
    predictions, references = [], []
    for x, y in loader:
        prediction, reference = accelerator.gather_for_metrics((model(x), y))
        predictions.append(prediction)
        references.append(reference)
    prediction, reference = torch.cat(predictions), torch.cat(references)
    error = prediction - reference
    r2 = 1 - error.square().sum() / (reference - reference.mean()).square().sum()
    # the mean of the prices cancels in a difference, so the scale is all that leads back to thousands
    return {"mae": error.abs().mean().item() * scale, "r2": r2.item()}


def training_function(args):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.gradient_accumulation_steps)
    set_seed(args.seed)
    train_set, val_set, test_set, scale = get_datasets(args.seed)
    train_loader = DataLoader(train_set, shuffle=True, batch_size=args.batch_size)
    val_loader = DataLoader(val_set, batch_size=100)
    test_loader = DataLoader(test_set, batch_size=100)

    model = Regressor(len(COLUMNS), args.hidden)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    updates = args.num_epochs * math.ceil(len(train_loader) / args.gradient_accumulation_steps)
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(50, updates))
    model, optimizer, train_loader, val_loader, test_loader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, test_loader, lr_scheduler
    )

    best, best_state = float("inf"), None
    for epoch in range(args.num_epochs):
        model.train()
        total = torch.zeros(())
        for x, y in train_loader:
            with accelerator.accumulate(model):
                loss = nn.functional.mse_loss(model(x), y)
                accelerator.backward(loss)  # divides by the number of accumulated batches
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
            total += loss.detach()
        metrics = evaluate(accelerator, model, val_loader, scale)
        if metrics["mae"] < best:
            best = metrics["mae"]
            best_state = copy.deepcopy(accelerator.unwrap_model(model).state_dict())
        if (epoch + 1) % 5 == 0:
            accelerator.print(f"epoch {epoch + 1}: loss {total.item() / len(train_loader):.4f} {metrics}")

    accelerator.unwrap_model(model).load_state_dict(best_state)
    metrics = evaluate(accelerator, model, test_loader, scale)
    accelerator.print(f"test: mean absolute error {metrics['mae']:.2f} thousand, R2 {metrics['r2']:.4f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--num-epochs", type=int, default=35)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--gradient-accumulation-steps", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-3)
    training_function(parser.parse_args())


if __name__ == "__main__":
    main()
