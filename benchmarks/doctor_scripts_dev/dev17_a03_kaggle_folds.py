# %% [code]
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedKFold
from torch.utils.data import DataLoader, Dataset


# %% [code]
class CFG:
    seed = 2023
    n_splits = 4
    epochs = 10
    batch_size = 32
    max_lr = 4e-3
    weight_decay = 1e-4
    num_classes = 10
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)

# %% [code]
digits = load_digits()
df = pd.DataFrame({"id": np.arange(len(digits.target)), "label": digits.target})
df = df.sample(frac=1, random_state=CFG.seed).reset_index(drop=True)
images = digits.images[df.id.values].astype(np.float32) / 16
images = images + np.random.normal(0, 0.25, images.shape).astype(np.float32)  # a cheap scanner
images = np.pad(images, ((0, 0), (1, 1), (1, 1)))

skf = StratifiedKFold(n_splits=CFG.n_splits, shuffle=True, random_state=CFG.seed)
df["fold"] = -1
for fold, (_, val_idx) in enumerate(skf.split(df, df.label)):
    df.loc[val_idx, "fold"] = fold


# %% [code]
def augment(image):
    """Shift by up to a pixel, then erase a patch of 3 x 3 half of the time."""
    top, left = np.random.randint(0, 3, 2)
    image = np.pad(image, 1)[top:top + 10, left:left + 10]
    if np.random.rand() < 0.5:
        top, left = np.random.randint(1, 7, 2)
        image[top:top + 3, left:left + 3] = 0
    return image


class DigitDataset(Dataset):
    def __init__(self, images, labels, mean, std, transform=None):
        self.images, self.labels = images, labels
        self.mean, self.std = mean, std
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = self.images[idx]
        image = self.transform(image) if self.transform else image
        image = (image - self.mean) / self.std
        return torch.tensor(image, dtype=torch.float32)[None], int(self.labels[idx])


class DigitModel(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.25),
            nn.Linear(32 * 25, 64), nn.ReLU(inplace=True),
            nn.Linear(64, num_classes),
        )

    def forward(self, x):
        return self.classifier(self.features(x))


class AverageMeter:
    def __init__(self):
        self.sum = self.count = 0

    def update(self, val, n):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / self.count


# %% [code]
def train_fn(loader, model, criterion, optimizer, scheduler):
    model.train()
    losses = AverageMeter()
    for x, y in loader:
        x, y = x.to(CFG.device), y.to(CFG.device)
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.update(loss.item(), len(y))
    return losses.avg


def valid_fn(loader, model, criterion):
    model.eval()
    losses, preds = AverageMeter(), []
    with torch.no_grad():
        for x, y in loader:
            x, y = x.to(CFG.device), y.to(CFG.device)
            logits = model(x)
            losses.update(criterion(logits, y).item(), len(y))
            preds.append(logits.softmax(1).cpu().numpy())
    return losses.avg, np.concatenate(preds)


def run_fold(fold, model):
    train_mask = (df.fold != fold).values
    train_images, valid_images = images[train_mask], images[~train_mask]
    train_labels, valid_labels = df.label.values[train_mask], df.label.values[~train_mask]
    mean, std = train_images.mean(), train_images.std()

    train_ds = DigitDataset(train_images, train_labels, mean, std, transform=augment)
    valid_ds = DigitDataset(valid_images, valid_labels, mean, std, transform=None)
    train_loader = DataLoader(train_ds, batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_ds, batch_size=128, shuffle=False)

    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.max_lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, CFG.max_lr, CFG.epochs * len(train_loader))
    for epoch in range(CFG.epochs):
        train_loss = train_fn(train_loader, model, criterion, optimizer, scheduler)
        valid_loss, preds = valid_fn(valid_loader, model, criterion)
        score = accuracy_score(valid_labels, preds.argmax(1))
        print(f"Fold {fold} epoch {epoch + 1} - train {train_loss:.4f} valid {valid_loss:.4f} acc {score:.4f}")
    return preds


# %% [code]
oof = np.zeros((len(df), CFG.num_classes))
for fold in range(CFG.n_splits):
    model = DigitModel(CFG.num_classes).to(CFG.device)
    oof[(df.fold == fold).values] = run_fold(fold, model)
print(f"OOF accuracy {accuracy_score(df.label, oof.argmax(1)):.4f}")
