"""Digits in the manner of pytorch/examples/mnist, on a balanced subset of the training digits."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, Subset

from toydata import Digits


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image):
        for transform in self.transforms:
            image = transform(image)
        return image


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, image):
        return (image - self.mean) / self.std


def to_float(image):
    return image.float().div(255)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 1)
        self.conv2 = nn.Conv2d(16, 32, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.25)
        self.fc1 = nn.Linear(32 * 6 * 6, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = F.max_pool2d(x, 2)
        x = self.dropout1(x)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = self.dropout2(x)
        x = self.fc2(x)
        output = F.log_softmax(x, dim=1)
        return output


def balanced_subset(dataset, per_class):
    """The first `per_class` digits of each class."""
    picks = [torch.where(dataset.targets == digit)[0][:per_class] for digit in range(10)]
    return Subset(dataset, torch.cat(picks).tolist())


def train(model, batch, optimizer, criterion):
    model.train()
    data, target = batch
    optimizer.zero_grad()
    output = model(data)
    loss = criterion(output, target)
    loss.backward()
    optimizer.step()
    return loss


def setup():
    parser = argparse.ArgumentParser(description="PyTorch MNIST Example")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--test-batch-size", type=int, default=200)
    parser.add_argument("--lr", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args([])
    torch.manual_seed(args.seed)

    train_transform = Compose([to_float, Normalize(0.2, 0.3)])
    test_transform = Compose([to_float, Normalize(0.2, 0.3)])
    train_set = balanced_subset(Digits(train=True, transform=train_transform), per_class=100)
    test_set = Digits(train=False, transform=test_transform)
    train_kwargs = {"batch_size": args.batch_size, "shuffle": True, "drop_last": True}
    test_kwargs = {"batch_size": args.test_batch_size}
    train_loader = DataLoader(train_set, **train_kwargs)
    test_loader = DataLoader(test_set, **test_kwargs)

    model = Net()
    optimizer = optim.Adadelta(model.parameters(), lr=args.lr)
    return {
        "model": model,
        "train": train_loader,
        "val": test_loader,
        "loss": F.nll_loss,
        "optimizer": optimizer,
        "step": train,
    }
