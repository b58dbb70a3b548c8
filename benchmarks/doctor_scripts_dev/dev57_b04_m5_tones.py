"""M5-style 1-D convolutional classifier of short recordings, with bf16 autocast and gradient accumulation."""

import argparse
import contextlib
import copy
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

LABELS = ["low", "high", "buzz", "sweep"]


class M5(nn.Module):
    def __init__(self, n_input=1, n_output=4, n_channel=16):
        super().__init__()
        self.conv1 = nn.Conv1d(n_input, n_channel, kernel_size=9, padding=4)
        self.bn1 = nn.BatchNorm1d(n_channel)
        self.pool1 = nn.MaxPool1d(2)
        self.conv2 = nn.Conv1d(n_channel, 2 * n_channel, kernel_size=5, padding=2)
        self.bn2 = nn.BatchNorm1d(2 * n_channel)
        self.pool2 = nn.MaxPool1d(2)
        self.conv3 = nn.Conv1d(2 * n_channel, 2 * n_channel, kernel_size=3, padding=1)
        self.bn3 = nn.BatchNorm1d(2 * n_channel)
        self.fc1 = nn.Linear(2 * n_channel, n_output)

    def forward(self, x):
        x = self.pool1(F.relu(self.bn1(self.conv1(x))))
        x = self.pool2(F.relu(self.bn2(self.conv2(x))))
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.avg_pool1d(x, x.shape[-1]).flatten(1)
        return self.fc1(x)


class Meter:
    def __init__(self):
        self.total, self.count = 0.0, 0

    def update(self, value, n):
        self.total += value * n
        self.count += n

    @property
    def value(self):
        return self.total / max(self.count, 1)


def training_collate(batch):
    """Stack recordings, with a random gain and a random shift in time."""
    signals = torch.stack([signal for signal, _ in batch])
    targets = torch.stack([target for _, target in batch])
    gain = 0.8 + 0.4 * torch.rand(len(signals), 1, 1)
    shift = int(torch.randint(-4, 5, (1,)))
    return torch.roll(signals, shift, dims=-1) * gain, targets


def split(signals, targets, valid_fraction, generator):
    order = torch.randperm(len(signals), generator=generator)
    signals, targets = signals[order], targets[order]
    cut = int(len(signals) * (1 - valid_fraction))
    return TensorDataset(signals[:cut], targets[:cut]), TensorDataset(signals[cut:], targets[cut:])


def autocast(args):
    if args.amp:
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def train_one_epoch(model, loader, optimizer, args):
    model.train()
    losses = Meter()
    for step, (data, target) in enumerate(loader):
        with autocast(args):
            output = model(data)
        loss = F.cross_entropy(output.float(), target)
        (loss / args.accumulate).backward()
        losses.update(loss.item(), len(data))
        if (step + 1) % args.accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
    return losses.value


@torch.inference_mode()
def validate(model, loader, args):
    model.eval()
    losses, accuracy = Meter(), Meter()
    for data, target in loader:
        with autocast(args):
            output = model(data)
        losses.update(F.cross_entropy(output.float(), target).item(), len(data))
        accuracy.update((output.argmax(dim=-1) == target).float().mean().item(), len(data))
    return losses.value, accuracy.value


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--amp", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seed", type=int, default=3)
    return parser.parse_args()


def main():
    args = parse_args()
    torch.manual_seed(args.seed)
    signals, targets = waves(1600, seed=args.seed)
    train_set, valid_set = split(signals, targets, 0.2, torch.Generator().manual_seed(args.seed))
    train_loader = DataLoader(
        train_set, batch_size=args.batch_size, shuffle=True, drop_last=True, collate_fn=training_collate
    )
    valid_loader = DataLoader(valid_set, batch_size=128)

    model = M5(n_output=len(LABELS))
    print(f"{sum(p.numel() for p in model.parameters())} parameters")
    optimizer = torch.optim.SGD(
        model.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay, nesterov=True
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)

    best_loss, best_state = None, None
    for epoch in range(1, args.epochs + 1):
        start = time.time()
        train_loss = train_one_epoch(model, train_loader, optimizer, args)
        valid_loss, valid_accuracy = validate(model, valid_loader, args)
        scheduler.step()
        if best_loss is None or valid_loss < best_loss:
            best_loss, best_state = valid_loss, copy.deepcopy(model.state_dict())
        print(
            f"epoch {epoch}: train loss {train_loss:.3f}, valid loss {valid_loss:.3f}, "
            f"accuracy {valid_accuracy:.3f}, {time.time() - start:.1f} s"
        )
    model.load_state_dict(best_state)
    print("best checkpoint: loss %.3f, accuracy %.3f" % validate(model, valid_loader, args))


if __name__ == "__main__":
    main()
