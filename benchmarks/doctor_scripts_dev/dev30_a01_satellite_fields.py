"""Land use from satellite tiles: meadow, rows, pivot irrigation, river, town.

python a01_satellite_fields.py --epochs 12 --lr 0.05
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

CLASSES = ["meadow", "pivot", "river", "rows", "town"]


def draw_tile(kind, rng, size=32):
    yy, xx = np.mgrid[0:size, 0:size].astype(np.float32)
    ground = np.array([0.38, 0.46, 0.28]) + rng.normal(0, 0.05, 3)
    image = np.ones((size, size, 3)) * ground
    if kind == "meadow":
        blotches = np.kron(rng.normal(0, 0.06, (8, 8)), np.ones((4, 4)))
        image += blotches[..., None]
    elif kind == "rows":
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 7)
        wave = np.sin((xx * np.cos(angle) + yy * np.sin(angle)) * 2 * np.pi / period + rng.uniform(0, 6))
        image += 0.1 * wave[..., None] * np.array([1.0, 0.8, 0.5])
    elif kind == "pivot":
        for _ in range(rng.integers(1, 4)):
            cy, cx, radius = rng.uniform(6, size - 6), rng.uniform(6, size - 6), rng.uniform(4, 8)
            disc = (yy - cy) ** 2 + (xx - cx) ** 2 < radius**2
            image[disc] += np.array([-0.12, 0.06, -0.1]) * rng.uniform(0.8, 1.4)
    elif kind == "river":
        middle = rng.uniform(8, 24) + rng.uniform(2, 6) * np.sin(yy / rng.uniform(4, 8) + rng.uniform(0, 6))
        water = np.abs(xx - middle) < rng.uniform(1.5, 3.5)
        if rng.random() < 0.5:
            water = water.T
        image[water] = np.array([0.22, 0.36, 0.46]) + rng.normal(0, 0.04, 3)
    else:
        for _ in range(rng.integers(8, 15)):
            top, left = rng.integers(0, size - 4, 2)
            height, width = rng.integers(2, 6, 2)
            image[top : top + height, left : left + width] = rng.uniform(0.4, 0.8) + rng.normal(0, 0.03, 3)
    image = image * rng.uniform(0.8, 1.2) + rng.normal(0, 0.05, image.shape)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def make_folder(per_class, seed):
    """All tiles, folder by folder, as ImageFolder lists them."""
    rng = np.random.default_rng(seed)
    images = [draw_tile(kind, rng) for kind in CLASSES for _ in range(per_class)]
    labels = [index for index in range(len(CLASSES)) for _ in range(per_class)]
    return np.stack(images), np.array(labels)


class TileDataset(Dataset):
    def __init__(self, images, labels, transform):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), int(self.labels[index])


def to_tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


class TileNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(64)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.relu(self.bn3(self.conv3(x)))
        x = x.mean(dim=(2, 3))
        return self.fc(self.dropout(x))


def train(model, loader, optimizer, device):
    model.train()
    total_loss, seen = 0.0, 0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        total_loss += loss.item() * len(labels)
        seen += len(labels)
    return total_loss / seen


@torch.no_grad()
def evaluate(model, loader, device):
    model.eval()
    total_loss, correct = 0.0, 0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        logits = model(images)
        total_loss += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += (logits.argmax(dim=1) == labels).sum().item()
    return total_loss / len(loader.dataset), correct / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    device = torch.device("cpu")

    train_images, train_labels = make_folder(per_class=400, seed=1)
    val_images, val_labels = make_folder(per_class=80, seed=2)
    mean = torch.tensor(train_images.mean(axis=(0, 1, 2)) / 255).float().view(3, 1, 1)
    std = torch.tensor(train_images.std(axis=(0, 1, 2)) / 255).float().view(3, 1, 1)

    def train_transform(image):
        x = to_tensor(image)
        if torch.rand(1).item() < 0.5:
            x = x.flip(2)
        if torch.rand(1).item() < 0.5:
            x = x.flip(1)
        return (x - mean) / std

    def val_transform(image):
        x = to_tensor(image)
        return x.sub(mean).div(std)

    train_set = TileDataset(train_images, train_labels, train_transform)
    val_set = TileDataset(val_images, val_labels, val_transform)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=64)

    model = TileNet(len(CLASSES)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)

    for epoch in range(1, args.epochs + 1):
        train_loss = train(model, train_loader, optimizer, device)
        val_loss, val_acc = evaluate(model, val_loader, device)
        scheduler.step()
        print(f"epoch {epoch:2d}  train loss {train_loss:.4f}  val loss {val_loss:.4f}  val acc {val_acc:.3f}")


if __name__ == "__main__":
    main()
