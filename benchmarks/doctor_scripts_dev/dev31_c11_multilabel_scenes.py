"""Multi-label: which of six things are in the scene? BCE with pos_weight, macro F1 and mean average precision."""

import time

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import average_precision_score, f1_score
from torch.utils.data import DataLoader, Dataset

from toydata import COLORS, NAMES, shape_mask

CFG = dict(size=24, n_train=900, n_valid=240, bs=30, lr=3e-3, epochs=14, seed=2021)


def seed_everything(seed):
    np.random.seed(seed)
    torch.manual_seed(seed)


class SceneDataset(Dataset):
    """One to four things in the four quarters of an image; rarer the higher the index."""

    def __init__(self, count, seed, size=24, train=False):
        rng = np.random.default_rng(seed)
        weights = np.array([0.24, 0.2, 0.18, 0.15, 0.13, 0.1])
        self.train = train
        self.images = np.full((count, 3, size, size), 0.5, dtype=np.float32)
        self.labels = np.zeros((count, len(NAMES)), dtype=np.float32)
        half = size // 2
        for i in range(count):
            for quarter in rng.permutation(4)[: rng.integers(1, 5)].tolist():
                k = rng.choice(len(NAMES), p=weights)
                color, kind = NAMES[k].split()
                width = int(rng.integers(8, 11))
                top = (quarter // 2) * half + int(rng.integers(0, half - width + 1))
                left = (quarter % 2) * half + int(rng.integers(0, half - width + 1))
                mask = shape_mask(kind, size, top, left, width).numpy()
                self.images[i][:, mask] = np.array(COLORS[color], dtype=np.float32)[:, None]
                self.labels[i, k] = 1
        self.images += 0.07 * rng.standard_normal(self.images.shape).astype(np.float32)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = self.images[idx]
        if self.train:
            if np.random.rand() < 0.5:
                image = image[:, :, ::-1]
            if np.random.rand() < 0.5:
                image = image[:, ::-1]
        image = (np.ascontiguousarray(image) - 0.5) / 0.25
        return torch.from_numpy(image), torch.from_numpy(self.labels[idx])


class SceneModel(nn.Module):
    def __init__(self, n_out):
        super().__init__()
        layers, channels = [], 3
        for out, pool in ((24, True), (48, True), (64, False)):
            layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2)] if pool else []
            channels = out
        self.backbone = nn.Sequential(*layers)
        self.head = nn.Linear(channels, n_out)

    def forward(self, x):
        x = self.backbone(x)
        x = x.amax(dim=(2, 3))  # a thing counts wherever it is
        return self.head(x)


def train_fn(loader, model, criterion, optimizer, scheduler):
    model.train()
    losses, n = 0.0, 0
    for images, labels in loader:
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        losses += loss.item() * len(images)
        n += len(images)
    return losses / n


def valid_fn(loader, model, criterion):
    model.eval()
    losses, preds, trues = 0.0, [], []
    for images, labels in loader:
        with torch.no_grad():
            y_preds = model(images)
        losses += criterion(y_preds, labels).item() * len(images)
        preds.append(y_preds.sigmoid().numpy())
        trues.append(labels.numpy())
    preds, trues = np.concatenate(preds), np.concatenate(trues)
    f1 = f1_score(trues, preds > 0.5, average="macro", zero_division=0)
    return losses / len(preds), f1, average_precision_score(trues, preds, average="macro")


def main():
    seed_everything(CFG["seed"])
    torch.set_num_threads(1)
    train_dataset = SceneDataset(CFG["n_train"], seed=1, size=CFG["size"], train=True)
    valid_dataset = SceneDataset(CFG["n_valid"], seed=2, size=CFG["size"])
    train_loader = DataLoader(train_dataset, batch_size=CFG["bs"], shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_dataset, batch_size=2 * CFG["bs"], shuffle=False)
    share = train_dataset.labels.mean(0)
    pos_weight = torch.from_numpy(np.sqrt((1 - share) / share))
    criterion = nn.BCEWithLogitsLoss(pos_weight=pos_weight)
    model = SceneModel(len(NAMES))
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG["lr"], weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=CFG["epochs"] * len(train_loader))
    best = 0.0
    for epoch in range(CFG["epochs"]):
        start = time.time()
        avg_loss = train_fn(train_loader, model, criterion, optimizer, scheduler)
        avg_val_loss, f1, mean_ap = valid_fn(valid_loader, model, criterion)
        best = max(best, f1)
        print(f"Epoch {epoch + 1} - train {avg_loss:.4f} val {avg_val_loss:.4f} F1 {f1:.4f} mAP {mean_ap:.4f} "
              f"time {time.time() - start:.0f}s")
    print(f"best F1 {best:.4f}")


if __name__ == "__main__":
    main()
