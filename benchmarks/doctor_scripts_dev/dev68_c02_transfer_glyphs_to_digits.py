"""Transfer learning tutorial: a backbone pretrained on rendered letters, fine-tuned on a few digits.

1. pretrain a small CNN on 26 classes of rendered letters
2. freeze the backbone and train a new head on 20 pictures of each digit
3. unfreeze everything and fine-tune with discriminative learning rates
"""
import copy
import string

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset, TensorDataset

torch.manual_seed(1)
rng = np.random.default_rng(1)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
dtype = torch.float32
SIZE = 24
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def render_letter(char):
    canvas = Image.new("L", (40, 40), 0)
    ImageDraw.Draw(canvas).text((12, 10), char, fill=255, font=ImageFont.load_default())
    glyph = canvas.crop(canvas.getbbox())
    w, h = int(rng.integers(9, 16)), int(rng.integers(14, 21))
    out = Image.new("L", (SIZE, SIZE), 0)
    out.paste(glyph.resize((w, h), Image.BILINEAR), (int(rng.integers(2, 22 - w)), int(rng.integers(1, 24 - h))))
    return np.asarray(out.rotate(float(rng.uniform(-15, 15)), Image.BILINEAR), dtype=np.float32)


def make_letters(n_per_class):
    letters = string.ascii_uppercase
    x = np.stack([render_letter(c) for c in letters for _ in range(n_per_class)]) / 255.0
    x = np.clip(x + rng.normal(0, 0.1, x.shape), 0, 1)
    return torch.tensor(x, dtype=torch.float32).unsqueeze(1), torch.arange(26).repeat_interleave(n_per_class)


def find_classes(names):
    return sorted(set(names))


class DigitPictures(Dataset):
    """Digits with their names as labels, laid out like an image folder."""

    def __init__(self, images, names, mean, std):
        self.classes = find_classes(names)
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.names = names
        x = torch.tensor(images, dtype=torch.float32).unsqueeze(1)
        x = F.interpolate(x, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        self.images = (x - mean) / std

    def __len__(self):
        return len(self.names)

    def __getitem__(self, i):
        return self.images[i], self.class_to_idx[self.names[i]]


def get_digits(mean, std):
    digits = load_digits()
    images = digits.images / 16.0
    names = [NAMES[t] for t in digits.target]
    rest, train = train_test_split(np.arange(len(names)), test_size=200, stratify=names, random_state=0)
    test, val = train_test_split(rest, test_size=300, stratify=[names[i] for i in rest], random_state=0)
    return {k: DigitPictures(images[idx], [names[i] for i in idx], mean, std)
            for k, idx in (("train", train), ("val", val), ("test", test))}


def conv_block(ni, no):
    return nn.Sequential(nn.Conv2d(ni, no, 3, padding=1, bias=False), nn.BatchNorm2d(no), nn.ReLU(inplace=True))


class Backbone(nn.Sequential):
    def __init__(self):
        super().__init__(conv_block(1, 16), nn.MaxPool2d(2), conv_block(16, 32), nn.MaxPool2d(2),
                         conv_block(32, 64), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.num_features = 64 * 4


class TransferNet(nn.Module):
    def __init__(self, backbone, num_classes):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(backbone.num_features, num_classes))
        self.frozen = False

    def set_frozen(self, frozen):
        self.frozen = frozen
        for param in self.backbone.parameters():
            param.requires_grad = not frozen

    def train(self, mode=True):
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, x):
        return self.head(self.backbone(x))


def run_epoch(model, loader, criterion, phase, optimizer=None):
    model.train(phase == "train")
    running_loss, running_corrects, total = 0.0, 0, 0
    for inputs, labels in loader:
        inputs, labels = inputs.to(device, dtype), labels.to(device)
        with torch.set_grad_enabled(phase == "train"):
            outputs = model(inputs).float()
            loss = criterion(outputs, labels)
            if phase == "train":
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        running_loss += loss.item() * inputs.size(0)
        running_corrects += (outputs.argmax(1) == labels).sum().item()
        total += inputs.size(0)
    return running_loss / total, running_corrects / total


def train_model(model, loaders, criterion, optimizer, scheduler, num_epochs):
    best_model_wts = copy.deepcopy(model.state_dict())
    best_loss = float("inf")
    for epoch in range(num_epochs):
        train_loss, train_acc = run_epoch(model, loaders["train"], criterion, "train", optimizer)
        scheduler.step()
        val_loss, val_acc = run_epoch(model, loaders["val"], criterion, "val")
        print(f"Epoch {epoch + 1}/{num_epochs} train loss {train_loss:.4f} acc {train_acc:.4f} "
              f"val loss {val_loss:.4f} acc {val_acc:.4f}")
        if val_loss < best_loss:
            best_loss = val_loss
            best_model_wts = copy.deepcopy(model.state_dict())
    model.load_state_dict(best_model_wts)
    return model


def pretrain(num_epochs=6):
    x, y = make_letters(100)
    mean, std = x.mean(), x.std()
    loader = DataLoader(TensorDataset((x - mean) / std, y), batch_size=64, shuffle=True)
    backbone = Backbone()
    model = nn.Sequential(backbone, nn.Linear(backbone.num_features, 26)).to(device, dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(num_epochs):
        loss, acc = run_epoch(model, loader, nn.CrossEntropyLoss(), "train", optimizer)
        print(f"Pretrain {epoch + 1}/{num_epochs} loss {loss:.4f} acc {acc:.4f}")
    return backbone, mean, std


def main():
    backbone, mean, std = pretrain()
    loaders = {k: DataLoader(d, batch_size=20, shuffle=(k == "train")) for k, d in get_digits(mean, std).items()}
    model = TransferNet(backbone, num_classes=len(NAMES)).to(device, dtype)
    criterion = nn.CrossEntropyLoss()

    print("Training the head")
    model.set_frozen(True)
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.01, momentum=0.9)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    model = train_model(model, loaders, criterion, optimizer, scheduler, num_epochs=10)
    print("Test acc with a frozen backbone: %.4f" % run_epoch(model, loaders["test"], criterion, "test")[1])

    print("Fine-tuning")
    model.set_frozen(False)
    groups = [{"params": [p for p in model.backbone.parameters() if p.requires_grad], "lr": 0.003},
              {"params": [p for p in model.head.parameters() if p.requires_grad]}]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9, weight_decay=1e-4)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.1)
    model = train_model(model, loaders, criterion, optimizer, scheduler, num_epochs=15)
    print("Test acc after fine-tuning: %.4f" % run_epoch(model, loaders["test"], criterion, "test")[1])


if __name__ == "__main__":
    main()
