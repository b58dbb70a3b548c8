"""Learning with noisy labels: generalized cross-entropy (Zhang and Sabuncu, 2018), a clean test set."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


class NoisyShapes(Dataset):
    """Shapes of which a share got another label, drawn once; the true ones are kept to look at only."""

    def __init__(self, noise_rate, seed):
        self.base = Shapes(train=True, count=2400)
        self.true = np.array(self.base.targets)
        rng = np.random.RandomState(seed)
        self.noisy = self.true.copy()
        flipped = rng.rand(len(self.true)) < noise_rate
        shift = rng.randint(1, len(NAMES), flipped.sum())
        self.noisy[flipped] = (self.true[flipped] + shift) % len(NAMES)

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image = self.base.images[index]
        if torch.rand(()) < 0.5:
            image = image.flip(2)
        if torch.rand(()) < 0.5:
            image = image.flip(1)
        return (image - 0.5) / 0.25, int(self.noisy[index])


class CNN(nn.Module):
    def __init__(self, n_outputs, dropout_rate=0.2):
        super().__init__()
        self.dropout_rate = dropout_rate
        self.c1 = nn.Conv2d(3, 24, kernel_size=3, padding=1)
        self.c2 = nn.Conv2d(24, 32, kernel_size=3, padding=1)
        self.c3 = nn.Conv2d(32, 48, kernel_size=3, padding=1)
        self.l = nn.Linear(48 * 4 * 4, n_outputs)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm2d(24), nn.BatchNorm2d(32), nn.BatchNorm2d(48)

    def forward(self, x):
        h = F.leaky_relu(self.bn1(self.c1(x)), negative_slope=0.01)
        h = F.max_pool2d(h, 2)
        h = F.leaky_relu(self.bn2(self.c2(h)), negative_slope=0.01)
        h = F.max_pool2d(h, 2)
        h = F.leaky_relu(self.bn3(self.c3(h)), negative_slope=0.01)
        h = F.dropout(h, p=self.dropout_rate, training=self.training)
        return self.l(h.flatten(1))


class GCELoss(nn.Module):
    def __init__(self, q=0.5):
        super().__init__()
        self.q = q

    def forward(self, logits, targets):
        probs = F.softmax(logits, dim=1).gather(1, targets[:, None]).squeeze(1)
        return ((1 - probs.clamp(min=1e-6) ** self.q) / self.q).mean()


def adjust_learning_rate(optimizer, epoch, args):
    start = args.epochs // 2
    factor = 1.0 if epoch < start else (args.epochs - epoch) / (args.epochs - start)
    for group in optimizer.param_groups:
        group["lr"] = args.lr * factor


@torch.no_grad()
def evaluate(test_loader, model):
    model.eval()
    correct = total = 0
    for images, labels in test_loader:
        pred = model(images).argmax(1)
        total += labels.size(0)
        correct += (pred == labels).sum().item()
    return 100 * correct / total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--noise-rate", type=float, default=0.2)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--q", type=float, default=0.5)
    args = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(1)

    train_set = NoisyShapes(args.noise_rate, seed=0)
    print(f"actual noise: {(train_set.noisy != train_set.true).mean():.3f}")
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True, drop_last=True)
    test_loader = DataLoader(Shapes(train=False, transform=lambda x: (x - 0.5) / 0.25), 80)
    model = CNN(len(NAMES))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    criterion = GCELoss(args.q)

    for epoch in range(args.epochs):
        adjust_learning_rate(optimizer, epoch, args)
        model.train()
        loss_sum, agree, seen = 0.0, 0, 0
        for images, labels in train_loader:
            logits = model(images)
            loss = criterion(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(labels)
            agree += (logits.argmax(1) == labels).sum().item()
            seen += len(labels)
        print(f"Epoch [{epoch + 1}/{args.epochs}] loss {loss_sum / seen:.4f} agreement with noisy labels "
              f"{100 * agree / seen:.1f}% clean test accuracy {evaluate(test_loader, model):.1f}%")


if __name__ == "__main__":
    main()
