# %% [markdown]
# # Shape signs: small CNN baseline, 3 folds, AMP, one cycle
# (CV in the last cell)

# %%
import random

import numpy as np
import torch
import torch.nn as nn
from sklearn.model_selection import StratifiedKFold
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class CFG:
    seed = 42
    n_fold = 3
    epochs = 12
    batch_size = 32
    max_lr = 0.1
    weight_decay = 5e-4
    max_grad_norm = 2.0
    mean = np.array([0.5, 0.45, 0.5], dtype=np.float32)
    std = np.array([0.26, 0.24, 0.26], dtype=np.float32)


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)
torch.set_num_threads(1)

# %%
# the images come as cv2.imread gives them: height x width x BGR, uint8
raw = Shapes(train=True, count=900, size=24)
images = np.stack([image.permute(1, 2, 0).numpy()[:, :, ::-1] for image in raw.images])
images = images + np.random.normal(0, 0.2, images.shape)  # a cheap camera
images = (images.clip(0, 1) * 255).astype(np.uint8)
labels = np.array(raw.targets)
print(images.shape, np.bincount(labels))


# %%
def normalize(image):
    image = (image.astype(np.float32) / 255.0 - CFG.mean) / CFG.std
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


class TrainDataset(Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = self.images[idx][:, :, ::-1]  # BGR to RGB
        if random.random() < 0.5:
            image = image[:, ::-1]
        if random.random() < 0.5:
            image = image[::-1]
        return normalize(image), int(self.labels[idx])


class ValidDataset(Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        rgb = self.images[idx][:, :, ::-1]
        return normalize(rgb), int(self.labels[idx])


# %%
def block(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True), nn.MaxPool2d(2)
    )


class ShapeNet(nn.Module):
    def __init__(self, n_classes=6):
        super().__init__()
        self.features = nn.Sequential(block(3, 16), block(16, 32), block(32, 48))
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(48 * 3 * 3, n_classes))

    def forward(self, x):
        return self.head(self.features(x))


# %%
def train_fn(model, loader, criterion, optimizer, scheduler, scaler):
    model.train()
    total, count = 0.0, 0
    for x, y in loader:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(x)
        loss = criterion(logits.float(), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        total += loss.item() * len(y)
        count += len(y)
    return total / count


@torch.no_grad()
def valid_fn(model, loader):
    model.eval()
    preds = []
    for x, _ in loader:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(x)
        preds.append(logits.float().softmax(1).numpy())
    return np.concatenate(preds)


# %%
oof = np.zeros((len(labels), 6), dtype=np.float32)
skf = StratifiedKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
for fold, (trn_idx, val_idx) in enumerate(skf.split(images, labels)):
    model = ShapeNet()
    train_loader = DataLoader(
        TrainDataset(images[trn_idx], labels[trn_idx]), batch_size=CFG.batch_size, shuffle=True, drop_last=True
    )
    valid_loader = DataLoader(ValidDataset(images[val_idx], labels[val_idx]), batch_size=100, shuffle=False)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=CFG.max_lr, momentum=0.9, nesterov=True, weight_decay=CFG.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=CFG.max_lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader)
    )
    scaler = torch.amp.GradScaler("cpu")
    for epoch in range(CFG.epochs):
        train_loss = train_fn(model, train_loader, criterion, optimizer, scheduler, scaler)
        preds = valid_fn(model, valid_loader)
        acc = (preds.argmax(1) == labels[val_idx]).mean()
        print(f"fold {fold} epoch {epoch + 1:2d} train_loss {train_loss:.4f} val_acc {acc:.4f}")
    oof[val_idx] = preds

# %%
print("CV accuracy:", (oof.argmax(1) == labels).mean())
