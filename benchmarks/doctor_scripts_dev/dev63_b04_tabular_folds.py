# Baseline: entity embeddings + MLP, stratified folds, OOF AUC
import random

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, Dataset


class CFG:
    seed = 42
    n_rows = 1800
    n_fold = 3
    trn_fold = [0, 1, 2]
    epochs = 6
    batch_size = 64
    max_lr = 1e-2
    weight_decay = 1e-2
    max_grad_norm = 5.0
    cardinalities = [12, 30, 6, 7]  # brand, city, channel, weekday
    emb_dim = 6
    n_num = 5
    hidden = 64
    dropout = 0.1
    print_freq = 10


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def load_table():
    """Clicks: who buys depends on brand, city and channel, and on two of the numbers."""
    rng = np.random.default_rng(CFG.seed)
    cats = np.stack([rng.integers(0, c, CFG.n_rows) for c in CFG.cardinalities], axis=1)
    nums = rng.normal(size=(CFG.n_rows, CFG.n_num))
    effects = [rng.normal(scale=1.5, size=c) for c in CFG.cardinalities[:3]]
    logit = sum(effect[cats[:, i]] for i, effect in enumerate(effects))
    logit = logit + 1.2 * nums[:, 0] - 0.8 * nums[:, 1]
    logit = logit - np.median(logit)
    target = (rng.random(CFG.n_rows) < 1 / (1 + np.exp(-1.5 * logit))).astype(np.float32)
    return cats, nums.astype(np.float32), target


class TrainDataset(Dataset):
    def __init__(self, cats, nums, target):
        self.cats, self.nums, self.target = cats, nums, target

    def __len__(self):
        return len(self.target)

    def __getitem__(self, item):
        return {
            "cats": torch.tensor(self.cats[item], dtype=torch.long),
            "nums": torch.tensor(self.nums[item], dtype=torch.float),
            "target": torch.tensor(self.target[item], dtype=torch.float),
        }


class CustomModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.embeddings = nn.ModuleList([nn.Embedding(c, cfg.emb_dim) for c in cfg.cardinalities])
        width = cfg.emb_dim * len(cfg.cardinalities) + cfg.n_num
        self.fc = nn.Sequential(
            nn.Linear(width, cfg.hidden), nn.LayerNorm(cfg.hidden),
            nn.GELU(),
            nn.Dropout(cfg.dropout),
            nn.Linear(cfg.hidden, 1),
        )

    def forward(self, inputs):
        embedded = [emb(inputs["cats"][:, i]) for i, emb in enumerate(self.embeddings)]
        feature = torch.cat(embedded + [inputs["nums"]], dim=1)
        output = self.fc(feature)
        return output.squeeze(1)


class AverageMeter:
    def __init__(self):
        self.val = self.avg = self.sum = self.count = 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def train_fn(fold, train_loader, model, criterion, optimizer, epoch, scheduler):
    model.train()
    losses = AverageMeter()
    for step, inputs in enumerate(train_loader):
        y_preds = model(inputs)
        loss = criterion(y_preds, inputs["target"])
        losses.update(loss.item(), len(y_preds))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        if step % CFG.print_freq == 0:
            print(f"Fold {fold} Epoch [{epoch + 1}][{step}/{len(train_loader)}] Loss: {losses.val:.4f}({losses.avg:.4f})")
    return losses.avg


@torch.no_grad()
def valid_fn(valid_loader, model, criterion):
    model.eval()
    losses, preds = AverageMeter(), []
    for inputs in valid_loader:
        y_preds = model(inputs)
        losses.update(criterion(y_preds, inputs["target"]).item(), len(y_preds))
        preds.append(y_preds.sigmoid().numpy())
    return losses.avg, np.concatenate(preds)


def train_loop(table, trn_idx, val_idx, fold):
    cats, nums, target = table
    train_dataset = TrainDataset(cats[trn_idx], nums[trn_idx], target[trn_idx])
    valid_dataset = TrainDataset(cats[val_idx], nums[val_idx], target[val_idx])
    train_loader = DataLoader(train_dataset, batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_dataset, batch_size=CFG.batch_size * 2, shuffle=False)

    model = CustomModel(CFG)
    optimizer = AdamW(model.parameters(), lr=CFG.max_lr, weight_decay=CFG.weight_decay)
    scheduler = OneCycleLR(optimizer, max_lr=CFG.max_lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader))
    criterion = nn.BCEWithLogitsLoss()

    best_score, best_preds = -1.0, None
    for epoch in range(CFG.epochs):
        avg_loss = train_fn(fold, train_loader, model, criterion, optimizer, epoch, scheduler)
        avg_val_loss, preds = valid_fn(valid_loader, model, criterion)
        score = roc_auc_score(target[val_idx], preds)
        print(f"Epoch {epoch + 1} - train {avg_loss:.4f} val {avg_val_loss:.4f} AUC {score:.4f}")
        if score > best_score:
            best_score, best_preds = score, preds
    return best_preds


def main():
    seed_everything(CFG.seed)
    table = load_table()
    target = table[2]
    folds = StratifiedKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
    oof = np.zeros(len(target))
    for fold, (trn_idx, val_idx) in enumerate(folds.split(target, target)):
        if fold in CFG.trn_fold:
            oof[val_idx] = train_loop(table, trn_idx, val_idx, fold)
    print(f"========== CV: {roc_auc_score(target, oof):.4f} ==========")


if __name__ == "__main__":
    main()
