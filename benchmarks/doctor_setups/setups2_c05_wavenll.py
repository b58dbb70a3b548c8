"""Kinds of waves, a 1-D convolutional network with log-probabilities and NLLLoss (as in pytorch/examples)."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves


def get_args():
    parser = argparse.ArgumentParser(description="Waves")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--test-batch-size", type=int, default=100)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--channels", type=int, default=24)
    parser.add_argument("--dropout", type=float, default=0.1)
    return parser.parse_args([])


class Net(nn.Module):
    def __init__(self, channels, dropout, num_classes=4):
        super().__init__()
        self.conv1 = nn.Conv1d(1, channels, 7, padding=3)
        self.bn1 = nn.BatchNorm1d(channels)
        self.conv2 = nn.Conv1d(channels, 2 * channels, 5, padding=2)
        self.bn2 = nn.BatchNorm1d(2 * channels)
        self.conv3 = nn.Conv1d(2 * channels, 2 * channels, 3, padding=1)
        self.bn3 = nn.BatchNorm1d(2 * channels)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * channels, num_classes)

    def forward(self, x):
        x = F.max_pool1d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool1d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.relu(self.bn3(self.conv3(x)))
        x = self.dropout(x.mean(dim=2))
        return F.log_softmax(self.fc(x), dim=1)


def make_loaders(args):
    train_set = TensorDataset(*waves(1000, seed=0))
    test_set = TensorDataset(*waves(300, seed=1))
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    test_loader = DataLoader(test_set, batch_size=args.test_batch_size)
    return train_loader, test_loader


def setup():
    torch.manual_seed(1)
    args = get_args()
    train_loader, test_loader = make_loaders(args)
    model = Net(args.channels, args.dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    criterion = nn.NLLLoss()
    return {
        "model": model,
        "train": train_loader,
        "val": test_loader,
        "loss": criterion,
        "optimizer": optimizer,
    }
