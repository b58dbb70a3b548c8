"""Skin lesion classification (benign / malignant), baseline CNN.

Every patient has a few photographs. Malignant lesions are rare, so the training
batches are balanced with a weighted sampler. Metrics: ROC AUC, F1, sensitivity.
"""
import copy
import random

import numpy as np
import torch
import torch.nn as nn
from scipy.ndimage import gaussian_filter
from sklearn.metrics import f1_score, recall_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler


class CFG:
    seed = 42
    img_size = 32
    n_patients = 280
    malignant_rate = 0.2
    batch_size = 16
    epochs = 14
    max_lr = 3e-3
    weight_decay = 1e-2
    device = "cuda" if torch.cuda.is_available() else "cpu"


# ----------------------------------------------------------------- data
def photograph(rng, skin, texture, pigment, shape, spots):
    size = CFG.img_size
    yy, xx = np.mgrid[:size, :size] / size - 0.5
    cy, cx = rng.uniform(-0.08, 0.08, 2)
    angle = np.arctan2(yy - cy, xx - cx) + rng.uniform(0, 2 * np.pi)
    radius = np.hypot(yy - cy, xx - cx)
    border = shape["radius"] * (1 + sum(a * np.cos(k * angle + p) for k, a, p in shape["waves"]))
    mask = 1 / (1 + np.exp((radius - border) / 0.015))
    dark = mask[..., None] * (pigment + spots[..., None] * 0.15)
    image = skin + texture[..., None] * 0.08 - dark
    image = image * rng.uniform(0.9, 1.1) + rng.normal(0, 0.05, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8)


def make_dataset():
    rng = np.random.default_rng(CFG.seed)
    size = CFG.img_size
    images, targets, patients = [], [], []
    for patient in range(CFG.n_patients):
        malignant = rng.random() < CFG.malignant_rate
        skin = np.array([0.85, 0.68, 0.58]) + rng.normal(0, 0.06, 3)
        pigment = np.array([0.30, 0.35, 0.32]) + rng.normal(0, 0.07, 3)
        texture = gaussian_filter(rng.normal(size=(size, size)), 2)
        texture /= texture.std()
        spots = gaussian_filter(rng.normal(size=(size, size)), 2)
        spots *= (rng.uniform(0.3, 0.9) if malignant else rng.uniform(0.0, 0.6)) / spots.std()
        rough = rng.uniform(0.08, 0.22) if malignant else rng.uniform(0.0, 0.12)
        shape = {"radius": rng.uniform(0.2, 0.3),
                 "waves": [(k, rough * rng.uniform(0.5, 1.0), rng.uniform(0, 6.3)) for k in (3, 5, 7)]}
        for _ in range(rng.integers(3, 7)):
            images.append(photograph(rng, skin, texture, pigment, shape, spots))
            targets.append(int(malignant))
            patients.append(patient)
    return np.stack(images), np.array(targets), np.array(patients)


class LesionDataset(Dataset):
    def __init__(self, images, targets, mean, std, augment=False):
        self.images, self.targets = images, targets
        self.mean, self.std = mean, std
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = self.images[idx].astype(np.float32) / 255.0
        if self.augment:
            image = np.rot90(image, k=random.randint(0, 3))
            if random.random() < 0.5:
                image = image[:, ::-1]
        image = (image - self.mean) / self.std
        image = image.transpose(2, 0, 1)
        return torch.tensor(image.copy()), torch.tensor(self.targets[idx], dtype=torch.float32)


# ---------------------------------------------------------------- model
def conv_block(in_ch, out_ch):
    return nn.Sequential(
        nn.Conv2d(in_ch, out_ch, 3, padding=1, bias=False), nn.BatchNorm2d(out_ch),
        nn.ReLU(inplace=True), nn.MaxPool2d(2))


class LesionNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(conv_block(3, 16), conv_block(16, 32), conv_block(32, 64))
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 1))

    def forward(self, x):
        return self.head(self.features(x)).squeeze(1)


class BestCheckpoint:
    """Keeps a copy of the weights with the best score seen so far."""
    def __init__(self, mode="min"):
        self.mode = mode
        self.best_score = None
        self.state_dict = None

    def __call__(self, score, model):
        sign = -1 if self.mode == "min" else 1
        if self.best_score is None or sign * score > sign * self.best_score:
            self.best_score = score
            self.state_dict = copy.deepcopy(model.state_dict())


# ------------------------------------------------------------- training
def train_one_epoch(model, loader, criterion, optimizer, scheduler):
    model.train()
    total = 0.0
    for images, targets in loader:
        images, targets = images.to(CFG.device), targets.to(CFG.device)
        optimizer.zero_grad()
        logits = model(images)
        loss = criterion(logits, targets)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    probs, targets = [], []
    for images, labels in loader:
        logits = model(images.to(CFG.device))
        probs.append(torch.sigmoid(logits).cpu().numpy())
        targets.append(labels.numpy())
    probs, targets = np.concatenate(probs), np.concatenate(targets)
    preds = (probs > 0.5).astype(int)
    return {
        "auc": roc_auc_score(targets, probs),
        "f1": f1_score(targets, preds, zero_division=0),
        "sensitivity": recall_score(targets, preds),
    }


def main():
    random.seed(CFG.seed)
    torch.manual_seed(CFG.seed)
    images, targets, patients = make_dataset()

    folds = np.zeros(len(targets), dtype=int)
    splitter = StratifiedGroupKFold(n_splits=5, shuffle=True, random_state=CFG.seed)
    for fold, (_, index) in enumerate(splitter.split(images, targets, patients)):
        folds[index] = fold
    train, valid, test = folds >= 2, folds == 1, folds == 0
    print(f"train {train.sum()}  valid {valid.sum()}  test {test.sum()}  malignant {targets.mean():.3f}")

    mean = (images[train] / 255.0).mean(axis=(0, 1, 2)).astype(np.float32)
    std = (images[train] / 255.0).std(axis=(0, 1, 2)).astype(np.float32)
    train_ds = LesionDataset(images[train], targets[train], mean, std, augment=True)
    valid_ds = LesionDataset(images[valid], targets[valid], mean, std)
    test_ds = LesionDataset(images[test], targets[test], mean, std)

    class_weights = 1.0 / np.bincount(targets[train])
    sample_weights = class_weights[targets[train]]
    sampler = WeightedRandomSampler(sample_weights, num_samples=len(train_ds), replacement=True)

    train_loader = DataLoader(train_ds, CFG.batch_size, sampler=sampler, drop_last=True)
    valid_loader = DataLoader(valid_ds, CFG.batch_size)
    test_loader = DataLoader(test_ds, CFG.batch_size)

    model = LesionNet().to(CFG.device)
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.max_lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=CFG.max_lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader))
    checkpoint = BestCheckpoint(mode="max")

    for epoch in range(1, CFG.epochs + 1):
        loss = train_one_epoch(model, train_loader, criterion, optimizer, scheduler)
        scores = evaluate(model, valid_loader)
        checkpoint(scores["auc"], model)
        print(f"epoch {epoch:2d}  loss {loss:.4f}  " + "  ".join(f"{k} {v:.4f}" for k, v in scores.items()))

    model.load_state_dict(checkpoint.state_dict)
    scores = evaluate(model, test_loader)
    print("test  " + "  ".join(f"{k} {v:.4f}" for k, v in scores.items()))


if __name__ == "__main__":
    main()
