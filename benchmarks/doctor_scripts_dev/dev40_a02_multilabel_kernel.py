# Which shapes are in the picture? Multi-label baseline, one fold.
import copy
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import KFold
from sklearn.preprocessing import MultiLabelBinarizer
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


class CFG:
    seed = 42
    n_folds = 5
    fold = 0
    epochs = 12
    bs = 32
    lr = 4e-3
    wd = 1e-2
    threshold = 0.5
    device = "cuda" if torch.cuda.is_available() else "cpu"


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_scenes(n, train, seed):
    """Pictures of 32 x 32 with a shape, or none, in each quarter; crosses in blue are seldom."""
    rng = np.random.default_rng(seed)
    pool = Shapes(train=train, count=4 * n, size=16)
    scenes = rng.normal(127, 20, (n, 32, 32, 3)).clip(0, 255).astype(np.uint8)
    tags = []
    for i in range(n):
        seen = set()
        for k, (y, x) in enumerate([(0, 0), (0, 16), (16, 0), (16, 16)]):
            name = pool.names[4 * i + k]
            if rng.random() > (0.15 if name == "blue cross" else 0.5):
                continue
            tile = (pool.images[4 * i + k] * 255).byte()
            scenes[i, y : y + 16, x : x + 16] = tile.permute(1, 2, 0).numpy()
            seen.add(name)
        tags.append("|".join(sorted(seen)))
    return scenes, pd.DataFrame({"image_id": np.arange(n), "tags": tags})


def oversample(frame, tag, times):
    rare = frame[frame["tags"].str.contains(tag)]
    return pd.concat([frame] + [rare] * times, ignore_index=True)


mlb = MultiLabelBinarizer(classes=NAMES).fit([NAMES])


class SceneDataset(Dataset):
    def __init__(self, pixels, frame, augment=False):
        self.pixels = pixels[frame["image_id"].to_numpy()]
        self.targets = mlb.transform([t.split("|") if t else [] for t in frame["tags"]]).astype(np.float32)
        self.augment = augment

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, idx):
        img = self.pixels[idx]
        if self.augment:
            if np.random.rand() < 0.5:
                img = img[:, ::-1]
            if np.random.rand() < 0.5:
                img = img[::-1]
        x = torch.from_numpy(np.ascontiguousarray(img)).permute(2, 0, 1).float()
        return (x / 255.0 - 0.5) / 0.16, torch.from_numpy(self.targets[idx])


class TagNet(nn.Module):
    def __init__(self, n_tags):
        super().__init__()

        def conv(cin, cout):
            return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))

        self.features = nn.Sequential(
            conv(3, 16), nn.MaxPool2d(2), conv(16, 32), conv(32, 32), nn.MaxPool2d(2), conv(32, 64), nn.AdaptiveMaxPool2d(1)
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, n_tags))

    def forward(self, x):
        return self.classifier(self.features(x))


def train_fn(loader, model, criterion, optimizer, scheduler):
    model.train()
    running = 0.0
    for x, y in loader:
        x, y = x.to(CFG.device), y.to(CFG.device)
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
        running += loss.item() * len(x)
    return running / len(loader.dataset)


@torch.no_grad()
def infer(loader, model):
    model.eval()
    outputs, targets = [], []
    for x, y in loader:
        outputs.append(model(x.to(CFG.device)).cpu())
        targets.append(y)
    return torch.cat(outputs), torch.cat(targets)


def score(outputs, targets):
    probs = torch.sigmoid(outputs)
    truth = targets.int().numpy()
    hard = (probs > CFG.threshold).int().numpy()
    return average_precision_score(truth, probs.numpy(), average="macro"), f1_score(truth, hard, average="macro", zero_division=0)


seed_everything(CFG.seed)
images, df = make_scenes(900, train=True, seed=CFG.seed)
df["fold"] = -1
for fold, (_, rows) in enumerate(KFold(CFG.n_folds, shuffle=True, random_state=CFG.seed).split(df)):
    df.loc[rows, "fold"] = fold
train_df = df[df["fold"] != CFG.fold].reset_index(drop=True)
valid_df = df[df["fold"] == CFG.fold].reset_index(drop=True)
train_df = oversample(train_df, "blue cross", 2)
print(f"{len(train_df)} rows to train, {len(valid_df)} to validate")

train_loader = DataLoader(SceneDataset(images, train_df, augment=True), batch_size=CFG.bs, shuffle=True)
valid_loader = DataLoader(SceneDataset(images, valid_df), batch_size=2 * CFG.bs)

model = TagNet(len(NAMES)).to(CFG.device)
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.wd)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=CFG.lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader), pct_start=0.2
)

best_map, best_state = -1.0, None
for epoch in range(CFG.epochs):
    train_loss = train_fn(train_loader, model, criterion, optimizer, scheduler)
    valid_map, valid_f1 = score(*infer(valid_loader, model))
    print(f"epoch {epoch + 1:2d} loss {train_loss:.4f} mAP {valid_map:.4f} F1 {valid_f1:.4f}")
    if valid_map > best_map:
        best_map, best_state = valid_map, copy.deepcopy(model.state_dict())

model.load_state_dict(best_state)
test_images, test_df = make_scenes(250, train=False, seed=CFG.seed + 1)
test_map, test_f1 = score(*infer(DataLoader(SceneDataset(test_images, test_df), batch_size=2 * CFG.bs), model))
print(f"CV mAP {best_map:.4f} | test mAP {test_map:.4f} F1 {test_f1:.4f}")
