"""Transfer learning tutorial: a network trained on digits is finetuned to tell odd symbols apart from few examples."""

import argparse
import copy
import os
import tempfile
import time

import torch
import torch.nn as nn
import torch.optim as optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits

MEAN, STD = 0.22, 0.28


class SymbolDataset(Dataset):
    """Digits in three groups: without holes or bars (1, 7), closed loops (0, 6, 8, 9), open curves (2, 3, 4, 5)."""

    groups = {1: 0, 7: 0, 0: 1, 6: 1, 8: 1, 9: 1, 2: 2, 3: 2, 4: 2, 5: 2}
    classes = ["stroke", "loop", "curve"]

    def __init__(self, count, seed, transform):
        self.images, digits = draw_digits(count, seed=seed, noise=0.2)
        self.targets = [self.groups[d] for d in digits.tolist()]
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), self.targets[index]


def to_tensor(image):
    return (image.float() / 255 - MEAN) / STD


def random_shift_erase(image):
    image = to_tensor(image)
    image = image.roll(tuple(torch.randint(-3, 4, (2,)).tolist()), (-2, -1))
    top, left = torch.randint(0, 11, (2,)).tolist()
    image[:, top : top + 6, left : left + 6] = 0
    return image


data_transforms = {"train": random_shift_erase, "val": to_tensor}


class SmallNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten(),
        )
        self.fc = nn.Linear(256, num_classes)

    def forward(self, x):
        return self.fc(self.features(x))


def pretrain(path, epochs=4):
    """Stands for the download of pretrained weights: learns the ten digits."""
    images, labels = draw_digits(2000, seed=100, noise=0.2)
    inputs = to_tensor(images)
    model = nn.DataParallel(SmallNet())
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for index in torch.randperm(len(inputs)).split(100):
            loss = nn.functional.cross_entropy(model(inputs[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print(f"pretrained to loss {loss.item():.3f}")
    torch.save({"state_dict": model.state_dict()}, path)


def load_pretrained(path):
    model = SmallNet()
    state = torch.load(path)["state_dict"]
    state = {key.removeprefix("module."): value for key, value in state.items()}
    missing = model.load_state_dict(state, strict=False)
    return model


def train_model(model, dataloaders, dataset_sizes, criterion, optimizer, scheduler, num_epochs):
    since = time.time()
    best_model_wts = copy.deepcopy(model.state_dict())
    best_acc = 0.0
    for epoch in range(num_epochs):
        line = f"Epoch {epoch}/{num_epochs - 1}"
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
                running_corrects += torch.sum(preds == labels.data).item()
            if phase == "train":
                scheduler.step()
            epoch_loss = running_loss / dataset_sizes[phase]
            epoch_acc = running_corrects / dataset_sizes[phase]
            line += f"  {phase} Loss: {epoch_loss:.4f} Acc: {epoch_acc:.4f}"
            if phase == "val" and epoch_acc > best_acc:
                best_acc = epoch_acc
                best_model_wts = copy.deepcopy(model.state_dict())
        print(line)
    print(f"Training complete in {time.time() - since:.0f}s, best val Acc: {best_acc:4f}")
    model.load_state_dict(best_model_wts)
    return model


@torch.no_grad()
def final_check(model, loader):
    model.eval()
    hits = sum((model(inputs).argmax(1) == labels).sum().item() for inputs, labels in loader)
    print(f"accuracy of the returned model: {hits / len(loader.dataset):.4f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--finetune", action="store_true", help="train all layers, not only the new one")
    args = parser.parse_args()
    torch.manual_seed(0)

    path = os.path.join(tempfile.mkdtemp(), "smallnet.pth")
    pretrain(path)
    datasets = {
        "train": SymbolDataset(320, 200, data_transforms["train"]),
        "val": SymbolDataset(240, 201, data_transforms["val"]),
    }
    dataloaders = {phase: DataLoader(datasets[phase], batch_size=args.batch_size, shuffle=phase == "train") for phase in datasets}
    dataset_sizes = {phase: len(datasets[phase]) for phase in datasets}

    model = load_pretrained(path)
    if not args.finetune:
        for param in model.parameters():
            param.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, len(SymbolDataset.classes))
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=6, gamma=0.3)
    model = train_model(model, dataloaders, dataset_sizes, criterion, optimizer, scheduler, args.epochs)
    final_check(model, dataloaders["val"])


if __name__ == "__main__":
    main()
