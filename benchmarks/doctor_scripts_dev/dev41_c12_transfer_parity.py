"""
Transfer learning, after the tutorial of the same name
======================================================
A network that knows ten digits learns to tell odd ones from even ones in noisier pictures: first as a fixed
feature extractor, then finetuned as a whole.
"""

import copy
import os
import tempfile
import time

import torch
import torch.nn as nn
import torch.optim as optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from toydata import Digits, draw_digits

device = torch.device("cpu")


class SmallConvNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(64 * 4, num_classes)

    def forward(self, x):
        x = self.avgpool(self.features(x))
        return self.fc(torch.flatten(x, 1))


def normalize(images):
    """With the statistics of the digits of the first training, in both trainings."""
    return (images.float() / 255 - 0.18) / 0.33


######################################################################
# The "downloaded" weights


def pretrain(path, num_epochs=10):
    torch.manual_seed(0)
    digits = Digits(train=True)
    held_out = Digits(train=False)
    loader = DataLoader(TensorDataset(normalize(digits.data), digits.targets), batch_size=50, shuffle=True)
    model = SmallConvNet(10)
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(num_epochs):
        model.train()
        for inputs, labels in loader:
            loss = criterion(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        accuracy = (model(normalize(held_out.data)).argmax(1) == held_out.targets).float().mean().item()
    print(f"Ten digits: accuracy {accuracy:.4f}")
    torch.save(model.state_dict(), path)


######################################################################
# The new task


def parity_set(count, seed):
    images, digits = draw_digits(count, seed=seed, noise=0.18)
    return TensorDataset(normalize(images), digits % 2)


image_datasets = {"train": parity_set(400, seed=21), "val": parity_set(200, seed=22), "test": parity_set(300, seed=23)}
dataloaders = {
    phase: DataLoader(dataset, batch_size=20, shuffle=phase == "train") for phase, dataset in image_datasets.items()
}
dataset_sizes = {phase: len(dataset) for phase, dataset in image_datasets.items()}
class_names = ["even", "odd"]


def train_model(model, criterion, optimizer, scheduler, num_epochs):
    since = time.time()
    best_model_wts, best_acc = copy.deepcopy(model.state_dict()), 0.0
    for epoch in range(num_epochs):
        report = []
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
                running_corrects += torch.sum(preds == labels)
            if phase == "train":
                scheduler.step()
            epoch_loss = running_loss / dataset_sizes[phase]
            epoch_acc = running_corrects.double().item() / dataset_sizes[phase]
            report.append(f"{phase} loss {epoch_loss:.4f} acc {epoch_acc:.4f}")
            if phase == "val" and epoch_acc > best_acc:
                best_acc, best_model_wts = epoch_acc, copy.deepcopy(model.state_dict())
        print(f"Epoch {epoch}/{num_epochs - 1}  " + "  ".join(report))
    print(f"Training complete in {time.time() - since:.1f}s, best val acc {best_acc:.4f}")
    model.load_state_dict(best_model_wts)
    return model


@torch.no_grad()
def test_accuracy(model):
    model.eval()
    corrects = sum((model(inputs).argmax(1) == labels).sum().item() for inputs, labels in dataloaders["test"])
    return corrects / dataset_sizes["test"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "digits.pth")
        pretrain(weights)
        model_conv = SmallConvNet(10)
        model_conv.load_state_dict(torch.load(weights, weights_only=True))

    # As fixed feature extractor: only the new last layer learns
    for param in model_conv.parameters():
        param.requires_grad = False
    model_conv.fc = nn.Linear(model_conv.fc.in_features, len(class_names))
    model_conv = model_conv.to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer_conv = optim.SGD(model_conv.fc.parameters(), lr=0.02, momentum=0.9)
    exp_lr_scheduler = lr_scheduler.StepLR(optimizer_conv, step_size=6, gamma=0.1)
    model_conv = train_model(model_conv, criterion, optimizer_conv, exp_lr_scheduler, num_epochs=9)
    print(f"Fixed features: test acc {test_accuracy(model_conv):.4f}")

    # Finetuning: all parameters, with small steps
    for param in model_conv.parameters():
        param.requires_grad = True
    optimizer_ft = optim.SGD(model_conv.parameters(), lr=0.005, momentum=0.9)
    exp_lr_scheduler = lr_scheduler.StepLR(optimizer_ft, step_size=5, gamma=0.1)
    model_ft = train_model(model_conv, criterion, optimizer_ft, exp_lr_scheduler, num_epochs=8)
    print(f"Finetuned: test acc {test_accuracy(model_ft):.4f}")
