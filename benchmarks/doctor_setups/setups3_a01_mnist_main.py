"""Digits with a small LeNet, after pytorch/examples/mnist/main.py."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, Subset

from toydata import Digits


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, 1)
        self.bn2 = nn.BatchNorm2d(32)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(32 * 6 * 6, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.max_pool2d(x, 2)
        x = self.dropout1(x)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = self.dropout2(x)
        x = self.fc2(x)
        return F.log_softmax(x, dim=1)


def transform(image):
    """ToTensor and Normalize((0.14,), (0.29,))"""
    return (image.float() / 255 - 0.14) / 0.29


def by_class(dataset):
    """The order of ImageFolder: all zeros, all ones, ..."""
    return Subset(dataset, torch.argsort(dataset.targets, stable=True).tolist())


def train_step(model, batch, optimizer, criterion):
    model.train()
    data, target = batch
    optimizer.zero_grad()
    output = model(data)
    loss = criterion(output, target)
    loss.backward()
    optimizer.step()
    return loss


def get_args():
    parser = argparse.ArgumentParser(description="PyTorch Digits Example")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--test-batch-size", type=int, default=100)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args([])


def setup():
    args = get_args()
    torch.manual_seed(args.seed)
    train_kwargs = {"batch_size": args.batch_size, "shuffle": True}
    test_kwargs = {"batch_size": args.test_batch_size}
    if torch.cuda.is_available():
        train_kwargs.update({"pin_memory": True})
        test_kwargs.update({"pin_memory": True})

    dataset1 = by_class(Digits(train=True, transform=transform))
    dataset2 = by_class(Digits(train=False, transform=transform))
    train_loader = DataLoader(dataset1, **train_kwargs)
    test_loader = DataLoader(dataset2, **test_kwargs)

    model = Net()
    optimizer = optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum)
    return {
        "model": model,
        "train": train_loader,
        "val": test_loader,
        "loss": F.nll_loss,
        "optimizer": optimizer,
        "step": train_step,
        "task": "classify",
    }
