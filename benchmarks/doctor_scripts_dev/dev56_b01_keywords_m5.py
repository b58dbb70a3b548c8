"""Keyword spotting with M5 on raw stereo waveforms, after the torchaudio speech command tutorial."""

import argparse
import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, Dataset

WORDS = ["up", "down", "left", "stop", "go"]


def synthesize(word, length, generator):
    """A 16 bit stereo recording of one 'word', as integers."""
    t = torch.linspace(0, 1, length)
    phase = 2 * math.pi * torch.rand((), generator=generator)
    if word == "up":
        wave = torch.sin(2 * math.pi * (4 + 14 * t) * t + phase)
    elif word == "down":
        wave = torch.sin(2 * math.pi * (32 - 14 * t) * t + phase)
    elif word == "left":
        wave = torch.sin(2 * math.pi * 6 * t + phase)
    elif word == "stop":
        wave = torch.sin(2 * math.pi * 20 * t + phase).sign() * 0.8
    else:
        wave = torch.sin(2 * math.pi * 45 * t + phase)
    balance = 0.5 + 0.5 * torch.rand(2, 1, generator=generator)
    stereo = balance * wave + 0.15 * torch.randn(2, length, generator=generator)
    return (stereo.clamp(-1.5, 1.5) * 20000).to(torch.int16)


class SubsetSC(Dataset):
    def __init__(self, subset, count):
        generator = torch.Generator().manual_seed({"training": 1, "testing": 2}[subset])
        self._walker = []
        for i in range(count):
            word = WORDS[int(torch.randint(0, len(WORDS), (1,), generator=generator))]
            length = int(torch.randint(208, 257, (1,), generator=generator))
            self._walker.append((synthesize(word, length, generator), 8000, word))

    def __len__(self):
        return len(self._walker)

    def __getitem__(self, n):
        return self._walker[n]


class M5(nn.Module):
    def __init__(self, n_input=2, n_output=5, stride=4, n_channel=24):
        super().__init__()
        self.conv1 = nn.Conv1d(n_input, n_channel, kernel_size=32, stride=stride)
        self.bn1 = nn.BatchNorm1d(n_channel)
        self.pool1 = nn.MaxPool1d(2)
        self.conv2 = nn.Conv1d(n_channel, n_channel, kernel_size=3)
        self.bn2 = nn.BatchNorm1d(n_channel)
        self.pool2 = nn.MaxPool1d(2)
        self.conv3 = nn.Conv1d(n_channel, 2 * n_channel, kernel_size=3)
        self.bn3 = nn.BatchNorm1d(2 * n_channel)
        self.pool3 = nn.MaxPool1d(2)
        self.fc1 = nn.Linear(2 * n_channel, n_output)

    def forward(self, x):
        x = self.pool1(F.relu(self.bn1(self.conv1(x))))
        x = self.pool2(F.relu(self.bn2(self.conv2(x))))
        x = self.pool3(F.relu(self.bn3(self.conv3(x))))
        x = F.avg_pool1d(x, x.shape[-1])
        x = x.permute(0, 2, 1)
        x = self.fc1(x)
        return F.log_softmax(x, dim=2)


def label_to_index(word, labels):
    return torch.tensor(labels.index(word))


def pad_sequence(batch):
    """Make all tensors of a batch the same length by padding with zeros."""
    batch = [item.t() for item in batch]
    batch = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=0.0)
    return batch.permute(0, 2, 1)


class Collator:
    def __init__(self, labels, random_gain=False):
        self.labels = labels
        self.random_gain = random_gain

    def __call__(self, batch):
        tensors, targets = [], []
        for waveform, _, label in batch:
            waveform = waveform.float() / 16384.0
            if self.random_gain:
                waveform = waveform * random.uniform(0.8, 1.2)
            tensors.append(waveform)
            targets.append(label_to_index(label, self.labels))
        return pad_sequence(tensors), torch.stack(targets)


def train(model, epoch, loader, optimizer, device, log_interval):
    model.train()
    for batch_idx, (data, target) in enumerate(loader):
        data, target = data.to(device), target.to(device)
        output = model(data)
        loss = F.nll_loss(output.squeeze(1), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if batch_idx % log_interval == 0:
            print(f"Train Epoch: {epoch} [{batch_idx * len(data)}/{len(loader.dataset)}]\tLoss: {loss.item():.6f}")


@torch.no_grad()
def test(model, epoch, loader, device):
    model.eval()
    correct = 0
    for data, target in loader:
        output = model(data.to(device))
        pred = output.argmax(dim=-1).squeeze(1)
        correct += pred.eq(target.to(device)).sum().item()
    accuracy = correct / len(loader.dataset)
    print(f"Test Epoch: {epoch}\tAccuracy: {correct}/{len(loader.dataset)} ({100.0 * accuracy:.0f}%)")
    return accuracy


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--log-interval", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    train_set, test_set = SubsetSC("training", 1000), SubsetSC("testing", 240)
    labels = sorted(set(item[2] for item in train_set))
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, collate_fn=Collator(labels, random_gain=True))
    test_loader = DataLoader(test_set, batch_size=args.batch_size, shuffle=False, collate_fn=Collator(labels))

    model = M5(n_output=len(labels)).to(device)
    optimizer = optim.Adam(model.parameters(), lr=args.lr, weight_decay=0.0001)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.2)
    for epoch in range(1, args.epochs + 1):
        train(model, epoch, train_loader, optimizer, device, args.log_interval)
        test(model, epoch, test_loader, device)
        scheduler.step()


if __name__ == "__main__":
    main()
