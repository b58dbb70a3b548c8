"""Defect patterns on wafer maps, some of them rare.

Half of the correction for rare classes is made by the sampler and half by the weights of the loss,
each with the inverse square root of the counts.
"""

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import balanced_accuracy_score, classification_report, f1_score
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

CLASSES = ["none", "edge-ring", "center", "scratch", "donut"]
COUNTS = [1500, 600, 300, 180, 120]
SIZE = 18
EPOCHS = 14


def draw_wafer(kind, rng):
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    radius = np.hypot(x, y)
    shift = rng.uniform(-1.2, 1.2, 2)
    r = np.hypot(x - shift[0], y - shift[1])
    fails = rng.random((SIZE, SIZE)) < rng.uniform(0.05, 0.2)
    if kind == "edge-ring":
        area = radius > SIZE / 2 - rng.uniform(1.5, 2.8)
    elif kind == "center":
        area = r < rng.uniform(2.2, 4.0)
    elif kind == "donut":
        middle = rng.uniform(4.2, 5.5)
        area = np.abs(r - middle) < rng.uniform(1.0, 1.5)
    elif kind == "scratch":
        angle = rng.uniform(0, np.pi)
        across = np.cos(angle) * (x - 2 * shift[0]) + np.sin(angle) * (y - 2 * shift[1])
        area = np.abs(across) < 0.8
    else:
        area = np.zeros_like(fails)
    fails |= area & (rng.random((SIZE, SIZE)) < rng.uniform(0.4, 0.8))
    wafer = np.where(fails, 2, 1)
    wafer[radius > SIZE / 2] = 0
    return wafer


def load_wafers(seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(CLASSES)), COUNTS))
    images = np.stack([draw_wafer(CLASSES[label], rng) for label in labels])
    return images, labels


class WaferDataset(Dataset):
    def __init__(self, images, labels, augment=False):
        self.images = torch.from_numpy(images).float().unsqueeze(1) - 1
        self.labels = torch.from_numpy(labels)
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index]
        if self.augment:
            image = torch.rot90(image, int(torch.randint(0, 4, ())), (1, 2))
            if torch.rand(()) < 0.5:
                image = image.flip(2)
        return image, self.labels[index]


def conv_block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2))


class WaferNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(conv_block(1, 16), conv_block(16, 32))
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, num_classes))

    def forward(self, x):
        return self.classifier(self.features(x))


class WeightedCrossEntropy(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, logits, target):
        log_p = logits.log_softmax(dim=1).gather(1, target.unsqueeze(1)).squeeze(1)
        w = self.weight[target]
        return -(w * log_p).sum() / w.sum()


def predict(model, loader):
    model.eval()
    y_true, y_pred = [], []
    with torch.no_grad():
        for images, labels in loader:
            y_pred.append(model(images).argmax(dim=1))
            y_true.append(labels)
    return torch.cat(y_true).numpy(), torch.cat(y_pred).numpy()


def main():
    torch.manual_seed(0)
    images, labels = load_wafers()
    train_x, val_x, train_y, val_y = train_test_split(images, labels, test_size=0.25, stratify=labels, random_state=0)
    train_set = WaferDataset(train_x, train_y, augment=True)
    val_set = WaferDataset(val_x, val_y)

    class_counts = torch.bincount(train_set.labels, minlength=len(CLASSES)).float()
    class_weights = class_counts.rsqrt() / class_counts.rsqrt().mean()
    sample_weights = class_counts.rsqrt()[train_set.labels]
    sampler = WeightedRandomSampler(sample_weights, num_samples=len(train_set), replacement=True)
    train_loader = DataLoader(train_set, batch_size=64, sampler=sampler, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=225)

    model = WaferNet(len(CLASSES))
    criterion = WeightedCrossEntropy(class_weights)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)

    for epoch in range(EPOCHS):
        model.train()
        losses = []
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        scheduler.step()
        y_true, y_pred = predict(model, val_loader)
        print(f"epoch {epoch + 1:2d} | loss {np.mean(losses):.4f} "
              f"| balanced acc {balanced_accuracy_score(y_true, y_pred):.4f} "
              f"| macro F1 {f1_score(y_true, y_pred, average='macro'):.4f}")

    print(classification_report(y_true, y_pred, target_names=CLASSES, digits=3, zero_division=0))


if __name__ == "__main__":
    main()
