# Transfer learning: a network that knows colored shapes learns to sort faded ones by kind, from 120 images.
import copy
import os
import tempfile
import time

import torch
import torch.nn as nn
import torch.optim as optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes

KINDS = ["square", "disc", "cross"]


def conv_block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class ShapeNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = conv_block(3, 16)
        self.layer1 = nn.Sequential(conv_block(16, 32), nn.MaxPool2d(2))
        self.layer2 = nn.Sequential(conv_block(32, 48), nn.MaxPool2d(2))
        self.layer3 = conv_block(48, 64)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class SourceTask(nn.Module):
    """What the pretraining ran: the network lies in `net`, as in many published checkpoints."""

    def __init__(self):
        super().__init__()
        self.net = ShapeNet(num_classes=len(NAMES))
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, images, targets):
        return self.criterion(self.net(images), targets)


def normalize(image):
    return (image - 0.5) / 0.2


def flip(image):
    if torch.rand(1).item() < 0.5:
        image = torch.flip(image, dims=[2])
    return normalize(image)


class ShapeFolder(Dataset):
    def __init__(self, samples, classes=None, transform=normalize):
        self.samples = samples
        self.classes = classes or sorted({kind for _, kind in samples})
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        image, kind = self.samples[i]
        return self.transform(image), self.class_to_idx[kind]


def pretrain(path, num_epochs=10):
    task = SourceTask()
    optimizer = optim.Adam(task.parameters(), lr=3e-3)
    loader = DataLoader(Shapes(train=True, count=1200, transform=flip), batch_size=48, shuffle=True)
    for epoch in range(num_epochs):
        running = 0.0
        for images, targets in loader:
            optimizer.zero_grad()
            loss = task(images, targets)
            loss.backward()
            optimizer.step()
            running += loss.item() * len(images)
        print(f"pretraining {epoch}: {running / len(loader.dataset):.4f}")
    torch.save({"epoch": num_epochs, "state_dict": task.state_dict()}, path)


def load_pretrained(path):
    model = ShapeNet(num_classes=len(NAMES))
    checkpoint = torch.load(path, map_location="cpu")
    state_dict = {k[len("net.") :]: v for k, v in checkpoint["state_dict"].items() if k.startswith("net.")}
    model.load_state_dict(state_dict)
    return model


def train_model(model, dataloaders, criterion, optimizer, scheduler, num_epochs):
    since = time.time()
    dataset_sizes = {phase: len(dataloaders[phase].dataset) for phase in ["train", "val"]}
    best_model_wts, best_acc = copy.deepcopy(model.state_dict()), 0.0
    for epoch in range(num_epochs):
        for phase in ["train", "val"]:
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
            epoch_loss = running_loss / dataset_sizes[phase]
            epoch_acc = running_corrects / dataset_sizes[phase]
            print(f"Epoch {epoch} {phase} Loss: {epoch_loss:.4f} Acc: {epoch_acc:.4f}")
            if phase == "val" and epoch_acc > best_acc:
                best_acc, best_model_wts = epoch_acc, copy.deepcopy(model.state_dict())
    print(f"Training complete in {time.time() - since:.0f}s, best val Acc: {best_acc:.4f}")
    model.load_state_dict(best_model_wts)
    return model


if __name__ == "__main__":
    torch.manual_seed(0)
    shapes = Shapes(train=False, count=400)
    samples = [(0.7 * image + 0.15, name.split()[1]) for image, name in zip(shapes.images, shapes.names)]
    train_set = ShapeFolder(samples[:120], classes=KINDS, transform=flip)
    val_set = ShapeFolder(samples[120:240], classes=KINDS)
    test_set = ShapeFolder(samples[240:], classes=KINDS)
    dataloaders = {"train": DataLoader(train_set, batch_size=15, shuffle=True), "val": DataLoader(val_set, batch_size=40)}

    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "shapenet.pth")
        pretrain(weights)
        model_ft = load_pretrained(weights)

    for module in (model_ft.stem, model_ft.layer1, model_ft.layer2):
        for param in module.parameters():
            param.requires_grad = False
    model_ft.fc = nn.Linear(model_ft.fc.in_features, len(KINDS))
    groups = [{"params": model_ft.layer3.parameters(), "lr": 1e-4}, {"params": model_ft.fc.parameters()}]
    optimizer_ft = optim.Adam(groups, lr=1e-2)
    exp_lr_scheduler = lr_scheduler.StepLR(optimizer_ft, step_size=9, gamma=0.1)
    model_ft = train_model(model_ft, dataloaders, nn.CrossEntropyLoss(), optimizer_ft, exp_lr_scheduler, num_epochs=15)

    model_ft.eval()
    with torch.no_grad():
        hits = sum((model_ft(x).argmax(1) == y).sum().item() for x, y in DataLoader(test_set, batch_size=40))
    print(f"test accuracy {hits / len(test_set):.4f}")
