"""Keyword-like recognition of raw waveforms with an M5 network, after the torchaudio tutorial."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

LABELS = ["slow", "fast", "square", "chirp"]


def parse_args():
    parser = argparse.ArgumentParser(description="M5 on raw waveforms")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.01, help="peak of the one-cycle schedule")
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--channels", type=int, default=24)
    parser.add_argument("--log-interval", type=int, default=10)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


class M5(nn.Module):
    def __init__(self, n_input=1, n_output=4, n_channel=24):
        super().__init__()
        self.conv1 = nn.Conv1d(n_input, n_channel, kernel_size=9, stride=2, padding=4)
        self.bn1 = nn.BatchNorm1d(n_channel)
        self.conv2 = nn.Conv1d(n_channel, n_channel, kernel_size=5, padding=2)
        self.bn2 = nn.BatchNorm1d(n_channel)
        self.pool2 = nn.MaxPool1d(2)
        self.conv3 = nn.Conv1d(n_channel, 2 * n_channel, kernel_size=5, padding=2)
        self.bn3 = nn.BatchNorm1d(2 * n_channel)
        self.fc1 = nn.Linear(2 * n_channel, n_output)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.pool2(x)
        x = F.relu(self.bn3(self.conv3(x)))
        x = x.mean(dim=-1)
        x = self.fc1(x)
        return x


def make_loaders(args):
    train_wave, train_label = waves(count=800, seed=0)
    test_wave, test_label = waves(count=240, seed=1)
    mean, std = train_wave.mean(), train_wave.std()
    train_set = TensorDataset((train_wave - mean) / std, train_label)
    test_set = TensorDataset((test_wave - mean) / std, test_label)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    test_loader = DataLoader(test_set, batch_size=80, shuffle=False)
    return train_loader, test_loader


def random_gain(data):
    """A louder or softer recording, and either polarity of the microphone."""
    gain = torch.empty(data.shape[0], 1, 1).uniform_(0.8, 1.25)
    sign = torch.where(torch.rand(data.shape[0], 1, 1) < 0.5, -1.0, 1.0)
    return data * gain * sign


def train(model, loader, criterion, optimizer, scheduler, epoch, args, device):
    model.train()
    losses = []
    for batch_idx, (data, target) in enumerate(loader):
        data, target = data.to(device), target.to(device)
        output = model(random_gain(data))
        loss = criterion(output, target)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()

        losses.append(loss.detach())
        if batch_idx % args.log_interval == 0:
            print(f"Train Epoch: {epoch} [{batch_idx}/{len(loader)}]\tLoss: {loss.item():.4f}")
    return torch.stack(losses).mean().item()


def number_of_correct(pred, target):
    return pred.squeeze(-1).eq(target).sum().item()


@torch.no_grad()
def test(model, loader, device):
    model.eval()
    correct = 0
    for data, target in loader:
        data, target = data.to(device), target.to(device)
        pred = model(data).argmax(dim=-1)
        correct += number_of_correct(pred, target)
    return correct / len(loader.dataset)


def main():
    args = parse_args()
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_loader, test_loader = make_loaders(args)

    model = M5(n_output=len(LABELS), n_channel=args.channels).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, steps_per_epoch=len(train_loader), epochs=args.epochs
    )
    print(f"{sum(p.numel() for p in model.parameters())} parameters")

    for epoch in range(1, args.epochs + 1):
        loss = train(model, train_loader, criterion, optimizer, scheduler, epoch, args, device)
        accuracy = test(model, test_loader, device)
        print(f"Epoch {epoch}: train loss {loss:.4f}, test accuracy {100 * accuracy:.1f}%")


if __name__ == "__main__":
    main()
