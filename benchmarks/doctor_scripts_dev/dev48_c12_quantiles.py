"""Probabilistic forecasts of waves with Accelerate: the last 16 of 64 values, three quantiles each."""

import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

CONTEXT = 48
QUANTILES = (0.1, 0.5, 0.9)


def make_loader(count, seed, batch_size, shuffle):
    signals, _ = waves(count=count, seed=seed)  # the kind of wave is not told
    past, future = signals[:, :, :CONTEXT], signals[:, 0, CONTEXT:]
    return DataLoader(TensorDataset(past, future), batch_size=batch_size, shuffle=shuffle)


class Forecaster(nn.Module):
    def __init__(self, horizon, width=96):
        super().__init__()
        self.horizon = horizon
        self.local = nn.Sequential(nn.Conv1d(1, 16, 5, padding=2), nn.GELU(), nn.Conv1d(16, 16, 5, stride=2, padding=2))
        self.mix = nn.Sequential(
            nn.GELU(), nn.Flatten(), nn.Linear(16 * CONTEXT // 2, width), nn.GELU(), nn.Linear(width, width), nn.GELU()
        )
        self.out = nn.Linear(width, horizon * len(QUANTILES))

    def forward(self, past):
        out = self.out(self.mix(self.local(past)))
        return out.view(-1, self.horizon, len(QUANTILES))


class PinballLoss(nn.Module):
    """Koenker & Bassett: its minimum is the quantile."""

    def __init__(self, quantiles):
        super().__init__()
        self.register_buffer("tau", torch.tensor(quantiles))

    def forward(self, predicted, future):
        error = future.unsqueeze(-1) - predicted
        loss = torch.maximum(self.tau * error, (self.tau - 1) * error)
        return loss.sum(dim=-1).mean()


def training_function(args):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.accumulate)
    set_seed(args.seed)

    train_loader = make_loader(1600, 0, args.batch_size, True)
    eval_loader = make_loader(400, 1, 100, False)
    model = Forecaster(64 - CONTEXT)
    criterion = PinballLoss(QUANTILES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.02)
    updates = args.epochs * (len(train_loader) // args.accumulate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=updates)

    model, optimizer, train_loader, eval_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, eval_loader, scheduler
    )

    for epoch in range(args.epochs):
        model.train()
        total = torch.zeros(())
        for past, future in train_loader:
            with accelerator.accumulate(model):
                loss = criterion(model(past), future)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            total += loss.detach()

        model.eval()
        predictions, references = [], []
        for past, future in eval_loader:
            with torch.no_grad():
                predicted = model(past)
            predicted, future = accelerator.gather_for_metrics((predicted, future))
            predictions.append(predicted)
            references.append(future)
        predicted, future = torch.cat(predictions), torch.cat(references)
        low, median, high = predicted.unbind(-1)
        covered = ((future >= low) & (future <= high)).float().mean()
        mae = (median - future).abs().mean()
        naive = (future - future.median()).abs().mean()
        if epoch % 4 == 3 or epoch == args.epochs - 1:
            accelerator.print(
                f"epoch {epoch + 1}: loss {total.item() / len(train_loader):.4f}, pinball {criterion(predicted, future):.4f}, "
                f"MAE {mae:.3f} (constant: {naive:.3f}), covered by 80 % interval: {covered:.3f}"
            )


def main():
    parser = argparse.ArgumentParser(description="Quantile forecasts")
    parser.add_argument("--batch_size", type=int, default=20)
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=42)
    training_function(parser.parse_args())


if __name__ == "__main__":
    main()
