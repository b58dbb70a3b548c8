# ====================================================
# Shapes-in-a-scene: multi-label baseline (single fold)
# ====================================================
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.preprocessing import MultiLabelBinarizer
from torch.utils.data import DataLoader, Dataset

from toydata import COLORS, NAMES, shape_mask


class CFG:
    seed = 42
    n_images = 1200
    size = 24
    epochs = 12
    batch_size = 32
    lr = 2e-3
    weight_decay = 1e-4
    valid_frac = 0.2
    threshold = 0.5
    target_cols = NAMES


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


# ====================================================
# Data: 1 to 3 shapes, each in a quadrant of its own
# ====================================================
def make_scenes(n, size, seed):
    rng = np.random.default_rng(seed)
    images, rows = [], []
    for i in range(n):
        canvas = torch.full((3, size, size), 0.5)
        k = int(rng.integers(1, 4))
        tags = [NAMES[j] for j in rng.choice(len(NAMES), k, replace=False)]
        for tag, quadrant in zip(tags, rng.permutation(4)[:k]):
            color, kind = tag.split()
            width = int(rng.integers(7, 11))
            top = int(rng.integers(0, size // 2 - width + 1)) + size // 2 * int(quadrant // 2)
            left = int(rng.integers(0, size // 2 - width + 1)) + size // 2 * int(quadrant % 2)
            mask = shape_mask(kind, size, top, left, width)
            canvas[:, mask] = torch.tensor(COLORS[color])[:, None]
        noise = torch.from_numpy(rng.normal(0, 0.05, canvas.shape)).float()
        images.append((canvas + noise).clamp(0, 1).numpy())
        rows.append({"image_id": i, "tags": ";".join(sorted(tags))})
    return np.stack(images), pd.DataFrame(rows)


class SceneDataset(Dataset):
    def __init__(self, df, images, labels, train):
        self.ids, self.images, self.labels, self.train = df["image_id"].values, images, labels, train

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, idx):
        image_id = self.ids[idx]
        image = (self.images[image_id] - 0.5) / 0.25
        if self.train and random.random() < 0.5:
            image = image[:, :, ::-1]
        if self.train and random.random() < 0.5:
            image = image[:, ::-1, :]
        return torch.from_numpy(image.copy()), torch.from_numpy(self.labels[image_id])


class CustomModel(nn.Module):
    def __init__(self, n_targets):
        super().__init__()

        def block(cin, cout):
            return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))

        self.backbone = nn.Sequential(
            block(3, 16), block(16, 24), nn.MaxPool2d(2), block(24, 32), nn.MaxPool2d(2), block(32, 64)
        )
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(64, n_targets)

    def forward(self, x):
        features = self.pool(self.backbone(x)).flatten(1)
        return self.fc(self.drop(features))


def train_fn(train_loader, model, criterion, optimizer):
    model.train()
    losses = []
    for images, labels in train_loader:
        y_preds = model(images)
        loss = criterion(y_preds, labels)
        optimizer.zero_grad()
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        losses.append(loss.item())
    return np.mean(losses), float(grad_norm)


def valid_fn(valid_loader, model, criterion):
    model.eval()
    preds, targets, total = [], [], 0.0
    for images, labels in valid_loader:
        with torch.no_grad():
            y_preds = model(images)
        total += criterion(y_preds, labels).item() * len(images)
        preds.append(y_preds.sigmoid().numpy())
        targets.append(labels.numpy())
    return total / len(valid_loader.dataset), np.concatenate(preds), np.concatenate(targets)


# ====================================================
# Main
# ====================================================
if __name__ == "__main__":
    seed_everything(CFG.seed)
    images, df = make_scenes(CFG.n_images, CFG.size, CFG.seed)
    binarizer = MultiLabelBinarizer(classes=CFG.target_cols)
    labels = binarizer.fit_transform(df["tags"].str.split(";")).astype(np.float32)
    print(df.head(), labels.mean(0))

    valid_df = df.sample(frac=CFG.valid_frac, random_state=CFG.seed)
    train_df = df.drop(valid_df.index)
    train_loader = DataLoader(
        SceneDataset(train_df, images, labels, True), batch_size=CFG.batch_size, shuffle=True, drop_last=True
    )
    valid_loader = DataLoader(SceneDataset(valid_df, images, labels, False), batch_size=CFG.batch_size * 2)

    model = CustomModel(len(CFG.target_cols))
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.3, patience=1)

    best_score, best_state = -1.0, None
    for epoch in range(CFG.epochs):
        avg_loss, grad_norm = train_fn(train_loader, model, criterion, optimizer)
        avg_val_loss, preds, targets = valid_fn(valid_loader, model, criterion)
        score = f1_score(targets, preds > CFG.threshold, average="macro", zero_division=0)
        auc = roc_auc_score(targets, preds, average="macro")
        scheduler.step(score)
        print(
            f"Epoch {epoch + 1} - train {avg_loss:.4f} valid {avg_val_loss:.4f} "
            f"F1 {score:.4f} AUC {auc:.4f} grad {grad_norm:.2f} lr {optimizer.param_groups[0]['lr']:.5f}"
        )
        if score > best_score:
            best_score = score
            best_state = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(best_state)
    print(f"CV: {best_score:.4f}")
