# %% [markdown]
# # Which shapes are in the picture? Multi-label baseline
# Every picture shows two shapes side by side, the target is a multi-hot vector of six names.

# %%
import copy
import random
import time

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import average_precision_score, f1_score
from torch.utils.data import DataLoader, Dataset

import toydata


class CFG:
    seed = 42
    height = 16
    width = 32
    epochs = 12
    batch_size = 32
    max_lr = 4e-3
    weight_decay = 1e-4
    threshold = 0.5
    n_train = 1200
    n_valid = 300
    classes = toydata.NAMES


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)


# %%
def make_pairs(shapes, count, seed):
    """Glue random pairs of pictures together, channels last like cv2 would give them."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, CFG.height, CFG.width, 3), dtype=np.float32)
    targets = np.zeros((count, len(CFG.classes)), dtype=np.float32)
    for row in range(count):
        a, b = rng.integers(0, len(shapes), size=2)
        (left, name_a), (right, name_b) = shapes[int(a)], shapes[int(b)]
        images[row] = np.concatenate([left.permute(1, 2, 0).numpy(), right.permute(1, 2, 0).numpy()], axis=1)
        targets[row, name_a] = 1
        targets[row, name_b] = 1
    return images, targets


class PairDataset(Dataset):
    def __init__(self, images, targets, augment=False):
        self.images = images
        self.targets = targets
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = torch.from_numpy(self.images[idx]).permute(2, 0, 1)
        if self.augment and random.random() < 0.5:
            image = image.flip(-1)
        image = (image - 0.5) / 0.25
        return image, torch.from_numpy(self.targets[idx])


X_train, y_train = make_pairs(toydata.Shapes(train=True), CFG.n_train, seed=1)
X_valid, y_valid = make_pairs(toydata.Shapes(train=False), CFG.n_valid, seed=2)
train_loader = DataLoader(
    PairDataset(X_train, y_train, augment=True), batch_size=CFG.batch_size, shuffle=True, drop_last=True
)
valid_loader = DataLoader(PairDataset(X_valid, y_valid), batch_size=100, shuffle=False)
print("positives per class:", dict(zip(CFG.classes, y_train.sum(0).astype(int).tolist())))


# %%
class PairNet(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        layers = []
        channels = 3
        for width in (24, 48, 96):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            if width < 96:
                layers += [nn.MaxPool2d(2)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(channels, n_classes)

    def forward(self, x):
        x = self.pool(self.features(x)).flatten(1)
        return self.head(self.drop(x))


model = PairNet(len(CFG.classes))
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.max_lr / 10, weight_decay=CFG.weight_decay)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=CFG.max_lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader)
)


# %%
def train_fn():
    model.train()
    total = 0.0
    for images, targets in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(images), targets)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item()
    return total / len(train_loader)


@torch.no_grad()
def valid_fn():
    model.eval()
    scores, labels = [], []
    for images, targets in valid_loader:
        logits = model(images)
        scores.append(torch.sigmoid(logits))
        labels.append(targets)
    scores, labels = torch.cat(scores).numpy(), torch.cat(labels).numpy()
    mean_ap = average_precision_score(labels, scores, average="macro")
    macro_f1 = f1_score(labels, scores > CFG.threshold, average="macro", zero_division=0)
    return mean_ap, macro_f1


# %%
best_f1, best_state = -1.0, None
for epoch in range(CFG.epochs):
    start = time.time()
    train_loss = train_fn()
    mean_ap, macro_f1 = valid_fn()
    print(f"epoch {epoch + 1:2d}  loss {train_loss:.4f}  mAP {mean_ap:.4f}  F1 {macro_f1:.4f}  [{time.time() - start:.1f}s]")
    if macro_f1 > best_f1:
        best_f1, best_state = macro_f1, copy.deepcopy(model.state_dict())

model.load_state_dict(best_state)
print(f"best macro F1: {best_f1:.4f}")
