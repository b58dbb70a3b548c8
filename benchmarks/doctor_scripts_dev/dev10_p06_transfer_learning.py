"""Transfer learning tutorial: a backbone learns shapes and colors, then a new head and finer phases learn a related task."""

import copy
import os
import tempfile
import time

import torch
import torch.nn as nn
import torch.optim as optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes, shape_mask

torch.manual_seed(0)
work_dir = tempfile.mkdtemp()


class Backbone(nn.Module):
    def __init__(self, out_features=64):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, out_features, 3, padding=1), nn.BatchNorm2d(out_features), nn.ReLU(),
        )
        self.out_features = out_features

    def forward(self, x):
        return self.features(x).flatten(2).amax(-1)


class Classifier(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.backbone = Backbone()
        self.fc = nn.Linear(self.backbone.out_features, num_classes)

    def forward(self, x):
        return self.fc(self.backbone(x))


def normalize(image):
    return (image - 0.49) / 0.17


class PaintedShapes(Dataset):
    """The new task: few images, shapes of new colors on a darker ground, and only the shape is asked."""

    classes = ("square", "disc", "cross")

    def __init__(self, count, seed, augment=False):
        generator = torch.Generator().manual_seed(seed)
        self.augment, self.samples = augment, []
        for i in range(count):
            label = i % 3
            width = int(torch.randint(9, 14, (1,), generator=generator))
            top, left = torch.randint(0, 24 - width + 1, (2,), generator=generator).tolist()
            mask = shape_mask(self.classes[label], 24, top, left, width)
            image = torch.full((3, 24, 24), 0.35)
            image[:, mask] = (0.15 + 0.7 * torch.rand(3, generator=generator))[:, None]
            image = (image + 0.06 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
            self.samples.append((image, label))

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        image, label = self.samples[index]
        if self.augment and torch.rand(()) < 0.5:
            image = image.flip(2)
        return normalize(image), label


def train_model(model, dataloaders, criterion, optimizer, scheduler, num_epochs, title):
    since = time.time()
    best_acc, best_model_wts = 0.0, copy.deepcopy(model.state_dict())
    sizes = {phase: len(loader.dataset) for phase, loader in dataloaders.items()}
    for epoch in range(num_epochs):
        report = []
        for phase in ("train", "val"):
            if phase == "train":
                model.train()
            else:
                model.eval()
            running_loss, running_corrects = 0.0, 0
            for inputs, labels in dataloaders[phase]:
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    outputs = model(inputs)
                    _, preds = torch.max(outputs, 1)
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                running_loss += loss.item() * inputs.size(0)
                running_corrects += torch.sum(preds == labels).item()
            if phase == "train":
                scheduler.step()
            epoch_loss = running_loss / sizes[phase]
            epoch_acc = running_corrects / sizes[phase]
            report.append(f"{phase} loss {epoch_loss:.4f} acc {epoch_acc:.4f}")
            if phase == "val" and epoch_acc > best_acc:
                best_acc = epoch_acc
                best_model_wts = copy.deepcopy(model.state_dict())
        print(f"[{title}] {epoch + 1}/{num_epochs}", " | ".join(report))
    print(f"[{title}] done in {time.time() - since:.0f}s, best val acc {best_acc:.4f}")
    model.load_state_dict(best_model_wts)
    return model


def pretrain():
    """Writes the weights that the rest of the tutorial begins with."""
    model = Classifier(num_classes=6)
    loaders = {
        "train": DataLoader(Shapes(train=True, size=24, transform=normalize), batch_size=32, shuffle=True),
        "val": DataLoader(Shapes(train=False, size=24, transform=normalize), batch_size=60),
    }
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.3)
    train_model(model, loaders, nn.CrossEntropyLoss(), optimizer, scheduler, 7, "pretrain")
    path = os.path.join(work_dir, "backbone.pth")
    torch.save(model.state_dict(), path)
    return path


def load_pretrained(model, path):
    state = torch.load(path)
    state = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    missing, unexpected = model.backbone.load_state_dict(state, strict=False)
    print("loaded", path, "entries:", len(state))
    return model


def set_requires_grad(module, flag):
    for param in module.parameters():
        param.requires_grad = flag


def evaluate(model, loader):
    model.eval()
    with torch.no_grad():
        hits = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return hits / len(loader.dataset)


def main():
    path = pretrain()
    dataloaders = {
        "train": DataLoader(PaintedShapes(240, seed=1, augment=True), batch_size=16, shuffle=True),
        "val": DataLoader(PaintedShapes(240, seed=2), batch_size=60),
    }
    test_loader = DataLoader(PaintedShapes(240, seed=3), batch_size=60)
    criterion = nn.CrossEntropyLoss()

    model = load_pretrained(Classifier(num_classes=3), path)

    # Phase 1: only the new head
    set_requires_grad(model.backbone, False)
    optimizer = optim.Adam(model.fc.parameters(), lr=5e-3)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.1)
    model = train_model(model, dataloaders, criterion, optimizer, scheduler, 5, "head")

    # Phase 2: all layers, the backbone more slowly
    set_requires_grad(model.backbone, True)
    optimizer = optim.Adam([
        {"params": model.backbone.parameters(), "lr": 1e-3},
        {"params": model.fc.parameters(), "lr": 2e-3},
    ])
    scheduler = lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.1)
    model = train_model(model, dataloaders, criterion, optimizer, scheduler, 14, "finetune")
    print(f"test accuracy {evaluate(model, test_loader):.4f}")


if __name__ == "__main__":
    main()
