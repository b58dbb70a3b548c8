# Transfer learning notebook: learn 0 to 5 with plenty of data, then fine-tune on a few hundred of 6 to 9.

import os
import tempfile

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits

SEED = 2024
np.random.seed(SEED)
torch.manual_seed(SEED)

# %% Data
images, digits = draw_digits(2400, seed=5, noise=0.12)
df = pd.DataFrame({"image_id": np.arange(len(digits)), "digit": digits.numpy()})
source_df = df[df.digit < 6]
target_df = df[df.digit >= 6]
print(df.digit.value_counts().sort_index())

train_df, rest_df = train_test_split(target_df, train_size=400, stratify=target_df.digit, random_state=SEED)
val_df, test_df = train_test_split(rest_df, train_size=300, stratify=rest_df.digit, random_state=SEED)

classes = sorted(train_df.digit.unique())
class_to_index = {digit: index for index, digit in enumerate(classes)}


def encode(frame):
    return frame.assign(label=frame.digit.map(class_to_index))


train_df, val_df, test_df = encode(train_df), encode(val_df), encode(test_df)
source_df = source_df.assign(label=source_df.digit)


class DigitFrame(Dataset):
    def __init__(self, frame, augment=False):
        self.ids, self.labels, self.augment = frame.image_id.tolist(), frame.label.tolist(), augment

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        x = images[self.ids[i]].float() / 255
        if self.augment:
            top, left = torch.randint(0, 3, (2,)).tolist()
            x = F.pad(x, [1, 1, 1, 1])[:, top : top + 16, left : left + 16]
        return (x - 0.18) / 0.3, self.labels[i]


source_dl = DataLoader(DigitFrame(source_df, augment=True), batch_size=64, shuffle=True)
train_dl = DataLoader(DigitFrame(train_df, augment=True), batch_size=32, shuffle=True)
val_dl = DataLoader(DigitFrame(val_df), batch_size=128)
test_dl = DataLoader(DigitFrame(test_df), batch_size=128)


# %% Network
def stage(n_in, n_out, pool):
    layers = [nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2)) if pool else nn.Sequential(*layers)


class Net(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.features = nn.Sequential(
            stage(1, 16, pool=False),
            stage(16, 32, pool=True),
            stage(32, 48, pool=True),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(48 * 4, n_classes))

    def forward(self, x):
        return self.classifier(self.features(x))


def run_epoch(net, loader, optimizer):
    net.train()
    total = 0.0
    for x, y in loader:
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
    return total / len(loader.dataset)


def accuracy(net, loader):
    net.eval()
    correct = 0
    with torch.no_grad():
        for x, y in loader:
            correct += (net(x).argmax(1) == y).sum().item()
    return correct / len(loader.dataset)


# %% Pretraining
path = os.path.join(tempfile.mkdtemp(), "pretrained.pt")
teacher = Net(n_classes=6)
optimizer = torch.optim.Adam(teacher.parameters(), lr=2e-3)
for epoch in range(6):
    print("pretraining", epoch, round(run_epoch(teacher, source_dl, optimizer), 4))
torch.save(teacher.state_dict(), path)

# %% Fine-tuning
net = Net(n_classes=6)
state = torch.load(path, weights_only=True)
features = {name[len("features.") :]: tensor for name, tensor in state.items() if name.startswith("features.")}
net.features.load_state_dict(features)
net.classifier[-1] = nn.Linear(net.classifier[-1].in_features, len(classes))
net.features[0].requires_grad_(False)

groups = [
    {"params": net.features[1:].parameters(), "lr": 0.003},
    {"params": net.classifier.parameters(), "lr": 0.03},
]
optimizer = torch.optim.SGD(groups, lr=0.003, momentum=0.9, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=15)
history, best = [], 0.0
best_path = os.path.join(os.path.dirname(path), "best.pt")
for epoch in range(15):
    train_loss = run_epoch(net, train_dl, optimizer)
    val_acc = accuracy(net, val_dl)
    scheduler.step()
    history.append({"epoch": epoch, "train_loss": train_loss, "val_acc": val_acc})
    if val_acc > best:
        best = val_acc
        torch.save(net.state_dict(), best_path)

# %% Report
print(pd.DataFrame(history).round(4).to_string(index=False))
net.load_state_dict(torch.load(best_path, weights_only=True))
print(f"best validation accuracy {best:.4f}, test accuracy {accuracy(net, test_dl):.4f}")
