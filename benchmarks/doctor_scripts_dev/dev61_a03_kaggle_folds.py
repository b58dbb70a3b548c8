# From the notebook "multi-label findings: simple CNN baseline [train]"
import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import KFold
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, Dataset


class CFG:
    seed = 42
    size = 20
    n_samples = 1000
    target_cols = ["bar", "pole", "block", "slash", "ring"]
    prevalence = [0.4, 0.35, 0.3, 0.25, 0.25]
    n_fold = 4
    trn_fold = [0, 1]
    epochs = 8
    batch_size = 32
    lr = 5e-3
    weight_decay = 1e-4
    max_grad_norm = 10.0
    device = "cuda" if torch.cuda.is_available() else "cpu"


def seed_everything(seed):
    np.random.seed(seed)
    torch.manual_seed(seed)


def stamp(k):
    p = np.zeros((6, 6), np.float32)
    if k == 0:
        p[2:4, :] = 1
    elif k == 1:
        p[:, 2:4] = 1
    elif k == 2:
        p[1:5, 1:5] = 1
    elif k == 3:
        p[np.arange(6), np.arange(6)] = 1
        p[np.arange(5), np.arange(1, 6)] = 1
    else:
        p[:, :] = 1
        p[1:5, 1:5] = 0
    return p


def make_data():
    rng = np.random.default_rng(CFG.seed)
    labels = (rng.random((CFG.n_samples, len(CFG.target_cols))) < CFG.prevalence).astype(np.float32)
    images = rng.normal(0, 0.1, (CFG.n_samples, CFG.size, CFG.size)).astype(np.float32)
    cells = [(r, c) for r in (0, 7, 14) for c in (0, 7, 14)]
    for i in range(CFG.n_samples):
        places = rng.permutation(len(cells))
        for k in np.flatnonzero(labels[i]):
            top, left = cells[places[k]]
            images[i, top : top + 6, left : left + 6] += stamp(k) * rng.uniform(0.8, 1.2)
    return images, labels


class TrainDataset(Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = torch.from_numpy(self.images[idx]).unsqueeze(0)
        return (image - 0.15) / 0.35, torch.from_numpy(self.labels[idx])


class CustomModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
        )
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.fc = nn.Linear(48, len(CFG.target_cols))

    def forward(self, x):
        return self.fc(self.pool(self.features(x)).flatten(1))


def get_score(y_true, y_pred):
    f1 = f1_score(y_true, (y_pred > 0.5).astype(int), average="macro", zero_division=0)
    auc = roc_auc_score(y_true, y_pred, average="macro")
    return f1, auc


def get_criterion(labels):
    pos = torch.tensor(labels.sum(0))
    neg = len(labels) - pos
    pos_weight = (neg / pos).sqrt()
    return nn.BCEWithLogitsLoss(pos_weight=pos_weight.to(CFG.device))


def train_fn(loader, model, criterion, optimizer, scheduler):
    model.train()
    losses = []
    for images, labels in loader:
        images, labels = images.to(CFG.device), labels.to(CFG.device)
        y_preds = model(images)
        loss = criterion(y_preds, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        losses.append(loss.item())
    return np.mean(losses)


def valid_fn(loader, model):
    model.eval()
    preds = []
    for images, _ in loader:
        with torch.no_grad():
            y_preds = model(images.to(CFG.device))
        preds.append(y_preds.sigmoid().cpu().numpy())
    return np.concatenate(preds)


def train_loop(images, labels, trn_idx, val_idx, fold):
    train_loader = DataLoader(TrainDataset(images[trn_idx], labels[trn_idx]), CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(TrainDataset(images[val_idx], labels[val_idx]), CFG.batch_size * 2, shuffle=False)
    model = CustomModel().to(CFG.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = OneCycleLR(optimizer, max_lr=CFG.lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader))
    criterion = get_criterion(labels[trn_idx])
    best_score, best_preds = -1.0, None
    for epoch in range(CFG.epochs):
        avg_loss = train_fn(train_loader, model, criterion, optimizer, scheduler)
        preds = valid_fn(valid_loader, model)
        f1, auc = get_score(labels[val_idx], preds)
        print(f"Fold {fold} Epoch {epoch + 1} - loss: {avg_loss:.4f} f1: {f1:.4f} auc: {auc:.4f}")
        if auc > best_score:
            best_score, best_preds = auc, preds
    return best_preds


def main():
    seed_everything(CFG.seed)
    images, labels = make_data()
    oof, done = np.zeros_like(labels), []
    folds = KFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
    for fold, (trn_idx, val_idx) in enumerate(folds.split(images)):
        if fold in CFG.trn_fold:
            oof[val_idx] = train_loop(images, labels, trn_idx, val_idx, fold)
            done.append(val_idx)
    done = np.concatenate(done)
    print("========== CV ========== f1: %.4f auc: %.4f" % get_score(labels[done], oof[done]))


if __name__ == "__main__":
    main()
