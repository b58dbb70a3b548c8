"""Fine-tune a digit network on the scans of the second archive (few labels, weak contrast)."""
import argparse
import tempfile
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Digits, draw_digits

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
MEAN, STD = 0.17, 0.30


class Compose:
    def __init__(self, steps):
        self.steps = steps

    def __call__(self, img):
        for step in self.steps:
            img = step(img)
        return img


def to_float(img):
    return img.float() / 255


def random_shift(img, by=1):
    dy, dx = torch.randint(-by, by + 1, (2,)).tolist()
    return torch.roll(img, (dy, dx), (-2, -1))


def normalize(img):
    return (img - MEAN) / STD


class Backbone(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
        self.stage = nn.Sequential(
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
        )
        self.fc = nn.Linear(48 * 16, num_classes)

    def forward(self, x):
        return self.fc(self.stage(self.stem(x)).flatten(1))


class Archive(Dataset):
    """Scans with the word that was written beside each of them."""

    def __init__(self, seed, count, transform, class_to_idx=None):
        images, labels = draw_digits(count, seed=seed, noise=0.15)
        self.images = (images.float() * 0.6 + 30).to(torch.uint8)
        self.words = [WORDS[i] for i in labels.tolist()]
        if class_to_idx is None:
            class_to_idx = {word: i for i, word in enumerate(dict.fromkeys(self.words))}
        self.class_to_idx = class_to_idx
        self.transform = transform

    def __len__(self):
        return len(self.words)

    def __getitem__(self, i):
        return self.transform(self.images[i]), self.class_to_idx[self.words[i]]


def pretrain(path, epochs):
    """Stands in for the download of the published checkpoint."""
    data = Digits(train=True, transform=Compose([to_float, normalize]))
    net = nn.DataParallel(Backbone(10))
    opt = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(epochs):
        for x, y in DataLoader(data, batch_size=64, shuffle=True):
            opt.zero_grad()
            F.cross_entropy(net(x), y).backward()
            opt.step()
    torch.save({"model": net.state_dict(), "epochs": epochs}, path)


def load_backbone(model, path):
    checkpoint = torch.load(path, map_location="cpu")
    state = {k.removeprefix("module."): v for k, v in checkpoint["model"].items()}
    state = {k: v for k, v in state.items() if not k.startswith("fc.")}
    model.load_state_dict(state, strict=False)


def param_groups(model, lr_backbone, lr_head):
    head = list(model.fc.parameters())
    ids = {id(p) for p in head}
    rest = [p for p in model.parameters() if id(p) not in ids and p.requires_grad]
    return [{"params": rest, "lr": lr_backbone}, {"params": head, "lr": lr_head}]


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    hits = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return hits / len(loader.dataset)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--pretrain-epochs", type=int, default=4)
    p.add_argument("--lr-backbone", type=float, default=2e-4)
    p.add_argument("--lr-head", type=float, default=2e-3)
    p.add_argument("--labels", type=int, default=240)
    args = p.parse_args()
    torch.manual_seed(1)

    weights = Path(tempfile.gettempdir()) / "digits_backbone.pt"
    pretrain(weights, args.pretrain_epochs)

    train_tf = Compose([to_float, random_shift, normalize])
    val_tf = Compose([to_float, normalize])
    train_set = Archive(seed=21, count=args.labels, transform=train_tf)
    val_set = Archive(seed=22, count=400, transform=val_tf, class_to_idx=train_set.class_to_idx)
    train_loader = DataLoader(train_set, batch_size=24, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=100)

    model = Backbone(num_classes=10)
    load_backbone(model, weights)
    for p in model.stem.parameters():
        p.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, len(train_set.class_to_idx))
    optimizer = torch.optim.AdamW(param_groups(model, args.lr_backbone, args.lr_head), weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)

    for epoch in range(1, args.epochs + 1):
        model.train()
        model.stem.eval()
        total = 0.0
        for x, y in train_loader:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
        scheduler.step()
        print(f"epoch {epoch:2d}: train loss {total / len(train_set):.4f}, val accuracy {accuracy(model, val_loader):.3f}")


if __name__ == "__main__":
    main()
