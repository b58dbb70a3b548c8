# Two digits a plate: which digits are on it? (multi-label, K-fold baseline)
import os
import tempfile

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import f1_score
from sklearn.model_selection import KFold
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


class CFG:
    seed = 42
    n_fold = 3
    epochs = 12
    batch_size = 32
    lr = 3e-3
    weight_decay = 1e-4
    max_grad_norm = 5.0
    num_classes = 10
    threshold = 0.5
    mean, std = 0.16, 0.30


# ====================================================
# Data
# ====================================================
def make_plates(count, seed):
    left, first = draw_digits(count, seed=seed)
    right, second = draw_digits(count, seed=seed + 1)
    images = torch.cat([left, right], dim=3).numpy()
    labels = [f"{a} {b}" for a, b in zip(first.tolist(), second.tolist())]
    return images, pd.DataFrame({"image_id": np.arange(count), "labels": labels})


def multi_hot(df):
    targets = np.zeros((len(df), CFG.num_classes), dtype=np.float32)
    for row, labels in enumerate(df["labels"].str.split()):
        targets[row, [int(label) for label in labels]] = 1.0
    return targets


class PlateDataset(Dataset):
    def __init__(self, df, images, augment=False):
        self.ids = df["image_id"].values
        self.targets = multi_hot(df)
        self.images = images
        self.augment = augment

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        image = self.images[self.ids[i]].astype(np.float32) / 255.0
        if self.augment:
            image = np.roll(image, np.random.randint(-1, 2), axis=1)
            image = np.roll(image, np.random.randint(-1, 2), axis=2)
        image = (image - CFG.mean) / CFG.std
        return torch.from_numpy(image), torch.from_numpy(self.targets[i])


# ====================================================
# Model
# ====================================================
def conv_bn(n_in, n_out):
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU())


class PlateNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(
            conv_bn(1, 12), nn.MaxPool2d(2), conv_bn(12, 24), nn.MaxPool2d(2), conv_bn(24, 48), nn.AdaptiveMaxPool2d((2, 4)),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(48 * 8, num_classes))

    def forward(self, x):
        return self.head(self.body(x))


# ====================================================
# Train and validate
# ====================================================
def get_score(y_true, y_prob):
    return f1_score(y_true, y_prob > CFG.threshold, average="macro", zero_division=0)


def train_fn(loader, model, criterion, optimizer):
    model.train()
    total = 0.0
    for images, targets in loader:
        optimizer.zero_grad()
        loss = criterion(model(images), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
        optimizer.step()
        total += loss.item() * len(images)
    return total / len(loader.dataset)


def predict_fn(loader, model):
    model.eval()
    probs = []
    with torch.no_grad():
        for images, _ in loader:
            logits = model(images)
            probs.append(torch.sigmoid(logits).numpy())
    return np.concatenate(probs)


def run_fold(fold, df, images, folder):
    train_set = PlateDataset(df[df["fold"] != fold], images, augment=True)
    valid_set = PlateDataset(df[df["fold"] == fold], images)
    train_loader = DataLoader(train_set, batch_size=CFG.batch_size, shuffle=True)
    valid_loader = DataLoader(valid_set, batch_size=100, shuffle=False)

    model = PlateNet(CFG.num_classes)
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.2, patience=1)

    best_score, best_probs = -1.0, None
    for epoch in range(CFG.epochs):
        avg_loss = train_fn(train_loader, model, criterion, optimizer)
        probs = predict_fn(valid_loader, model)
        score = get_score(valid_set.targets, probs)
        scheduler.step(score)
        print(f"Fold {fold} Epoch {epoch + 1} - avg_train_loss: {avg_loss:.4f} Score: {score:.4f}")
        if score > best_score:
            best_score, best_probs = score, probs
            torch.save(model.state_dict(), os.path.join(folder, f"fold{fold}_best.pth"))
    return best_probs


if __name__ == "__main__":
    np.random.seed(CFG.seed)
    torch.manual_seed(CFG.seed)
    folder = tempfile.mkdtemp()
    train_images, train = make_plates(1200, seed=100)
    test_images, test = make_plates(300, seed=200)

    train["fold"] = -1
    kfold = KFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
    for n, (_, valid_idx) in enumerate(kfold.split(train)):
        train.loc[valid_idx, "fold"] = n

    oof = np.zeros((len(train), CFG.num_classes))
    test_probs = np.zeros((len(test), CFG.num_classes))
    test_loader = DataLoader(PlateDataset(test, test_images), batch_size=100)
    for n in range(CFG.n_fold):
        oof[train["fold"] == n] = run_fold(n, train, train_images, folder)
        net = PlateNet(CFG.num_classes)
        net.load_state_dict(torch.load(os.path.join(folder, f"fold{n}_best.pth")))
        test_probs += predict_fn(test_loader, net) / CFG.n_fold
    print(f"========== CV: {get_score(multi_hot(train), oof):.4f}")
    print(f"========== test: {get_score(multi_hot(test), test_probs):.4f}")
