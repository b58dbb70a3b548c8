"""Transfer learning: train on the digits 0 to 4, then fine-tune on few samples of the digits 5 to 9."""

import copy
import time

import torch
import torch.nn as nn
import torch.optim as optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

torch.manual_seed(0)
device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.fc = nn.Linear(64 * 2 * 2, num_classes)

    def forward(self, x):
        return self.fc(torch.flatten(self.features(x), 1))


def train_model(model, criterion, optimizer, scheduler, dataloaders, dataset_sizes, num_epochs=15):
    since = time.time()
    best_model_wts = copy.deepcopy(model.state_dict())
    best_acc = 0.0

    for epoch in range(num_epochs):
        print(f"Epoch {epoch}/{num_epochs - 1}")

        # Each epoch has a training and validation phase
        for phase in ["train", "val"]:
            if phase == "train":
                model.train()
            else:
                model.eval()

            running_loss = 0.0
            running_corrects = 0

            for inputs, labels in dataloaders[phase]:
                inputs = inputs.to(device)
                labels = labels.to(device)
                optimizer.zero_grad()

                with torch.set_grad_enabled(phase == "train"):
                    outputs = model(inputs)
                    _, preds = torch.max(outputs, 1)
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()

                running_loss += loss.item() * inputs.size(0)
                running_corrects += torch.sum(preds == labels.data)

            if phase == "train":
                scheduler.step()

            epoch_loss = running_loss / dataset_sizes[phase]
            epoch_acc = running_corrects.double().item() / dataset_sizes[phase]
            print(f"{phase} Loss: {epoch_loss:.4f} Acc: {epoch_acc:.4f}")

            if phase == "val" and epoch_acc > best_acc:
                best_acc = epoch_acc
                best_model_wts = copy.deepcopy(model.state_dict())

    time_elapsed = time.time() - since
    print(f"Training complete in {time_elapsed // 60:.0f}m {time_elapsed % 60:.0f}s")
    print(f"Best val Acc: {best_acc:.4f}\n")
    model.load_state_dict(best_model_wts)
    return model


def make_loaders(images, labels, num_val):
    """The samples come in random order already: the first ones are kept for validation."""
    sets = {
        "val": TensorDataset(images[:num_val], labels[:num_val]),
        "train": TensorDataset(images[num_val:], labels[num_val:]),
    }
    loaders = {
        "train": DataLoader(sets["train"], batch_size=32, shuffle=True),
        "val": DataLoader(sets["val"], batch_size=100, shuffle=False),
    }
    return loaders, {x: len(sets[x]) for x in ["train", "val"]}


images, labels = draw_digits(9000, seed=0)
base = labels < 5
base_images, base_labels = images[base], labels[base]
new_images, new_labels = images[~base][:1500], labels[~base][:1500] - 5

# statistics of the training part of the base digits, used for all that follows
pixels = base_images[500:].float() / 255
mean, std = pixels.mean(), pixels.std()


def prepare(batch):
    return (batch.float() / 255 - mean) / std


criterion = nn.CrossEntropyLoss()

# Stage 1: the base digits
model = Net(num_classes=5).to(device)
dataloaders, dataset_sizes = make_loaders(prepare(base_images), base_labels, num_val=500)
optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
scheduler = lr_scheduler.StepLR(optimizer, step_size=8, gamma=0.1)
model = train_model(model, criterion, optimizer, scheduler, dataloaders, dataset_sizes, num_epochs=12)

# Stage 2: a new head for the new digits, a smaller learning rate for what was trained before
model.fc = nn.Linear(model.fc.in_features, 5).to(device)
dataloaders, dataset_sizes = make_loaders(prepare(new_images), new_labels, num_val=300)
optimizer = optim.SGD(
    [
        {"params": model.features.parameters(), "lr": 0.002},
        {"params": model.fc.parameters(), "lr": 0.01},
    ],
    momentum=0.9,
)
scheduler = lr_scheduler.StepLR(optimizer, step_size=8, gamma=0.1)
model = train_model(model, criterion, optimizer, scheduler, dataloaders, dataset_sizes, num_epochs=15)

# Test on digits of another seed
test_images, test_labels = draw_digits(1200, seed=1)
chosen = test_labels >= 5
test_images, test_labels = prepare(test_images[chosen]).to(device), (test_labels[chosen] - 5).to(device)
model.eval()
with torch.no_grad():
    predictions = model(test_images).argmax(dim=1)
print(f"Test Acc on the new digits: {(predictions == test_labels).float().mean().item():.4f}")
