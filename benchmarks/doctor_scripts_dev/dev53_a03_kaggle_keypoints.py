# %% [markdown]
# # Face keypoints with heatmaps - baseline (single fold)

# %%
import copy
import random

import numpy as np
import torch
import torch.nn as nn
from sklearn.model_selection import KFold
from torch.utils.data import DataLoader, Dataset

class CFG:
    seed = 2023
    n_images = 1000
    size = 24
    sigma = 1.2
    n_fold = 5
    epochs = 10
    batch_size = 32
    lr = 2e-3
    weight_decay = 1e-4
    flip_p = 0.5
    flip_index = [1, 0, 2]  # left eye, right eye, mouth
    names = ["left_eye", "right_eye", "mouth"]

def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)

# %% data
def load_data(n, size):
    rng = np.random.default_rng(CFG.seed)
    yy, xx = np.mgrid[:size, :size].astype(np.float32)
    images, points = [], []
    for _ in range(n):
        center = rng.uniform(size * 0.38, size * 0.62, 2)
        scale, angle = rng.uniform(0.8, 1.3), rng.uniform(-0.4, 0.4)
        rot = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        pts = np.array([[-4.0, -2.5], [4.0, -2.5], [0.0, 4.0]]) * scale @ rot.T + center
        blob = [np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * s**2)) for (x, y), s in zip(pts, (1.0, 1.0, 1.5))]
        img = 0.5 + 0.4 * blob[0] + 0.4 * blob[1] - 0.4 * blob[2] + 0.06 * rng.standard_normal((size, size))
        images.append(img.astype(np.float32)[None])
        points.append(pts.astype(np.float32))
    return np.stack(images), np.stack(points)  # (N, 1, H, W), (N, 3, 2) as x, y in pixels

class KeypointDataset(Dataset):
    def __init__(self, images, points, train):
        self.images, self.points, self.train = images, points, train
        self.yy, self.xx = np.mgrid[: CFG.size, : CFG.size].astype(np.float32)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        img, pts = self.images[i], self.points[i].copy()
        if self.train and random.random() < CFG.flip_p:
            img = img[:, :, ::-1]
            pts[:, 0] = CFG.size - 1 - pts[:, 0]
            pts = pts[CFG.flip_index]
        d2 = (self.xx - pts[:, 0, None, None]) ** 2 + (self.yy - pts[:, 1, None, None]) ** 2
        heat = np.exp(-d2 / (2 * CFG.sigma**2))
        heat = heat / heat.sum((1, 2), keepdims=True)
        img = (img - 0.5) / 0.2
        return {
            "image": torch.from_numpy(np.ascontiguousarray(img)),
            "heatmap": torch.from_numpy(heat.astype(np.float32)),
            "keypoints": torch.from_numpy(pts),
        }

# %% model
class HeatmapNet(nn.Module):
    def __init__(self, n_points=3, ch=16):
        super().__init__()
        self.enc1 = self.block(1, ch)
        self.enc2 = self.block(ch, 2 * ch)
        self.enc3 = self.block(2 * ch, 2 * ch)
        self.dec2 = self.block(4 * ch, ch)
        self.dec1 = self.block(2 * ch, ch)
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.head = nn.Conv2d(ch, n_points, 1)

    @staticmethod
    def block(cin, cout):
        return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU())

    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(self.pool(e1))
        e3 = self.enc3(self.pool(e2))
        d2 = self.dec2(torch.cat([self.up(e3), e2], 1))
        return self.head(self.dec1(torch.cat([self.up(d2), e1], 1)))

def heatmap_loss(logits, heatmap):
    logp = logits.flatten(2).log_softmax(-1)
    return -(heatmap.flatten(2) * logp).sum(-1).mean()

def decode(logits):
    width = logits.shape[-1]
    idx = logits.flatten(2).argmax(-1)
    return torch.stack([idx % width, idx // width], -1).float()

# %% loops
def train_fn(loader, model, optimizer):
    model.train()
    total = 0.0
    for batch in loader:
        optimizer.zero_grad()
        loss = heatmap_loss(model(batch["image"]), batch["heatmap"])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(batch["image"])
    return total / len(loader.dataset)

@torch.no_grad()
def valid_fn(loader, model):
    model.eval()
    total, dists = 0.0, []
    for batch in loader:
        logits = model(batch["image"])
        total += heatmap_loss(logits, batch["heatmap"]).item() * len(logits)
        true = batch["keypoints"]
        inter_ocular = (true[:, 0] - true[:, 1]).norm(dim=-1)
        dists.append((decode(logits) - true).norm(dim=-1).mean(1) / inter_ocular)
    return total / len(loader.dataset), torch.cat(dists).mean().item()

def main():
    seed_everything(CFG.seed)
    images, points = load_data(CFG.n_images, CFG.size)
    folds = KFold(CFG.n_fold, shuffle=True, random_state=CFG.seed)
    trn_idx, val_idx = next(iter(folds.split(images)))
    train_ds = KeypointDataset(images[trn_idx], points[trn_idx], train=True)
    valid_ds = KeypointDataset(images[val_idx], points[val_idx], train=False)
    train_loader = DataLoader(train_ds, batch_size=CFG.batch_size, shuffle=True)
    valid_loader = DataLoader(valid_ds, batch_size=CFG.batch_size * 2, shuffle=False)

    model = HeatmapNet(len(CFG.names))
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.2, patience=1)

    best_loss, best_state = float("inf"), None
    for epoch in range(CFG.epochs):
        train_loss = train_fn(train_loader, model, optimizer)
        val_loss, nme = valid_fn(valid_loader, model)
        scheduler.step(val_loss)
        lr = optimizer.param_groups[0]["lr"]
        print(f"Epoch {epoch + 1} - train_loss: {train_loss:.4f}  val_loss: {val_loss:.4f}  NME: {nme:.4f}  lr: {lr:.1e}")
        if val_loss < best_loss:
            best_loss, best_state = val_loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    print(f"best val_loss {best_loss:.4f}, NME {valid_fn(valid_loader, model)[1]:.4f}")

if __name__ == "__main__":
    main()
