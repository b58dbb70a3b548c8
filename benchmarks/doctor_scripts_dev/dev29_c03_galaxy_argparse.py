from __future__ import print_function

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.optim.lr_scheduler import StepLR


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 1)
        self.conv2 = nn.Conv2d(16, 32, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(32 * 6 * 6, 64)
        self.fc2 = nn.Linear(64, 4)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = self.dropout1(x)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = self.dropout2(x)
        x = self.fc2(x)
        return F.log_softmax(x, dim=1)


class Galaxies(torch.utils.data.Dataset):
    """0 elliptical, 1 edge-on, 2 spiral, 3 ring"""

    def __init__(self, count, seed):
        rng = np.random.RandomState(seed)
        self.targets = rng.randint(0, 4, count)
        self.images = np.stack([self.draw(kind, rng) for kind in self.targets]).astype(np.float32)

    @staticmethod
    def draw(kind, rng, size=32):
        yy, xx = np.mgrid[0:size, 0:size] - (size - 1) / 2
        yy, xx = yy - rng.uniform(-2, 2), xx - rng.uniform(-2, 2)
        turn = rng.uniform(0, 2 * np.pi)
        u, v = np.cos(turn) * xx + np.sin(turn) * yy, np.cos(turn) * yy - np.sin(turn) * xx
        r = np.hypot(u, v)
        if kind == 0:
            image = np.exp(-np.hypot(u, v / rng.uniform(0.6, 1.0)) / rng.uniform(3, 5))
        elif kind == 1:
            image = np.exp(-np.hypot(u, v / rng.uniform(0.15, 0.25)) / rng.uniform(5, 8))
        elif kind == 2:
            arms = 0.5 + 0.5 * np.cos(2 * (np.arctan2(v, u) - 2.2 * np.log(r + 1)))
            image = 0.5 * np.exp(-r / 2) + 0.8 * arms**2 * np.exp(-r / 9) * (r < 14)
        else:
            image = 0.5 * np.exp(-r / 2) + 0.7 * np.exp(-(((r - rng.uniform(7, 11)) / 1.5) ** 2))
        return image * rng.uniform(0.7, 1.1) + rng.normal(0, 0.05, image.shape)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return (torch.from_numpy(self.images[index])[None] - 0.15) / 0.2, int(self.targets[index])


def train(args, model, device, train_loader, optimizer, epoch):
    model.train()
    for batch_idx, (data, target) in enumerate(train_loader):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        optimizer.step()
        if batch_idx % args.log_interval == 0:
            print("Train Epoch: {} [{}/{} ({:.0f}%)]\tLoss: {:.6f}".format(
                epoch, batch_idx * len(data), len(train_loader.dataset),
                100.0 * batch_idx / len(train_loader), loss.item()))


def test(model, device, test_loader):
    model.eval()
    test_loss = 0
    correct = 0
    with torch.no_grad():
        for data, target in test_loader:
            data, target = data.to(device), target.to(device)
            output = model(data)
            test_loss += F.nll_loss(output, target, reduction="sum").item()
            pred = output.argmax(dim=1, keepdim=True)
            correct += pred.eq(target.view_as(pred)).sum().item()
    test_loss /= len(test_loader.dataset)
    print("\nTest set: Average loss: {:.4f}, Accuracy: {}/{} ({:.1f}%)\n".format(
        test_loss, correct, len(test_loader.dataset), 100.0 * correct / len(test_loader.dataset)))


def main():
    parser = argparse.ArgumentParser(description="Galaxy morphology example")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--test-batch-size", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--gamma", type=float, default=0.85)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log-interval", type=int, default=20)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = torch.device("cpu")
    train_loader = torch.utils.data.DataLoader(Galaxies(1600, seed=0), batch_size=args.batch_size, shuffle=True)
    test_loader = torch.utils.data.DataLoader(Galaxies(400, seed=1), batch_size=args.test_batch_size)

    model = Net().to(device)
    optimizer = optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    scheduler = StepLR(optimizer, step_size=1, gamma=args.gamma)
    for epoch in range(1, args.epochs + 1):
        train(args, model, device, train_loader, optimizer, epoch)
        test(model, device, test_loader)
        scheduler.step()


if __name__ == "__main__":
    main()
