# -*- coding: utf-8 -*-
"""
Transfer learning tutorial: a network that learned digits is fine-tuned on a few images of letters.

1. "Download" a checkpoint (here: train it on digits, and save it as a multi-GPU run would).
2. Load it into a new network, freeze the early layers, replace the head.
3. Fine-tune, keep the best weights.
"""

import copy
import os
import tempfile
import time

import torch
import torch.nn as nn
import torch.optim as optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset

from toydata import Digits

LETTERS = {"A": "25755", "C": "74447", "F": "74744", "H": "55755", "L": "44447", "T": "72222", "X": "55255", "Y": "55222"}

torch.manual_seed(0)


######################################################################
# Load data
# ---------

def to_tensor(image):
    return (image.float() / 255 - 0.25) / 0.3


def random_shift(image):
    dy, dx = torch.randint(-1, 2, (2,)).tolist()
    return torch.roll(image, (dy, dx), (1, 2))


data_transforms = {
    "train": lambda image: random_shift(to_tensor(image)),
    "val": to_tensor,
}


class LetterFolder(Dataset):
    """Images with the names of their classes, numbered as ImageFolder numbers its folders."""

    def __init__(self, count, seed, transform, noise=0.2):
        g = torch.Generator().manual_seed(seed)
        names = sorted(LETTERS)
        self.samples = []
        for _ in range(count):
            name = names[int(torch.randint(0, len(names), (1,), generator=g))]
            rows = torch.tensor([[int(row) >> bit & 1 for bit in (2, 1, 0)] for row in LETTERS[name]]).float()
            glyph = rows.repeat_interleave(2, 0).repeat_interleave(2, 1)
            top, left = torch.randint(1, 6, (2,), generator=g).tolist()
            image = torch.zeros(1, 16, 16)
            image[0, top : top + 10, left + 2 : left + 8] = glyph * (0.7 + 0.3 * torch.rand((), generator=g))
            image = image + noise * torch.randn(image.shape, generator=g)
            self.samples.append(((image.clamp(0, 1) * 255).to(torch.uint8), name))
        self.classes = sorted({name for _, name in self.samples})
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        image, name = self.samples[index]
        return self.transform(image), self.class_to_idx[name]


image_datasets = {
    "train": LetterFolder(240, seed=21, transform=data_transforms["train"]),
    "val": LetterFolder(160, seed=22, transform=data_transforms["val"]),
}
dataloaders = {x: DataLoader(image_datasets[x], batch_size=16, shuffle=(x == "train")) for x in ["train", "val"]}
dataset_sizes = {x: len(image_datasets[x]) for x in ["train", "val"]}
class_names = image_datasets["train"].classes


######################################################################
# The network
# -----------

class BasicBlock(nn.Module):
    def __init__(self, cin, cout, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.down = None
        if stride != 1 or cin != cout:
            self.down = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + (x if self.down is None else self.down(x)))


class TinyResNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layer1 = BasicBlock(16, 16)
        self.layer2 = BasicBlock(16, 32, stride=2)
        self.layer3 = BasicBlock(32, 64, stride=2)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(x.mean((2, 3)))


def pretrain(path, epochs=6):
    model = TinyResNet(10)
    loader = DataLoader(Digits(count=2400, transform=data_transforms["train"], noise=0.2), batch_size=64, shuffle=True)
    opt = optim.Adam(model.parameters(), lr=2e-3)
    model.train()
    for epoch in range(epochs):
        right = seen = 0
        for x, y in loader:
            opt.zero_grad()
            out = model(x)
            nn.functional.cross_entropy(out, y).backward()
            opt.step()
            right += (out.argmax(1) == y).sum().item()
            seen += len(y)
        print(f"digits, epoch {epoch}: train acc {right / seen:.3f}")
    torch.save({"arch": "tinyresnet", "state_dict": {"module." + k: v for k, v in model.state_dict().items()}}, path)


######################################################################
# Training the model
# ------------------

def train_model(model, criterion, optimizer, scheduler, num_epochs=20):
    since = time.time()
    best_model_wts = copy.deepcopy(model.state_dict())
    best_acc = 0.0

    for epoch in range(num_epochs):
        print(f"Epoch {epoch}/{num_epochs - 1}")
        for phase in ["train", "val"]:
            if phase == "train":
                model.train()
            else:
                model.eval()

            running_loss = 0.0
            running_corrects = 0
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
            print(f"{phase} Loss: {epoch_loss:.4f} Acc: {epoch_acc:.4f}")
            if phase == "val" and epoch_acc > best_acc:
                best_acc = epoch_acc
                best_model_wts = copy.deepcopy(model.state_dict())

    print(f"Training complete in {time.time() - since:.0f}s, best val Acc: {best_acc:.4f}")
    model.load_state_dict(best_model_wts)
    return model


######################################################################
# Fine-tuning
# -----------

with tempfile.TemporaryDirectory() as folder:
    checkpoint_path = os.path.join(folder, "digits.pth")
    pretrain(checkpoint_path)
    checkpoint = torch.load(checkpoint_path, map_location="cpu")

model_ft = TinyResNet(len(class_names))
state_dict = {k.removeprefix("module."): v for k, v in checkpoint["state_dict"].items()}
state_dict = {k: v for k, v in state_dict.items() if "fc." not in k}  # the head is new
model_ft.load_state_dict(state_dict, strict=False)
for part in (model_ft.stem, model_ft.layer1, model_ft.layer2):
    for param in part.parameters():
        param.requires_grad = False

criterion = nn.CrossEntropyLoss()
optimizer_ft = optim.SGD(
    [{"params": model_ft.layer3.parameters(), "lr": 0.003}, {"params": model_ft.fc.parameters(), "lr": 0.03}],
    momentum=0.9,
    weight_decay=1e-4,
)
exp_lr_scheduler = lr_scheduler.StepLR(optimizer_ft, step_size=8, gamma=0.2)
model_ft = train_model(model_ft, criterion, optimizer_ft, exp_lr_scheduler, num_epochs=20)
