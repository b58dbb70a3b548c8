# Transfer learning: from printed chess diagrams (many, 12 classes) to photographed pieces (few, 6 classes)
# after "Transfer Learning for Computer Vision Tutorial"

import copy
import io
import time

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(3)
torch.set_num_threads(1)
device = torch.device("cpu")

PIECES = ["pawn", "knight", "bishop", "rook", "queen", "king"]

# %% Data


def silhouette(piece, u, v):
    """True where the piece is; u to the right, v downwards, both from -1 to 1."""
    base = (np.abs(u) < 0.5) & (v > 0.55) & (v < 0.8)
    if piece == "pawn":
        shape = (u**2 + (v + 0.15) ** 2 < 0.07) | ((np.abs(u) < 0.12 + 0.35 * v.clip(0)) & (v > 0) & (v < 0.6))
    elif piece == "rook":
        notch = (np.abs(u) > 0.1) & (np.abs(u) < 0.24) & (v < -0.45)
        shape = (np.abs(u) < 0.28) & (v > -0.35) & (v < 0.6) | (np.abs(u) < 0.42) & (v > -0.65) & (v < -0.3) & ~notch
    elif piece == "knight":
        shape = (np.abs(u - 0.1 + 0.25 * v) < 0.27) & (v > -0.6) & (v < 0.6) | (u > -0.6) & (u < 0.1) & (np.abs(v + 0.3) < 0.17)
    elif piece == "bishop":
        slit = (np.abs(u - 0.5 * v - 0.2) < 0.08) & (v < 0)
        shape = ((u / 0.3) ** 2 + ((v + 0.1) / 0.5) ** 2 < 1) & ~slit | (np.abs(u) < 0.15) & (v > 0.2) & (v < 0.6)
    elif piece == "queen":
        shape = (np.abs(u) < 0.3 + 0.35 * (-v).clip(0)) & (v > -0.35 - 0.3 * np.abs(np.cos(7 * u))) & (v < 0.6)
    else:
        cross = (np.abs(u) < 0.08) & (v > -0.95) & (v < -0.3) | (np.abs(v + 0.7) < 0.08) & (np.abs(u) < 0.25)
        shape = (np.abs(u) < 0.34) & (v > -0.4) & (v < 0.6) | cross
    return shape | base


def draw(piece, white, photo, rng, size=32):
    v, u = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    turn = rng.uniform(-0.2, 0.2) if photo else rng.uniform(-0.08, 0.08)
    zoom = rng.uniform(1.0, 1.25)
    du, dv = rng.uniform(-0.12, 0.12, 2)
    uu = zoom * (u * np.cos(turn) + v * np.sin(turn)) + du
    vv = zoom * (v * np.cos(turn) - u * np.sin(turn)) + dv
    mask = silhouette(piece, uu, vv)
    if photo:
        image = 0.5 + 0.08 * np.sin(5 * u + rng.uniform(0, 6)) + rng.uniform(-0.1, 0.1) * v
        image[mask] = rng.uniform(0.8, 0.95) if white else rng.uniform(0.05, 0.2)
        noise = 0.08
    else:
        image = np.full((size, size), rng.uniform(0.45, 0.6))
        image[mask] = 1.0 if white else 0.0
        noise = 0.04
    return (image + rng.normal(0, noise, image.shape)).clip(0, 1).astype(np.float32)


class PieceFolder(Dataset):
    """Samples with the names of their folders, numbered as ImageFolder does it."""

    def __init__(self, count, photo, seed):
        rng = np.random.default_rng(seed)
        self.images, names = [], []
        for _ in range(count):
            piece, white = PIECES[rng.integers(6)], bool(rng.integers(2))
            self.images.append(draw(piece, white, photo, rng))
            names.append(piece if photo else f"{'white' if white else 'black'} {piece}")
        self.classes = sorted(set(names))
        self.class_to_idx = {name: index for index, name in enumerate(self.classes)}
        self.targets = [self.class_to_idx[name] for name in names]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = (torch.from_numpy(self.images[index])[None] - 0.5) / 0.25
        return image, self.targets[index]


# %% Network


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + identity)


class SmallResNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layer1 = BasicBlock(16, 16)
        self.layer2 = BasicBlock(16, 32, 2)
        self.layer3 = BasicBlock(32, 64, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


# %% Training


def train_model(model, dataloaders, criterion, optimizer, scheduler, num_epochs=10):
    since = time.time()
    best_model_wts = copy.deepcopy(model.state_dict())
    best_loss = float("inf")
    for epoch in range(num_epochs):
        for phase in ["train", "val"]:
            if phase == "train":
                model.train()
            else:
                model.eval()
            running_loss, running_corrects = 0.0, 0
            for inputs, labels in dataloaders[phase]:
                inputs, labels = inputs.to(device), labels.to(device)
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
            epoch_loss = running_loss / len(dataloaders[phase].dataset)
            epoch_acc = running_corrects / len(dataloaders[phase].dataset)
            print(f"Epoch {epoch}/{num_epochs - 1} {phase} Loss: {epoch_loss:.4f} Acc: {epoch_acc:.4f}")
            if phase == "val" and epoch_loss < best_loss:
                best_loss = epoch_loss
                best_model_wts = copy.deepcopy(model.state_dict())
    print(f"Training complete in {time.time() - since:.0f}s, loss of the epoch kept: {best_loss:.4f}")
    model.load_state_dict(best_model_wts)
    return model


criterion = nn.CrossEntropyLoss()

# %% 1. Diagrams

diagrams = {
    "train": DataLoader(PieceFolder(1600, False, 0), batch_size=32, shuffle=True),
    "val": DataLoader(PieceFolder(300, False, 1), batch_size=100),
}
net = SmallResNet(num_classes=12).to(device)
optimizer = optim.SGD(net.parameters(), lr=0.03, momentum=0.9)
net = train_model(net, diagrams, criterion, optimizer, lr_scheduler.StepLR(optimizer, 4, 0.1), num_epochs=6)
checkpoint = io.BytesIO()
torch.save(net.state_dict(), checkpoint)

# %% 2. Photos: load all but the head, a new head, small steps for what is pretrained

photos = {
    "train": DataLoader(PieceFolder(480, True, 2), batch_size=16, shuffle=True),
    "val": DataLoader(PieceFolder(240, True, 3), batch_size=80),
}
class_names = photos["train"].dataset.classes
checkpoint.seek(0)
state = torch.load(checkpoint)
model_ft = SmallResNet(num_classes=12).to(device)
model_ft.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")}, strict=False)
num_ftrs = model_ft.fc.in_features
model_ft.fc = nn.Linear(num_ftrs, len(class_names))
backbone = [p for n, p in model_ft.named_parameters() if not n.startswith("fc.")]
optimizer_ft = optim.SGD(
    [{"params": backbone, "lr": 0.001}, {"params": model_ft.fc.parameters(), "lr": 0.02}], momentum=0.9
)
exp_lr_scheduler = lr_scheduler.StepLR(optimizer_ft, step_size=8, gamma=0.1)
model_ft = train_model(model_ft, photos, criterion, optimizer_ft, exp_lr_scheduler, num_epochs=12)

# %% 3. A last look at the photos for validation

model_ft.eval()
with torch.no_grad():
    right = sum((model_ft(x).argmax(1) == y).sum().item() for x, y in photos["val"])
print(f"photos: {right / len(photos['val'].dataset):.3f} right")
