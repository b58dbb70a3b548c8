"""Digit recognition with small batches, gradients of several of them per step, and a schedule counted in steps."""
import argparse
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from toydata import Digits


class Net(nn.Module):
    def __init__(self, width=16, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.norm1 = nn.GroupNorm(4, width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.norm2 = nn.GroupNorm(4, 2 * width)
        self.conv3 = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.norm3 = nn.GroupNorm(4, 2 * width)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(2 * width * 4 * 4, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        x = F.relu(self.norm3(self.conv3(x)))
        return self.fc(self.dropout(torch.flatten(x, 1)))


def warmup_cosine(warmup, total):
    def factor(step):
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, total - warmup)
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def train(args, model, loader, optimizer, scheduler, epoch):
    model.train()
    running = torch.zeros(())
    optimizer.zero_grad()
    for batch_idx, (data, target) in enumerate(loader):
        output = model(data)
        loss = F.cross_entropy(output, target, label_smoothing=args.smoothing)
        (loss / args.accumulate).backward()
        running += loss.detach()
        if (batch_idx + 1) % args.accumulate == 0:
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    print(f"Train Epoch: {epoch}\tLoss: {float(running) / len(loader):.4f}\tlr: {scheduler.get_last_lr()[0]:.5f}")


def test(model, loader):
    model.eval()
    test_loss, correct = 0.0, 0
    with torch.no_grad():
        for data, target in loader:
            output = model(data)
            test_loss += F.cross_entropy(output, target, reduction="sum").item()
            correct += output.argmax(dim=1).eq(target).sum().item()
    test_loss /= len(loader.dataset)
    print(f"Test set: Average loss: {test_loss:.4f}, Accuracy: {correct}/{len(loader.dataset)}\n")
    return correct / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser(description="Digits with gradient accumulation")
    parser.add_argument("--batch-size", type=int, default=25)
    parser.add_argument("--accumulate", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--smoothing", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    pixels = Digits(train=True).data.float() / 255
    mean, std = pixels.mean(), pixels.std()

    def transform(image):
        return (image.float() / 255 - mean) / std

    train_loader = DataLoader(
        Digits(train=True, transform=transform), batch_size=args.batch_size, shuffle=True, drop_last=True
    )
    test_loader = DataLoader(Digits(train=False, transform=transform), batch_size=100)

    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    steps = args.epochs * (len(train_loader) // args.accumulate)
    scheduler = LambdaLR(optimizer, warmup_cosine(warmup=10, total=steps))
    for epoch in range(1, args.epochs + 1):
        train(args, model, train_loader, optimizer, scheduler, epoch)
        test(model, test_loader)


if __name__ == "__main__":
    main()
