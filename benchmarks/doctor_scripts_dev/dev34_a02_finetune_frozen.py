"""Transfer learning: a backbone trained on many colors is frozen, and a new head learns two new ones.

Usage: python a02_finetune_frozen.py --epochs 25 --lr 2e-3
"""

import argparse
import os
import tempfile

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import shape_mask

SIZE = 20
KINDS = ("square", "disc", "cross")
SOURCE_COLORS = {
    "red": (0.9, 0.15, 0.1), "green": (0.1, 0.8, 0.2), "blue": (0.1, 0.2, 0.9),
    "white": (0.95, 0.95, 0.95), "cyan": (0.1, 0.8, 0.85), "orange": (0.95, 0.55, 0.1),
}
TARGET_COLORS = {"yellow": (0.9, 0.85, 0.1), "purple": (0.6, 0.1, 0.8)}


def draw(color, kind, generator):
    width = int(torch.randint(8, 13, (1,), generator=generator))
    top, left = torch.randint(0, SIZE - width + 1, (2,), generator=generator).tolist()
    image = torch.full((3, SIZE, SIZE), 0.4)
    tint = torch.tensor(color) + 0.06 * torch.randn(3, generator=generator)
    image[:, shape_mask(kind, SIZE, top, left, width)] = tint[:, None]
    return (image + 0.05 * torch.randn(image.shape, generator=generator)).clamp(0, 1)


class ShapeFolder(Dataset):
    """As an image folder is read: class by class; labels are numbers given to the names of classes."""

    def __init__(self, colors, per_class, seed, transform=None):
        generator = torch.Generator().manual_seed(seed)
        self.transform = transform
        self.images, self.names = [], []
        for color, rgb in colors.items():
            for kind in KINDS:
                for _ in range(per_class):
                    self.images.append(draw(rgb, kind, generator))
                    self.names.append(f"{color} {kind}")
        self.classes = sorted(set(self.names))
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        if self.transform is not None:
            image = self.transform(image)
        return image, self.class_to_idx[self.names[index]]


class Backbone(nn.Module):
    out_features = 128

    def __init__(self):
        super().__init__()
        layers, inside = [], 3
        for outside, pool in ((24, True), (48, True), (64, False)):
            layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU()]
            if pool:
                layers.append(nn.MaxPool2d(2))
            inside = outside
        self.layers = nn.Sequential(*layers)

    def forward(self, images):
        maps = self.layers(images)
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Linear(Backbone.out_features, classes)

    def forward(self, images):
        return self.head(self.backbone(images))


def pretrain(path, normalize, dataset, epochs):
    dataset.transform = normalize
    loader = DataLoader(dataset, batch_size=48, shuffle=True)
    model = nn.DataParallel(Net(len(dataset.classes)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for images, labels in loader:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        scheduler.step()
        print(f"pretraining {epoch}: loss {total / len(dataset):.4f}", flush=True)
    torch.save({"state_dict": model.state_dict()}, path)


def load_pretrained(path, classes):
    checkpoint = torch.load(path)
    net = Net(classes)
    state = {key.removeprefix("module."): value for key, value in checkpoint["state_dict"].items()}
    net.load_state_dict(state, strict=False)
    return net


def evaluate(net, loader):
    net.eval()
    correct = total = 0
    with torch.no_grad():
        for images, labels in loader:
            correct += (net(images).argmax(1) == labels).sum().item()
            total += len(labels)
    return correct / total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--pretrain-epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()
    torch.manual_seed(0)

    source = ShapeFolder(SOURCE_COLORS, 130, seed=1)
    pixels = torch.stack(source.images)
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))

    def normalize(image):
        return (image - mean[:, None, None]) / std[:, None, None]

    train_set = ShapeFolder(TARGET_COLORS, 100, seed=2, transform=normalize)
    val_set = ShapeFolder(TARGET_COLORS, 50, seed=3, transform=normalize)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=100)

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "backbone.pt")
        pretrain(path, normalize, source, args.pretrain_epochs)
        net = load_pretrained(path, len(source.classes))

    for parameter in net.backbone.parameters():
        parameter.requires_grad = False
    net.head = nn.Sequential(
        nn.Linear(Backbone.out_features, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, len(train_set.classes))
    )
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=args.lr)

    for epoch in range(args.epochs):
        net.train()
        net.backbone.eval()  # batch norm keeps the statistics it was trained with
        total = 0.0
        for images, labels in train_loader:
            logits = net.head(net.backbone(images))
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        accuracy = evaluate(net, val_loader)
        print(f"epoch {epoch}: loss {total / len(train_set):.4f} val accuracy {accuracy:.4f}", flush=True)


if __name__ == "__main__":
    main()
