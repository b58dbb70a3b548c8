"""Sound classification with an M5-like network on raw waves, after the torchaudio tutorial."""
import argparse
import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

LABELS = ["low", "high", "square", "chirp"]


class M5(nn.Module):
    def __init__(self, n_input=1, n_output=4, n_channel=24):
        super().__init__()
        self.conv1 = nn.Conv1d(n_input, n_channel, kernel_size=9, padding=4)
        self.bn1 = nn.BatchNorm1d(n_channel)
        self.conv2 = nn.Conv1d(n_channel, n_channel, kernel_size=5, padding=2)
        self.bn2 = nn.BatchNorm1d(n_channel)
        self.conv3 = nn.Conv1d(n_channel, 2 * n_channel, kernel_size=5, padding=2)
        self.bn3 = nn.BatchNorm1d(2 * n_channel)
        self.fc1 = nn.Linear(2 * n_channel, n_output)

    def forward(self, x):
        x = F.max_pool1d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool1d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.relu(self.bn3(self.conv3(x)))
        return self.fc1(x.mean(dim=-1))


class Meter:
    def __init__(self):
        self.total, self.count = 0.0, 0

    def update(self, value, n):
        self.total += value * n
        self.count += n

    @property
    def average(self):
        return self.total / max(1, self.count)


class Collate:
    """Stacks signals; in training each is played a little louder or softer and with more hiss."""

    def __init__(self, training):
        self.training = training

    def __call__(self, batch):
        signals = torch.stack([signal for signal, _ in batch])
        labels = torch.stack([label for _, label in batch])
        if self.training:
            gain = 0.8 + 0.4 * torch.rand(len(batch), 1, 1)
            signals = signals * gain + 0.05 * torch.randn_like(signals)
        return signals, labels


class Trainer:
    def __init__(self, args, model, train_loader, val_loader):
        self.args, self.model = args, model
        self.train_loader, self.val_loader = train_loader, val_loader
        total = args.epochs * len(train_loader)

        def factor(step):
            if step < args.warmup:
                return (step + 1) / args.warmup
            progress = (step - args.warmup) / max(1, total - args.warmup)
            return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

        self.optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: factor(step))
        self.criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

    def train_epoch(self):
        self.model.train()
        meter = Meter()
        for signals, labels in self.train_loader:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(signals), labels)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            meter.update(loss.item(), len(labels))
        return meter.average

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        meter, per_class = Meter(), [Meter() for _ in LABELS]
        for signals, labels in self.val_loader:
            right = (self.model(signals).argmax(dim=-1) == labels).float()
            meter.update(right.mean().item(), len(labels))
            for index, one in enumerate(per_class):
                chosen = right[labels == index]
                if len(chosen):
                    one.update(chosen.mean().item(), len(chosen))
        return meter.average, [one.average for one in per_class]

    def fit(self):
        best, state = 0.0, None
        for epoch in range(1, self.args.epochs + 1):
            loss = self.train_epoch()
            accuracy, per_class = self.validate()
            rate = self.scheduler.get_last_lr()[0]
            details = ", ".join(f"{name} {value:.2f}" for name, value in zip(LABELS, per_class))
            print(f"epoch {epoch}: lr {rate:.2e}, loss {loss:.4f}, accuracy {accuracy:.4f} ({details})")
            if accuracy > best:
                best, state = accuracy, copy.deepcopy(self.model.state_dict())
        self.model.load_state_dict(state)
        return best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--weight-decay", type=float, default=1e-3)
    args = parser.parse_args()
    torch.manual_seed(42)
    train_set = TensorDataset(*waves(count=800, seed=0))
    val_set = TensorDataset(*waves(count=240, seed=1))
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True, collate_fn=Collate(True))
    val_loader = DataLoader(val_set, 80, collate_fn=Collate(False))
    print(f"best accuracy {Trainer(args, M5(), train_loader, val_loader).fit():.4f}")


if __name__ == "__main__":
    main()
