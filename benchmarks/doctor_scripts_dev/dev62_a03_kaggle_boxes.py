# # Shape localization baseline - small CNN, K folds
# Predicts the class of the shape and its box (x0, y0, x1, y1, relative).
import copy
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.model_selection import StratifiedKFold
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class CFG:
    seed = 42
    size = 16
    n_samples = 800
    n_fold = 4
    trn_fold = [0, 1]
    epochs = 8
    batch_size = 32
    lr = 4e-3
    weight_decay = 1e-2
    max_grad_norm = 10.0
    drop_rate = 0.1
    box_weight = 5.0
    num_classes, amp = 6, True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(self.count, 1)


class TrainDataset(Dataset):
    def __init__(self, base, idx, augment=False):
        self.base, self.idx, self.augment = base, idx, augment

    def __len__(self):
        return len(self.idx)

    def __getitem__(self, i):
        j = int(self.idx[i])
        image, label, box = self.base.images[j], self.base.targets[j], self.base.boxes[j].clone()
        if self.augment and random.random() < 0.5:
            image = image.flip(-1)
            box[[0, 2]] = 1 - box[[2, 0]]
        image = (image - 0.5) / 0.2
        return image, label, box


class CustomModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.SiLU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.SiLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.SiLU(),
            nn.MaxPool2d(2),
        )
        self.fc = nn.Sequential(nn.Flatten(), nn.Linear(64 * (cfg.size // 4) ** 2, 128), nn.SiLU(),
                                nn.Dropout(cfg.drop_rate))
        self.cls_head = nn.Linear(128, cfg.num_classes)
        self.box_head = nn.Linear(128, 4)

    def forward(self, x):
        feature = self.fc(self.encoder(x))
        return self.cls_head(feature), self.box_head(feature).sigmoid()


def box_iou(a, b):
    wh = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    inter = wh.prod(1)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(1)
    area_b = (b[:, 2:] - b[:, :2]).prod(1)
    return inter / (area_a + area_b - inter)


def train_fn(loader, model, optimizer, scheduler):
    model.train()
    losses = AverageMeter()
    for images, labels, boxes in loader:
        images, labels, boxes = images.to(CFG.device), labels.to(CFG.device), boxes.to(CFG.device)
        with torch.autocast(CFG.device.type, dtype=torch.bfloat16, enabled=CFG.amp):
            logits, pred = model(images)
        loss = F.cross_entropy(logits.float(), labels) + CFG.box_weight * F.smooth_l1_loss(pred.float(), boxes, beta=0.1)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
        optimizer.step()
        scheduler.step()
        losses.update(loss.item(), len(images))
    return losses.avg


@torch.no_grad()
def valid_fn(loader, model):
    model.eval()
    acc, iou = AverageMeter(), AverageMeter()
    for images, labels, boxes in loader:
        images, labels, boxes = images.to(CFG.device), labels.to(CFG.device), boxes.to(CFG.device)
        logits, pred = model(images)
        acc.update((logits.argmax(1) == labels).float().mean().item(), len(images))
        iou.update(box_iou(pred, boxes).mean().item(), len(images))
    return acc.avg, iou.avg


def train_loop(base, trn_idx, val_idx, fold):
    print(f"========== fold: {fold} training ==========")
    train_loader = DataLoader(TrainDataset(base, trn_idx, augment=True), CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(TrainDataset(base, val_idx), CFG.batch_size * 2, shuffle=False)
    model = CustomModel(CFG).to(CFG.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = OneCycleLR(optimizer, max_lr=CFG.lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader))
    best_score, best_state = 0.0, None
    for epoch in range(CFG.epochs):
        avg_loss = train_fn(train_loader, model, optimizer, scheduler)
        acc, iou = valid_fn(valid_loader, model)
        score = (acc + iou) / 2
        print(f"Epoch {epoch + 1} - loss: {avg_loss:.4f}  acc: {acc:.4f}  iou: {iou:.4f}")
        if score > best_score:
            best_score, best_state = score, copy.deepcopy(model.state_dict())
            print(f"Epoch {epoch + 1} - Save Best Score: {best_score:.4f}")
    model.load_state_dict(best_state)
    return valid_fn(valid_loader, model)


def main():
    seed_everything(CFG.seed)
    base = Shapes(train=True, count=CFG.n_samples, size=CFG.size)
    skf = StratifiedKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
    scores = []
    for fold, (trn_idx, val_idx) in enumerate(skf.split(np.zeros(len(base)), base.targets)):
        if fold in CFG.trn_fold:
            scores.append(train_loop(base, trn_idx, val_idx, fold))
    acc, iou = np.mean(scores, axis=0)
    print(f"CV: acc {acc:.4f}  iou {iou:.4f}")


if __name__ == "__main__":
    main()
