from __future__ import print_function

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.optim.lr_scheduler import OneCycleLR

from toydata import Digits


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.dropout = nn.Dropout(0.2)
        self.fc1 = nn.Linear(32 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(self.dropout(x)))
        return F.log_softmax(self.fc2(x), dim=1)


def as_tensors(dataset, mean=None, std=None):
    """The whole set at once; it is small enough to live in memory."""
    x = dataset.data.float().div(255)
    if mean is None:
        mean, std = x.mean(), x.std()
    return (x - mean) / std, dataset.targets.clone(), mean, std


def batches(x, y, size, generator):
    """An epoch in a new order; the tail that does not fill a batch waits for the next epoch's order."""
    order = torch.randperm(len(x), generator=generator)
    for chunk in order[: len(order) // size * size].view(-1, size):
        yield x[chunk], y[chunk]


def mixup(x, y, alpha):
    lam = float(torch.distributions.Beta(alpha, alpha).sample())
    partner = torch.randperm(len(x))
    return lam * x + (1 - lam) * x[partner], y, y[partner], lam


def mixed_loss(output, y_a, y_b, lam):
    return lam * F.nll_loss(output, y_a) + (1 - lam) * F.nll_loss(output, y_b)


def train(args, model, x, y, optimizer, scheduler, epoch, generator):
    model.train()
    total, steps = torch.zeros(()), 0
    for data, target in batches(x, y, args.batch_size, generator):
        optimizer.zero_grad()
        data, y_a, y_b, lam = mixup(data, target, args.alpha)
        output = model(data)
        loss = mixed_loss(output, y_a, y_b, lam)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.detach()
        steps += 1
    print("Train Epoch: {} \tLoss: {:.4f} \tlr: {:.5f}".format(
        epoch, total.item() / steps, optimizer.param_groups[0]["lr"]))


def test(model, x, y):
    model.eval()
    with torch.no_grad():
        output = model(x)
        test_loss = F.nll_loss(output, y, reduction="sum").item() / len(x)
        correct = output.argmax(dim=1).eq(y).sum().item()
    print("Test set: Average loss: {:.4f}, Accuracy: {}/{} ({:.1f}%)\n".format(
        test_loss, correct, len(x), 100. * correct / len(x)))
    return correct / len(x)


def main():
    parser = argparse.ArgumentParser(description="Digits with mixup")
    parser.add_argument("--batch-size", type=int, default=50, metavar="N")
    parser.add_argument("--epochs", type=int, default=10, metavar="N")
    parser.add_argument("--lr", type=float, default=0.08, metavar="LR")
    parser.add_argument("--alpha", type=float, default=0.3, metavar="A")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)

    x, y, mean, std = as_tensors(Digits(train=True))
    x_test, y_test, _, _ = as_tensors(Digits(train=False), mean, std)

    model = Net()
    optimizer = optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = args.epochs * (len(x) // args.batch_size)
    scheduler = OneCycleLR(optimizer, max_lr=args.lr, total_steps=steps, pct_start=0.2)

    for epoch in range(1, args.epochs + 1):
        train(args, model, x, y, optimizer, scheduler, epoch, generator)
        test(model, x_test, y_test)


if __name__ == "__main__":
    main()
