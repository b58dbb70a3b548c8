# Specimen classification - 4 fold fine-tuning of a pretrained backbone
import copy
import math
import random
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedGroupKFold
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, Dataset

class CFG:
    seed = 42
    n_fold = 4
    classes = ["five", "six", "seven", "eight", "nine"]
    shots = 3             # photos of each specimen
    pretrain_epochs = 10
    epochs = 10
    batch_size = 16
    accum = 2
    head_lr = 1e-2
    backbone_lr = 3e-3
    weight_decay = 1e-2
    max_grad_norm = 5.0
    print_freq = 5

def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)

class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0
    def update(self, val, n=1):
        self.sum, self.count = self.sum + val * n, self.count + n
    @property
    def avg(self):
        return self.sum / max(self.count, 1)

def get_score(y_true, y_pred):
    return f1_score(y_true, y_pred, average="macro")
# ==================== Data ====================
def take_photo(img, rng):
    """uint8 RGB photo (20x20) of an 8x8 specimen, with its own tint, place and noise."""
    canvas = np.zeros((20, 20), dtype=np.float32)
    y, x = rng.integers(1, 4, size=2)
    canvas[y:y + 16, x:x + 16] = np.kron(img / 16.0, np.ones((2, 2)))
    tint, bg = rng.uniform(0.5, 1.0, 3), rng.uniform(0.0, 0.3, 3)
    rgb = canvas[..., None] * tint + bg + 0.12 * rng.standard_normal((20, 20, 3))
    return (np.clip(rgb, 0, 1) * 255).astype(np.uint8)

def make_tables():
    rng = np.random.default_rng(CFG.seed)
    digits = load_digits()
    source, train = [], []
    for i in np.where(digits.target < 5)[0]:
        source.append(dict(image=take_photo(digits.images[i], rng), target=int(digits.target[i])))
    n_specimens = {5: 70, 6: 45, 7: 30, 8: 20, 9: 20}
    for c, n in n_specimens.items():
        for i in np.where(digits.target == c)[0][:n]:
            for _ in range(CFG.shots):
                train.append(dict(image=take_photo(digits.images[i], rng), label=CFG.classes[c - 5], specimen=int(i)))
    order = rng.permutation(len(train))
    return source, [train[i] for i in order]
# ==================== Transforms ====================
class Compose:
    def __init__(self, transforms):
        self.transforms = transforms
    def __call__(self, image):
        for t in self.transforms:
            image = t(image)
        return image

class ShiftScaleRotate:
    def __init__(self, shift_limit=0.06, scale_limit=0.1, rotate_limit=12, p=0.7):
        self.shift_limit, self.scale_limit, self.rotate_limit, self.p = shift_limit, scale_limit, rotate_limit, p
    def __call__(self, image):
        if random.random() >= self.p:
            return image
        angle = math.radians(random.uniform(-self.rotate_limit, self.rotate_limit))
        scale = 1.0 + random.uniform(-self.scale_limit, self.scale_limit)
        dx, dy = (2 * random.uniform(-self.shift_limit, self.shift_limit) for _ in range(2))
        c, s = math.cos(angle) / scale, math.sin(angle) / scale
        theta = torch.tensor([[[c, -s, dx], [s, c, dy]]])
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        grid = F.affine_grid(theta, x.shape, align_corners=False)
        x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
        return x[0].permute(1, 2, 0).numpy()

class RandomBrightness:
    def __init__(self, limit=0.15, p=0.5):
        self.limit, self.p = limit, p
    def __call__(self, image):
        if random.random() >= self.p:
            return image
        return np.clip(image * (1.0 + random.uniform(-self.limit, self.limit)), 0, 255)

class Normalize:
    def __init__(self, mean, std, max_pixel_value=255.0):
        self.mean, self.std = np.float32(mean) * max_pixel_value, np.float32(std) * max_pixel_value
    def __call__(self, image):
        return (np.asarray(image, dtype=np.float32) - self.mean) / self.std

def to_tensor(image):
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))

def channel_stats(rows):
    imgs = np.stack([r["image"] for r in rows]) / 255.0
    return imgs.mean((0, 1, 2)), imgs.std((0, 1, 2))

def get_transforms(data, stats):
    if data == "train":
        return Compose([ShiftScaleRotate(), RandomBrightness(), Normalize(*stats), to_tensor])
    return Compose([Normalize(*stats), to_tensor])

class TrainDataset(Dataset):
    def __init__(self, rows, transform):
        self.rows, self.transform = rows, transform
        self.class2idx = {c: i for i, c in enumerate(CFG.classes)}
    def __len__(self):
        return len(self.rows)
    def __getitem__(self, idx):
        row = self.rows[idx]
        label = row["target"] if "target" in row else self.class2idx[row["label"]]
        return self.transform(row["image"]), torch.tensor(label).long()
# ==================== Model ====================
def conv_bn(cin, cout, stride):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))

class CustomModel(nn.Module):
    def __init__(self, n_classes, pretrained=None):
        super().__init__()
        self.backbone = nn.Sequential(conv_bn(3, 16, 1), conv_bn(16, 32, 2), conv_bn(32, 64, 2),
                                      nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(64, n_classes))
        if pretrained is not None:
            weights = {k: v for k, v in pretrained.items() if k.startswith("backbone.")}
            self.load_state_dict(weights, strict=False)
    def forward(self, x):
        return self.head(self.backbone(x))
# ==================== Train / valid functions ====================
def train_fn(loader, model, criterion, optimizer, scheduler):
    model.train()
    losses = AverageMeter()
    optimizer.zero_grad()
    for step, (images, labels) in enumerate(loader):
        loss = criterion(model(images), labels)
        losses.update(loss.item(), labels.size(0))
        (loss / CFG.accum).backward()
        if (step + 1) % CFG.accum == 0 or step + 1 == len(loader):
            torch.nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
    return losses.avg

def valid_fn(loader, model, criterion):
    model.eval()
    losses, preds = AverageMeter(), []
    with torch.no_grad():
        for images, labels in loader:
            logits = model(images)
            losses.update(criterion(logits, labels).item(), labels.size(0))
            preds.append(logits.softmax(1).numpy())
    return losses.avg, np.concatenate(preds)

def fit(model, train_loader, criterion, epochs, on_epoch=None):
    optimizer = AdamW([{"params": model.backbone.parameters(), "lr": CFG.backbone_lr},
                       {"params": model.head.parameters(), "lr": CFG.head_lr}], weight_decay=CFG.weight_decay)
    steps = epochs * math.ceil(len(train_loader) / CFG.accum)
    scheduler = OneCycleLR(optimizer, max_lr=[CFG.backbone_lr, CFG.head_lr], total_steps=steps, pct_start=0.2)
    for epoch in range(epochs):
        train_loss = train_fn(train_loader, model, criterion, optimizer, scheduler)
        if on_epoch is not None:
            on_epoch(epoch, train_loss)

def pretrain(source):
    stats = channel_stats(source)
    loader = DataLoader(TrainDataset(source, get_transforms("train", stats)), CFG.batch_size, shuffle=True)
    model = CustomModel(5)
    fit(model, loader, nn.CrossEntropyLoss(), CFG.pretrain_epochs,
        lambda e, l: print(f"pretrain epoch {e + 1} loss {l:.4f}"))
    return copy.deepcopy(model.state_dict())

def train_loop(folds, fold, fold_ids, weights):
    trn, val = np.where(fold_ids != fold)[0], np.where(fold_ids == fold)[0]
    train_rows, valid_rows = [folds[i] for i in trn], [folds[i] for i in val]
    stats = channel_stats(train_rows)
    train_loader = DataLoader(TrainDataset(train_rows, get_transforms("train", stats)), CFG.batch_size, shuffle=True)
    valid_loader = DataLoader(TrainDataset(valid_rows, get_transforms("valid", stats)), 64, shuffle=False)
    valid_labels = np.array([CFG.classes.index(r["label"]) for r in valid_rows])
    counts = np.bincount([CFG.classes.index(r["label"]) for r in train_rows], minlength=len(CFG.classes))
    class_weights = torch.tensor(counts.sum() / (len(counts) * counts), dtype=torch.float32)
    criterion = nn.CrossEntropyLoss(weight=class_weights)
    model = CustomModel(len(CFG.classes), pretrained=weights)
    preds = None
    def on_epoch(epoch, train_loss):
        nonlocal preds
        val_loss, preds = valid_fn(valid_loader, model, criterion)
        if (epoch + 1) % CFG.print_freq == 0:
            print(f"Epoch {epoch + 1} - avg_train_loss: {train_loss:.4f}  avg_val_loss: {val_loss:.4f}  "
                  f"Score: {get_score(valid_labels, preds.argmax(1)):.4f}")
    fit(model, train_loader, criterion, CFG.epochs, on_epoch)
    print(f"========== fold: {fold} score: {get_score(valid_labels, preds.argmax(1)):.4f} ==========")
    return val, preds

def main():
    torch.set_num_threads(1)
    seed_everything(CFG.seed)
    start = time.time()
    source, folds = make_tables()
    weights = pretrain(source)
    targets = np.array([CFG.classes.index(r["label"]) for r in folds])
    groups = np.array([r["specimen"] for r in folds])
    fold_ids = np.zeros(len(folds), dtype=int)
    kfold = StratifiedGroupKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
    for n, (_, val_index) in enumerate(kfold.split(folds, targets, groups)):
        fold_ids[val_index] = n
    oof = np.zeros((len(folds), len(CFG.classes)))
    for fold in range(CFG.n_fold):
        val_index, preds = train_loop(folds, fold, fold_ids, weights)
        oof[val_index] = preds
    y_pred = oof.argmax(1)
    print(f"FINAL CV macro F1 {get_score(targets, y_pred):.4f} acc {(y_pred == targets).mean():.4f} "
          f"time {time.time() - start:.0f}s")

if __name__ == "__main__":
    main()
