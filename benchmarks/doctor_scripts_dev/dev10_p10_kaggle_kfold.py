"""Kaggle style baseline: rare finding yes or no, grouped K folds, pos_weight, out-of-fold scores, flips at test time."""

import os
import random
import tempfile

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

from toydata import shape_mask


class CFG:
    seed = 2024
    n_fold = 3
    trn_fold = [0, 1, 2]
    size = 24
    batch_size = 32
    epochs = 6
    lr = 3e-3
    weight_decay = 1e-4
    n_patients = 300
    tta = True
    output_dir = tempfile.mkdtemp()


def seed_everything(seed):
    random.seed(seed)
    torch.manual_seed(seed)


def load_rows():
    """Three scans of each patient; a small cross in the scan is the finding. Some patients were judged by another rater."""
    g = torch.Generator().manual_seed(77)
    rows = []
    for patient in range(CFG.n_patients):
        finding = int(torch.rand((), generator=g) < 0.2)
        label = 1 - finding if torch.rand((), generator=g) < 0.04 else finding
        ground = 0.25 + 0.15 * torch.nn.functional.interpolate(torch.randn(1, 1, 5, 5, generator=g), CFG.size, mode="bilinear")[0]
        top, left = torch.randint(3, CFG.size - 13, (2,), generator=g).tolist()
        kind = "cross" if finding else "disc"
        for scan in range(3):
            image = ground.clone()
            mask = shape_mask(kind, CFG.size, top + scan % 2, left + scan // 2, 9)
            image[0, mask] += 0.45
            image = image + 0.05 * torch.randn(image.shape, generator=g)
            rows.append({"image_id": f"{patient:03d}_{scan}", "patient_id": patient, "image": image, "target": label})
    return rows


def make_folds(rows):
    """Gives each row a fold: whole patients, positives spread evenly."""
    patients = sorted({(row["target"], row["patient_id"]) for row in rows})
    random.shuffle(patients)
    patients.sort(key=lambda pair: pair[0])
    fold_of = {patient: i % CFG.n_fold for i, (_, patient) in enumerate(patients)}
    for row in rows:
        row["fold"] = fold_of[row["patient_id"]]
    return rows


class TrainDataset(Dataset):
    def __init__(self, rows, train):
        self.rows, self.train = rows, train

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, idx):
        row = self.rows[idx]
        image = (row["image"] - 0.3) / 0.25
        if self.train:
            if random.random() < 0.5:
                image = image.flip(2)
            if random.random() < 0.5:
                image = image.flip(1)
        return image, torch.tensor([row["target"]], dtype=torch.float32)


class CustomModel(nn.Module):
    def __init__(self):
        super().__init__()
        blocks, width = [], 1
        for out in (16, 32, 32):
            blocks += [nn.Conv2d(width, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]
            width = out
        self.encoder = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(32 * 9, 1))

    def forward(self, x):
        return self.head(self.encoder(x))


def get_score(y_true, y_prob):
    """Average of the recalls of both classes, and F1."""
    pred = (y_prob > 0.5).long()
    tp = ((pred == 1) & (y_true == 1)).sum().item()
    tn = ((pred == 0) & (y_true == 0)).sum().item()
    fp = ((pred == 1) & (y_true == 0)).sum().item()
    fn = ((pred == 0) & (y_true == 1)).sum().item()
    balanced = 0.5 * (tp / max(tp + fn, 1) + tn / max(tn + fp, 1))
    return balanced, 2 * tp / max(2 * tp + fp + fn, 1)


def train_fn(loader, model, criterion, optimizer, scheduler):
    model.train()
    total = 0.0
    for images, labels in loader:
        y_preds = model(images)
        loss = criterion(y_preds, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        total += loss.item() * len(images)
    return total / len(loader.dataset)


def valid_fn(loader, model, criterion):
    model.eval()
    preds, total = [], 0.0
    with torch.no_grad():
        for images, labels in loader:
            views = [images, images.flip(3), images.flip(2)] if CFG.tta else [images]
            y_preds = torch.stack([model(view) for view in views]).mean(0)
            total += criterion(y_preds, labels).item() * len(images)
            preds.append(y_preds.sigmoid())
    return total / len(loader.dataset), torch.cat(preds)[:, 0]


def train_loop(rows, fold):
    trn_idx = [i for i, row in enumerate(rows) if row["fold"] != fold]
    val_idx = [i for i, row in enumerate(rows) if row["fold"] == fold]
    train_rows, valid_rows = [rows[i] for i in trn_idx], [rows[i] for i in val_idx]
    train_loader = DataLoader(TrainDataset(train_rows, True), batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(TrainDataset(valid_rows, False), batch_size=CFG.batch_size * 2, shuffle=False)
    valid_labels = torch.tensor([row["target"] for row in valid_rows])

    n_pos = sum(row["target"] for row in train_rows)
    n_neg = len(train_rows) - n_pos
    model = CustomModel()
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([n_neg / n_pos]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=CFG.epochs * len(train_loader))

    best_score, best_preds = -1.0, None
    for epoch in range(CFG.epochs):
        avg_loss = train_fn(train_loader, model, criterion, optimizer, scheduler)
        avg_val_loss, preds = valid_fn(valid_loader, model, criterion)
        score, f1 = get_score(valid_labels, preds)
        print(f"fold {fold} epoch {epoch + 1} train {avg_loss:.4f} val {avg_val_loss:.4f} balanced {score:.4f} f1 {f1:.4f}")
        if score > best_score:
            best_score, best_preds = score, preds
            torch.save({"model": model.state_dict(), "preds": preds}, os.path.join(CFG.output_dir, f"fold{fold}_best.pth"))
    return val_idx, best_preds, best_score


def main():
    seed_everything(CFG.seed)
    rows = load_rows()
    rows = make_folds(rows)
    oof, scores = torch.zeros(len(rows)), []
    for fold in CFG.trn_fold:
        val_idx, preds, score = train_loop(rows, fold)
        oof[val_idx] = preds
        scores.append(score)
    labels = torch.tensor([row["target"] for row in rows])
    balanced, f1 = get_score(labels, oof)
    print(f"folds {[round(score, 4) for score in scores]}")
    print(f"CV balanced accuracy {balanced:.4f} f1 {f1:.4f}")


if __name__ == "__main__":
    main()
