"""Transfer learning: pre-train on one family of shapes, freeze the backbone, train a new classifier on another."""

import os
import tempfile

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from toydata import Shapes

SEED = 7
FEATURES = 96
SOURCE_COLORS = [(0.9, 0.6, 0.1), (0.1, 0.8, 0.2), (0.6, 0.1, 0.9), (0.1, 0.7, 0.8)]


class SmallNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(48, FEATURES, 3, padding=1, bias=False), nn.BatchNorm2d(FEATURES), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(FEATURES, FEATURES, 3, padding=1, bias=False), nn.BatchNorm2d(FEATURES), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        )
        self.fc = nn.Linear(FEATURES, num_classes)

    def forward(self, x):
        return self.fc(self.backbone(x))


def source_data(count, seed, size=16):
    """Triangles, rings, diamonds and bars in four colors: sixteen classes."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 16, (count,), generator=g)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    images = torch.full((count, 3, size, size), 0.5)
    for i, label in enumerate(labels.tolist()):
        r = 3 + 1.5 * torch.rand((), generator=g)
        cy, cx = 4 + (size - 9) * torch.rand(2, generator=g)
        dy, dx = y - cy, x - cx
        if label // 4 == 0:
            mask = (dy.abs() <= r) & (dx.abs() <= (dy + r) / 2)
        elif label // 4 == 1:
            mask = ((dy ** 2 + dx ** 2).sqrt() - 0.75 * r).abs() <= 0.25 * r
        elif label // 4 == 2:
            mask = dy.abs() + dx.abs() <= r
        else:
            mask = (dy.abs() <= 1) & (dx.abs() <= r)
        images[i, :, mask] = torch.tensor(SOURCE_COLORS[label % 4])[:, None]
    images = (images + 0.08 * torch.randn(images.shape, generator=g)).clamp(0, 1)
    return TensorDataset((images - 0.5) / 0.25, labels)


class ShapeFolder(Dataset):
    """Like torchvision's ImageFolder: names of classes become numbers."""

    def __init__(self, base, train):
        self.base, self.train = base, train
        self.classes = sorted(set(base.names))
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image = self.base.images[index]
        if self.train:
            if torch.rand(()) < 0.5:
                image = image.flip(2)
            image = image * (0.9 + 0.2 * torch.rand(()))
        return (image - 0.5) / 0.25, self.class_to_idx[self.base.names[index]]


def train_epoch(model, loader, criterion, optimizer):
    running_loss, count = 0.0, 0
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item() * inputs.size(0)
        count += inputs.size(0)
    return running_loss / count


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    corrects, count = 0, 0
    for inputs, labels in loader:
        preds = model(inputs).argmax(1)
        corrects += (preds == labels).sum().item()
        count += inputs.size(0)
    return corrects / count


def pretrain(path):
    train_loader = DataLoader(source_data(2400, seed=1), batch_size=64, shuffle=True)
    val_loader = DataLoader(source_data(400, seed=2), batch_size=200)
    model = SmallNet(16)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(6):
        model.train()
        loss = train_epoch(model, train_loader, criterion, optimizer)
        print(f"pretrain {epoch}  loss {loss:.4f}  val acc {evaluate(model, val_loader):.3f}")
    torch.save({"epoch": epoch, "state_dict": model.state_dict()}, path)


def finetune(path):
    train_set = ShapeFolder(Shapes(train=True, count=480), train=True)
    val_set = ShapeFolder(Shapes(train=False, count=300), train=False)
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=100)

    model = SmallNet(16)
    checkpoint = torch.load(path)
    model.load_state_dict(checkpoint["state_dict"])
    for param in model.backbone.parameters():
        param.requires_grad = False
    model.fc = nn.Linear(FEATURES, len(train_set.classes))

    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.fc.parameters(), lr=5e-3)
    for epoch in range(15):
        model.train()
        model.backbone.eval()
        loss = train_epoch(model, train_loader, criterion, optimizer)
        print(f"finetune {epoch}  loss {loss:.4f}  val acc {evaluate(model, val_loader):.3f}")


if __name__ == "__main__":
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint_path = os.path.join(folder, "backbone.pth")
        pretrain(checkpoint_path)
        finetune(checkpoint_path)
