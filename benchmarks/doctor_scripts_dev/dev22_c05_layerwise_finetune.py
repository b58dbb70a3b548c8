"""Transfer: a backbone learns digits, then shapes: first only a new head, then everything with layer-wise rates."""

import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes, draw_digits


def stage(inner, outer, stride):
    return nn.Sequential(
        nn.Conv2d(inner, outer, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(inplace=True),
        nn.Conv2d(outer, outer, 3, 1, 1, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(inplace=True),
    )


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        )
        self.stages = nn.ModuleList([stem, stage(16, 24, 1), stage(24, 48, 2)])
        self.features = 48

    def forward(self, x):
        for part in self.stages:
            x = part(x)
        return x.mean((2, 3))


class Classifier(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Linear(self.backbone.features, num_classes)

    def forward(self, x):
        return self.head(self.backbone(x))


def standardized(train, valid):
    mean, std = train.mean((0, 2, 3), keepdim=True), train.std((0, 2, 3), keepdim=True)
    return (train - mean) / std, (valid - mean) / std


def loaders(train, train_labels, valid, valid_labels, batch_size=50):
    train, valid = standardized(train, valid)
    return (
        DataLoader(TensorDataset(train, train_labels), batch_size, shuffle=True),
        DataLoader(TensorDataset(valid, valid_labels), batch_size),
    )


def colored_digits(count, seed):
    images, labels = draw_digits(count, seed=seed)
    colors = 0.3 + 0.7 * torch.rand(count, 3, 1, 1, generator=torch.Generator().manual_seed(seed + 100))
    return images.float() / 255 * colors, labels


def shapes(train, count):
    data = Shapes(train=train, count=count)
    return torch.stack(data.images), torch.tensor(data.targets)


def train_epoch(model, loader, optimizer, scheduler=None, backbone_frozen=False):
    model.train()
    if backbone_frozen:
        model.backbone.eval()  # its batch norm keeps the statistics it came with
    criterion = nn.CrossEntropyLoss()
    total = 0.0
    for images, labels in loader:
        loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        total += loss.item() * len(labels)
    return total / len(loader.dataset)


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    right = sum((model(images).argmax(1) == labels).sum().item() for images, labels in loader)
    return right / len(loader.dataset)


def pretrain(epochs=10):
    train_loader, valid_loader = loaders(*colored_digits(1800, 0), *colored_digits(300, 1))
    model = Classifier(10)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(train_loader))
    for epoch in range(epochs):
        loss = train_epoch(model, train_loader, optimizer, scheduler)
        print(f"digits {epoch + 1:2d}: loss {loss:.4f}, valid accuracy {accuracy(model, valid_loader):.4f}", flush=True)
    return model.state_dict()


def load_backbone(model, state):
    kept = {name: value for name, value in state.items() if not name.startswith("head.")}
    missing, unexpected = model.load_state_dict(kept, strict=False)
    assert not unexpected and set(missing) == {"head.weight", "head.bias"}, (missing, unexpected)


def layerwise_groups(model, lr, decay):
    """The rate falls by a factor from each stage to the one before it."""
    groups = [{"params": list(model.head.parameters()), "lr": lr}]
    for above, part in enumerate(reversed(model.backbone.stages), start=1):
        groups.append({"params": list(part.parameters()), "lr": lr * decay**above})
    return groups


def main():
    torch.manual_seed(1)
    state = pretrain()

    train_loader, valid_loader = loaders(*shapes(True, 1500), *shapes(False, 300))
    model = Classifier(6)
    load_backbone(model, state)

    model.backbone.requires_grad_(False)
    optimizer = torch.optim.Adam(model.head.parameters(), lr=1e-2)
    for epoch in range(3):
        loss = train_epoch(model, train_loader, optimizer, backbone_frozen=True)
        print(f"head {epoch + 1:2d}: loss {loss:.4f}, valid accuracy {accuracy(model, valid_loader):.4f}", flush=True)

    model.backbone.requires_grad_(True)
    epochs = 24
    optimizer = torch.optim.AdamW(layerwise_groups(model, lr=2e-3, decay=0.6), weight_decay=0.01)
    steps, warmup = epochs * len(train_loader), len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps)),
    )
    print("rates:", ", ".join(f"{rate:.1e}" for rate in scheduler.base_lrs))
    for epoch in range(epochs):
        loss = train_epoch(model, train_loader, optimizer, scheduler)
        print(f"all {epoch + 1:2d}: loss {loss:.4f}, valid accuracy {accuracy(model, valid_loader):.4f}", flush=True)


if __name__ == "__main__":
    main()
