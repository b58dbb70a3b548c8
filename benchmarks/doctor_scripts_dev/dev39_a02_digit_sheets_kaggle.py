# Which digits are on the sheet?  Multi-label baseline, one fold, local CV.
import os
import tempfile

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import KFold
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


class CFG:
    seed = 42
    n_images = 1200
    n_fold = 5
    trn_fold = 0
    epochs = 10
    batch_size = 24
    max_lr = 6e-3
    weight_decay = 1e-2
    max_grad_norm = 5.0
    threshold = 0.5


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TARGET_COLS = [f"has_{digit}" for digit in range(10)]


def seed_everything(seed):
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_sheets(n, seed):
    """Sheets of 28 x 28 with four places; six of ten places hold a digit."""
    cells, names = draw_digits(4 * n, size=14, seed=seed, noise=0.05)
    cells, names = cells.view(n, 4, 14, 14), names.view(n, 4)
    shown = torch.rand(n, 4, generator=torch.Generator().manual_seed(seed)) < 0.6
    cells = cells * shown[:, :, None, None]
    upper = torch.cat([cells[:, 0], cells[:, 1]], dim=2)
    lower = torch.cat([cells[:, 2], cells[:, 3]], dim=2)
    labels = (nn.functional.one_hot(names, 10) * shown[:, :, None]).amax(dim=1)
    return torch.cat([upper, lower], dim=1).numpy(), labels.numpy()


class SheetDataset(Dataset):
    def __init__(self, df, sheets, mean, std, augment=False):
        self.ids = df["image_id"].to_numpy()
        self.labels = df[TARGET_COLS].to_numpy(dtype=np.float32)
        self.sheets, self.mean, self.std, self.augment = sheets, mean, std, augment

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, idx):
        image = self.sheets[self.ids[idx]].astype(np.float32) / 255.0
        if self.augment:
            image = image * np.random.uniform(0.8, 1.1) + np.random.normal(0, 0.02, image.shape)
        image = (image - self.mean) / self.std
        return torch.from_numpy(image[None]).float(), torch.from_numpy(self.labels[idx])


def conv_block(inp, out):
    return nn.Sequential(nn.Conv2d(inp, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class SheetNet(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.features = nn.Sequential(
            conv_block(1, 16),
            nn.MaxPool2d(2),
            conv_block(16, 32),
            conv_block(32, 32),
            nn.MaxPool2d(2),
            conv_block(32, 64),
        )
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(64, n_classes)

    def forward(self, x):
        x = self.pool(self.features(x)).flatten(1)
        return self.head(self.dropout(x))


def train_fn(loader, model, criterion, optimizer, scheduler):
    model.train()
    running = 0.0
    for images, labels in loader:
        images, labels = images.to(DEVICE), labels.to(DEVICE)
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
        optimizer.step()
        scheduler.step()
        running += loss.item() * len(images)
    return running / len(loader.dataset)


@torch.no_grad()
def valid_fn(loader, model):
    model.eval()
    outputs, targets = [], []
    for images, labels in loader:
        outputs.append(model(images.to(DEVICE)).cpu())
        targets.append(labels)
    targets = torch.cat(targets).int().numpy()
    probs = torch.cat(outputs).sigmoid().numpy()
    preds = (probs > CFG.threshold).astype(int)
    f1 = f1_score(targets, preds, average="macro", zero_division=0)
    return f1, average_precision_score(targets, probs, average="macro")


def main():
    seed_everything(CFG.seed)
    sheets, labels = make_sheets(CFG.n_images, CFG.seed)
    df = pd.DataFrame(labels, columns=TARGET_COLS)
    df.insert(0, "image_id", np.arange(len(df)))
    df["fold"] = -1
    folds = KFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
    for fold, (_, val_rows) in enumerate(folds.split(df)):
        df.loc[val_rows, "fold"] = fold

    train_df = df[df["fold"] != CFG.trn_fold].reset_index(drop=True)
    valid_df = df[df["fold"] == CFG.trn_fold].reset_index(drop=True)
    pixels = sheets[train_df["image_id"].to_numpy()] / 255.0
    mean, std = pixels.mean(), pixels.std()

    train_loader = DataLoader(SheetDataset(train_df, sheets, mean, std, augment=True), CFG.batch_size, shuffle=True)
    valid_loader = DataLoader(SheetDataset(valid_df, sheets, mean, std), 2 * CFG.batch_size, shuffle=False)

    model = SheetNet(len(TARGET_COLS)).to(DEVICE)
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.max_lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=CFG.max_lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader)
    )

    best_f1, path = -1.0, os.path.join(tempfile.mkdtemp(), f"fold{CFG.trn_fold}_best.pth")
    for epoch in range(CFG.epochs):
        avg_loss = train_fn(train_loader, model, criterion, optimizer, scheduler)
        f1, mean_ap = valid_fn(valid_loader, model)
        print(f"Epoch {epoch + 1} - train loss {avg_loss:.4f} - macro F1 {f1:.4f} - mAP {mean_ap:.4f}")
        if f1 > best_f1:
            best_f1 = f1
            torch.save(model.state_dict(), path)

    model.load_state_dict(torch.load(path, map_location=DEVICE))
    f1, mean_ap = valid_fn(valid_loader, model)
    print(f"========== CV: F1 {f1:.4f}, mAP {mean_ap:.4f} ==========")


if __name__ == "__main__":
    main()
