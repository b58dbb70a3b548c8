"""Transfer learning tutorial: pretrain on two coarse attributes, freeze, put a new head on."""
import os
import tempfile
import time

import torch
import torch.nn as nn
import torch.optim as optim
from torch.optim import lr_scheduler

from toydata import Shapes

torch.manual_seed(0)
device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


class Backbone(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 48, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(48)
        self.conv3 = nn.Conv2d(48, 48, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(48)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(48 * 4, num_classes)

    def forward(self, x):
        x = self.pool(self.bn1(self.conv1(x)).relu())
        x = self.pool(self.bn2(self.conv2(x)).relu())
        x = self.pool(self.bn3(self.conv3(x)).relu())
        return self.fc(x.flatten(1))


def pretrain(path):
    """A short pretraining on all six names; what it learns goes into a file."""
    net = Backbone(6)
    images = (torch.stack(Shapes(True, count=1500).images) - 0.5) / 0.25
    labels = torch.tensor(Shapes(True, count=1500).targets)
    opt = optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(10):
        for idx in torch.randperm(len(images)).split(50):
            opt.zero_grad()
            loss = nn.functional.cross_entropy(net(images[idx]), labels[idx])
            loss.backward()
            opt.step()
    print(f"pretraining: loss {loss.item():.3f}")
    torch.save({"epoch": 10, "state_dict": {"module." + k: v for k, v in net.state_dict().items()}}, path)


class Figures(torch.utils.data.Dataset):
    """The new task: the form alone, of few images."""

    def __init__(self, split, count):
        base = Shapes(split == "train", count=2000)
        first = 1700 if split == "train" else 0
        self.images = base.images[first:first + count]
        forms = [name.split()[1] for name in base.names[first:first + count]]
        self.classes = sorted(set(forms))
        self.class_to_idx = {c: i for i, c in enumerate(self.classes)}
        self.targets = [self.class_to_idx[f] for f in forms]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return (self.images[i] - 0.5) / 0.25, self.targets[i]


def train_model(model, dataloaders, sizes, criterion, optimizer, scheduler, num_epochs=12):
    since = time.time()
    with tempfile.TemporaryDirectory() as tempdir:
        best_path = os.path.join(tempdir, "best_model_params.pt")
        torch.save(model.state_dict(), best_path)
        best_acc = 0.0
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
                    running_corrects += torch.sum(preds == labels.data).item()
                if phase == "train":
                    scheduler.step()
                epoch_loss, epoch_acc = running_loss / sizes[phase], running_corrects / sizes[phase]
                print(f"{epoch} {phase} Loss: {epoch_loss:.4f} Acc: {epoch_acc:.4f}")
                if phase == "val" and epoch_acc > best_acc:
                    best_acc = epoch_acc
                    torch.save(model.state_dict(), best_path)
        print(f"Training complete in {time.time() - since:.0f}s, best val Acc: {best_acc:4f}")
        model.load_state_dict(torch.load(best_path, weights_only=True))
    return model


with tempfile.TemporaryDirectory() as folder:
    weights = os.path.join(folder, "backbone.pth")
    pretrain(weights)
    model_conv = Backbone(6)
    state = torch.load(weights, map_location="cpu")["state_dict"]
    state = {k.removeprefix("module."): v for k, v in state.items()}
    print(model_conv.load_state_dict(state, strict=False))

for param in model_conv.parameters():
    param.requires_grad = False
model_conv.fc = nn.Linear(model_conv.fc.in_features, 3)
model_conv = model_conv.to(device)

datasets = {"train": Figures("train", 240), "val": Figures("val", 150)}
loaders = {x: torch.utils.data.DataLoader(datasets[x], batch_size=16, shuffle=x == "train") for x in ["train", "val"]}
dataset_sizes = {x: len(datasets[x]) for x in ["train", "val"]}
criterion = nn.CrossEntropyLoss()
optimizer_conv = optim.SGD(model_conv.fc.parameters(), lr=0.01, momentum=0.9)
exp_lr_scheduler = lr_scheduler.StepLR(optimizer_conv, step_size=8, gamma=0.1)
train_model(model_conv, loaders, dataset_sizes, criterion, optimizer_conv, exp_lr_scheduler)
