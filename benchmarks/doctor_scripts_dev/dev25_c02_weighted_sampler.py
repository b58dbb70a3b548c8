"""Long-tailed shapes: a WeightedRandomSampler shows the rare classes as often as the common ones."""

import random

import torch
import torch.nn as nn
import torch.optim as optim
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from toydata import NAMES, Shapes

SEED = 7
EPOCHS = 28
BATCH_SIZE = 32
KEEP = [400, 240, 150, 90, 60, 40]

torch.manual_seed(SEED)
random.seed(SEED)


class RandomShiftFlip:
    """Flips and shifts; a square stays a square, and red stays red."""

    def __init__(self, pad=2):
        self.pad = pad

    def __call__(self, image):
        if random.random() < 0.5:
            image = image.flip(2)
        if random.random() < 0.5:
            image = image.flip(1)
        size = image.shape[-1]
        padded = nn.functional.pad(image.unsqueeze(0), [self.pad] * 4, mode="replicate")[0]
        top, left = random.randint(0, 2 * self.pad), random.randint(0, 2 * self.pad)
        return padded[:, top : top + size, left : left + size]


def normalize(image):
    return (image - 0.5) / 0.2


class LongTailed(Dataset):
    """The first KEEP[c] samples of each class c."""

    def __init__(self, base, keep, transform):
        self.base, self.transform = base, transform
        seen = [0] * len(keep)
        self.indices = []
        for index, target in enumerate(base.targets):
            if seen[target] < keep[target]:
                seen[target] += 1
                self.indices.append(index)
        self.targets = [base.targets[i] for i in self.indices]

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, item):
        image, target = self.base[self.indices[item]]
        return normalize(self.transform(image)), target


train_dataset = LongTailed(Shapes(train=True, count=2800), KEEP, RandomShiftFlip())
val_dataset = Shapes(train=False, count=480, transform=normalize)

class_sample_count = torch.bincount(torch.tensor(train_dataset.targets), minlength=6)
print("training samples per class:", dict(zip(NAMES, class_sample_count.tolist())))
weight = 1.0 / class_sample_count.double()
samples_weight = weight[torch.tensor(train_dataset.targets)]
sampler = WeightedRandomSampler(samples_weight, num_samples=1280, replacement=True)

train_loader = DataLoader(train_dataset, batch_size=BATCH_SIZE, sampler=sampler)
val_loader = DataLoader(val_dataset, batch_size=120, shuffle=False)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 3, padding=1)
        self.conv2 = nn.Conv2d(24, 48, 3, padding=1)
        self.conv3 = nn.Conv2d(48, 96, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.25)
        self.fc1 = nn.Linear(96 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, 6)

    def forward(self, x):
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = torch.relu(self.conv3(x))
        x = self.dropout(torch.relu(self.fc1(torch.flatten(x, 1))))
        return self.fc2(x)


net = Net()
criterion = nn.CrossEntropyLoss()
optimizer = optim.Adam(net.parameters(), lr=1e-3)


def train():
    net.train()
    total, count = 0.0, 0
    for inputs, labels in train_loader:
        optimizer.zero_grad()
        loss = criterion(net(inputs), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
        count += len(labels)
    return total / count


def evaluate():
    net.eval()
    confusion = torch.zeros(6, 6, dtype=torch.long)
    with torch.no_grad():
        for inputs, labels in val_loader:
            predicted = net(inputs).argmax(dim=1)
            for truth, guess in zip(labels.tolist(), predicted.tolist()):
                confusion[truth, guess] += 1
    recall = confusion.diag().float() / confusion.sum(dim=1)
    return recall.mean().item(), recall.tolist()


for epoch in range(1, EPOCHS + 1):
    train_loss = train()
    balanced, recalls = evaluate()
    print(f"Epoch {epoch:2d} loss {train_loss:.4f} balanced accuracy {balanced:.4f} recalls {[round(r, 2) for r in recalls]}")
