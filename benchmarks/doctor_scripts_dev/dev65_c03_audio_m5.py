"""Raw waveforms with a small M5, after the torchaudio speech-command tutorial."""

import argparse
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, Dataset

from toydata import waves

LABELS = ["low", "high", "square", "chirp"]


class SubsetCommands(Dataset):
    def __init__(self, subset):
        count, seed = {"training": (900, 0), "testing": (300, 1)}[subset]
        self.waveforms, indices = waves(count, seed=seed)
        self.labels = [LABELS[i] for i in indices.tolist()]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, n):
        return self.waveforms[n], 64, self.labels[n]


def label_to_index(word):
    return torch.tensor(LABELS.index(word))


def collate_fn(batch):
    tensors, targets = [], []
    for waveform, _, label in batch:
        tensors.append(waveform)
        targets.append(label_to_index(label))
    return torch.stack(tensors), torch.stack(targets)


class M5(nn.Module):
    def __init__(self, n_input=1, n_output=4, n_channel=16):
        super().__init__()
        self.conv1 = nn.Conv1d(n_input, n_channel, kernel_size=9, padding=4)
        self.bn1 = nn.BatchNorm1d(n_channel)
        self.pool1 = nn.MaxPool1d(2)
        self.conv2 = nn.Conv1d(n_channel, 2 * n_channel, kernel_size=5, padding=2)
        self.bn2 = nn.BatchNorm1d(2 * n_channel)
        self.pool2 = nn.MaxPool1d(2)
        self.conv3 = nn.Conv1d(2 * n_channel, 2 * n_channel, kernel_size=5, padding=2)
        self.bn3 = nn.BatchNorm1d(2 * n_channel)
        self.fc1 = nn.Linear(2 * n_channel, n_output)

    def forward(self, x):
        x = self.pool1(F.relu(self.bn1(self.conv1(x))))
        x = self.pool2(F.relu(self.bn2(self.conv2(x))))
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.avg_pool1d(x, x.shape[-1]).squeeze(-1)
        return F.log_softmax(self.fc1(x), dim=-1)


def number_of_correct(pred, target):
    return pred.eq(target).sum().item()


def train(model, train_loader, optimizer, epoch, device, log_interval):
    model.train()
    for batch_idx, (data, target) in enumerate(train_loader):
        data, target = data.to(device), target.to(device)
        output = model(data)
        loss = F.nll_loss(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if batch_idx % log_interval == 0:
            print(f"Train Epoch: {epoch} [{batch_idx}/{len(train_loader)}]\tObjective: {loss.item():.4f}")


@torch.no_grad()
def test(model, test_loader, epoch, device):
    model.eval()
    correct = 0
    for data, target in test_loader:
        output = model(data.to(device))
        correct += number_of_correct(output.argmax(dim=-1), target.to(device))
    accuracy = correct / len(test_loader.dataset)
    print(f"Test Epoch: {epoch}\tAccuracy: {correct}/{len(test_loader.dataset)} ({100 * accuracy:.1f}%)")
    return accuracy


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=36)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--log-interval", type=int, default=10)
    args = parser.parse_args()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    train_loader = DataLoader(
        SubsetCommands("training"), batch_size=args.batch_size, shuffle=True, collate_fn=collate_fn
    )
    test_loader = DataLoader(
        SubsetCommands("testing"), batch_size=args.batch_size, shuffle=False, drop_last=False, collate_fn=collate_fn
    )
    model = M5(n_output=len(LABELS)).to(device)
    print(f"Number of parameters: {sum(p.numel() for p in model.parameters())}")
    optimizer = optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.3)

    start = time.time()
    for epoch in range(1, args.epochs + 1):
        train(model, train_loader, optimizer, epoch, device, args.log_interval)
        test(model, test_loader, epoch, device)
        scheduler.step()
    print(f"done in {time.time() - start:.1f} s")


if __name__ == "__main__":
    main()
