"""Leaf species from scanned leaves. Adapted from the basic MNIST example."""
import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset

SPECIES = ["aspen", "ginkgo", "maple", "oak", "willow"]


def draw_leaf(kind, rng, size=32):
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    cy, cx = size / 2 + rng.uniform(-2.5, 2.5, 2)
    turn = rng.uniform(-0.7, 0.7)
    u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
    v = -(x - cx) * np.sin(turn) + (y - cy) * np.cos(turn)
    radius, theta = np.hypot(u, v), np.arctan2(v, u)
    if kind == 0:
        edge = np.full_like(theta, 0.8)
    elif kind == 1:
        edge = np.where(np.abs(theta) < 1.0, 0.95, 0.25)
    elif kind == 2:
        edge = 0.35 + 0.65 * np.abs(np.cos(2.5 * theta)) ** 1.5
    elif kind == 3:
        edge = 0.75 * (1 + 0.25 * np.cos(7 * theta))
    else:
        edge = 1 / np.sqrt(np.cos(theta) ** 2 + (np.sin(theta) / 0.3) ** 2)
    mask = radius < size * rng.uniform(0.32, 0.44) * edge
    image = np.ones((size, size, 3), np.float32) * rng.uniform(0.75, 0.95)
    green, autumn = np.array([0.25, 0.55, 0.2]), np.array([0.75, 0.4, 0.1])
    blend = rng.uniform(0, 1)
    image[mask] = (1 - blend) * green + blend * autumn
    image[mask & (np.abs(v) < 0.6)] *= 0.7  # the midrib
    image = image + rng.normal(0, 0.06, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8)


class Leaves(Dataset):
    def __init__(self, train, count, transform):
        rng = np.random.default_rng(0 if train else 1)
        self.targets = rng.integers(0, len(SPECIES), count)
        self.data = np.stack([draw_leaf(kind, rng) for kind in self.targets])
        self.transform = transform

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.transform(self.data[index]), int(self.targets[index])


class Compose:
    def __init__(self, steps):
        self.steps = steps

    def __call__(self, image):
        for step in self.steps:
            image = step(image)
        return image


def to_tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def random_flip(image):
    if torch.rand(()) < 0.5:
        image = image.flip(-1)
    if torch.rand(()) < 0.5:
        image = image.flip(-2)
    return image


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def __call__(self, image):
        return (image - self.mean) / self.std


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(64)
        self.dropout = nn.Dropout(0.25)
        self.fc1 = nn.Linear(64 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, len(SPECIES))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.max_pool2d(F.relu(self.bn3(self.conv3(x))), 2)
        x = torch.flatten(x, 1)
        x = self.dropout(F.relu(self.fc1(x)))
        return F.log_softmax(self.fc2(x), dim=1)


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
            print(f"Train Epoch: {epoch} [{batch_idx * len(data)}/{len(train_loader.dataset)}]\tLoss: {loss.item():.6f}")


def test(args, model, device, test_loader):
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
    accuracy = 100.0 * correct / len(test_loader.dataset)
    print(f"Test set: Average loss: {test_loss:.4f}, Accuracy: {accuracy:.1f}%\n")
    return accuracy


def main():
    parser = argparse.ArgumentParser(description="Leaf species")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--test-batch-size", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=13)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--gamma", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log-interval", type=int, default=20)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    device = torch.device("cpu")

    normalize = Normalize([0.68, 0.68, 0.58], [0.22, 0.20, 0.32])
    train_transform = Compose([to_tensor, random_flip, normalize])
    test_transform = Compose([to_tensor, normalize])
    train_loader = DataLoader(Leaves(True, 1500, train_transform), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(Leaves(False, 300, test_transform), batch_size=args.test_batch_size)

    model = Net().to(device)
    optimizer = optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)
    scheduler = StepLR(optimizer, step_size=1, gamma=args.gamma)
    for epoch in range(1, args.epochs + 1):
        train(args, model, device, train_loader, optimizer, epoch)
        test(args, model, device, test_loader)
        scheduler.step()


if __name__ == "__main__":
    main()
