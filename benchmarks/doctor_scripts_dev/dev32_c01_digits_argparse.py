"""Digit classifier: python c01_digits_argparse.py --epochs 18"""

import argparse
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

MEAN, STD = 0.22, 0.35


def to_tensor(image):
    return (image.float() / 255 - MEAN) / STD


def random_shift(image):
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    top, left = torch.randint(0, 3, (2,)).tolist()
    return padded[:, top : top + 16, left : left + 16]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.drop = nn.Dropout(0.25)
        self.fc1 = nn.Linear(32 * 4 * 4, 96)
        self.fc2 = nn.Linear(96, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = self.drop(torch.flatten(x, 1))
        return self.fc2(F.relu(self.fc1(x)))


def train(args, model, loader, optimizer, scheduler):
    model.train()
    total = 0.0
    for data, target in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data), target, label_smoothing=args.smoothing)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(data)
    return total / len(loader.dataset)


@torch.no_grad()
def test(model, loader):
    model.eval()
    correct, loss = 0, 0.0
    for data, target in loader:
        output = model(data)
        loss += F.cross_entropy(output, target, reduction="sum").item()
        correct += (output.argmax(dim=1) == target).sum().item()
    return loss / len(loader.dataset), correct / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--smoothing", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    train_set = Digits(train=True, count=2400, transform=lambda image: random_shift(to_tensor(image)))
    test_set = Digits(train=False, count=500, transform=to_tensor)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    test_loader = DataLoader(test_set, batch_size=250)

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, epochs=args.epochs, steps_per_epoch=len(train_loader)
    )
    best, path = 0.0, os.path.join(tempfile.mkdtemp(), "best.pt")
    for epoch in range(1, args.epochs + 1):
        train_loss = train(args, model, train_loader, optimizer, scheduler)
        test_loss, accuracy = test(model, test_loader)
        print(f"epoch {epoch:2d}  train {train_loss:.4f}  test {test_loss:.4f}  accuracy {accuracy:.3f}")
        if accuracy >= best:
            best = accuracy
            torch.save(model.state_dict(), path)
    model.load_state_dict(torch.load(path))
    print(f"best checkpoint: accuracy {test(model, test_loader)[1]:.3f}")


if __name__ == "__main__":
    main()
