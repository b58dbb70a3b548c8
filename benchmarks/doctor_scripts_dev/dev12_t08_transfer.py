# -*- coding: utf-8 -*-
"""
Transfer learning: a network learns six colored shapes from many images; what it has learned then serves to tell
three kinds of shapes apart in the few pictures of a noisier camera.
"""

import os
import tempfile
import time

import torch
import torch.nn as nn
import torch.optim as optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes, shape_mask

device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
work_dir = tempfile.mkdtemp()
class_names = ["cross", "disc", "square"]


######################################################################
# Data


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def __call__(self, image):
        return (image - self.mean) / self.std


def random_horizontal_flip(image):
    return image.flip(-1) if torch.rand(()) < 0.5 else image


def compose(*transforms):
    def apply(image):
        for transform in transforms:
            image = transform(image)
        return image

    return apply


class CameraShapes(Dataset):
    """A few noisy pictures of each kind, one kind after the other, as files in folders are."""

    def __init__(self, per_class, seed, transform, size=16):
        generator = torch.Generator().manual_seed(seed)
        self.transform, self.samples = transform, []
        paints = torch.tensor([(0.8, 0.3, 0.2), (0.2, 0.3, 0.8)])
        for label, kind in enumerate(class_names):
            for _ in range(per_class):
                width = int(torch.randint(6, 10, (1,), generator=generator))
                top, left = torch.randint(0, size - width + 1, (2,), generator=generator).tolist()
                image = torch.full((3, size, size), 0.5)
                paint = paints[int(torch.randint(0, 2, (1,), generator=generator))]
                image[:, shape_mask(kind, size, top, left, width)] = paint[:, None]
                image = (image + 0.1 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
                self.samples.append((image, label))

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        image, label = self.samples[index]
        return self.transform(image), label


normalize = Normalize([0.5, 0.46, 0.5], [0.15, 0.15, 0.15])
data_transforms = {
    "train": compose(random_horizontal_flip, normalize),
    "val": compose(normalize),
}

######################################################################
# Network


class SmallNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(inplace=True),
            nn.Conv2d(24, 32, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 48, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(48),
            nn.ReLU(inplace=True),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(48, num_classes)

    def forward(self, x):
        x = self.avgpool(self.features(x))
        return self.fc(torch.flatten(x, 1))


def pretrain(path, num_epochs=12):
    """The part that others did for us: a checkpoint of a network that knows six shapes."""
    loader = DataLoader(Shapes(count=1600, transform=normalize), batch_size=32, shuffle=True)
    model = SmallNet(6).to(device)
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(num_epochs):
        hits = 0
        for inputs, labels in loader:
            inputs, labels = inputs.to(device), labels.to(device)
            outputs = model(inputs)
            loss = criterion(outputs, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            hits += (outputs.argmax(1) == labels).sum().item()
        print(f"pretraining {epoch}: accuracy {hits / len(loader.dataset):.4f}")
    torch.save({"state_dict": model.state_dict(), "epoch": num_epochs}, path)


######################################################################
# Training


def train_model(model, dataloaders, dataset_sizes, criterion, optimizer, scheduler, num_epochs=25):
    since = time.time()
    best_path = os.path.join(work_dir, "best_model_params.pt")
    torch.save(model.state_dict(), best_path)
    best_acc = 0.0

    for epoch in range(num_epochs):
        print(f"Epoch {epoch}/{num_epochs - 1}")
        print("-" * 10)
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
                running_corrects += torch.sum(preds == labels.data)
            if phase == "train":
                scheduler.step()

            epoch_loss = running_loss / dataset_sizes[phase]
            epoch_acc = running_corrects.double() / dataset_sizes[phase]
            print(f"{phase} Loss: {epoch_loss:.4f} Acc: {epoch_acc:.4f}")
            if phase == "val" and epoch_acc > best_acc:
                best_acc = epoch_acc
                torch.save(model.state_dict(), best_path)
        print()

    print(f"Training complete in {time.time() - since:.0f}s")
    print(f"Best val Acc: {best_acc:4f}")
    model.load_state_dict(torch.load(best_path))
    return model


def main():
    torch.manual_seed(0)
    checkpoint_path = os.path.join(work_dir, "shapes6.pth")
    pretrain(checkpoint_path)

    image_datasets = {
        "train": CameraShapes(80, seed=1, transform=data_transforms["train"]),
        "val": CameraShapes(50, seed=2, transform=data_transforms["val"]),
    }
    dataloaders = {x: DataLoader(image_datasets[x], batch_size=16, shuffle=x == "train") for x in ["train", "val"]}
    dataset_sizes = {x: len(image_datasets[x]) for x in ["train", "val"]}

    # the network as a fixed feature extractor: all but the last layer stays as it is
    model = SmallNet(6)
    checkpoint = torch.load(checkpoint_path)
    state_dict = {k: v for k, v in checkpoint["state_dict"].items() if not k.startswith("fc.")}
    model.load_state_dict(state_dict, strict=False)
    for param in model.parameters():
        param.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, len(class_names))
    model = model.to(device)

    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.fc.parameters(), lr=0.05, momentum=0.9)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=12, gamma=0.1)
    train_model(model, dataloaders, dataset_sizes, criterion, optimizer, scheduler, num_epochs=25)


if __name__ == "__main__":
    main()
