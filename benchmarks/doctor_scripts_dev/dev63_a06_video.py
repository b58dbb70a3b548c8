# %% [markdown]
# Which way does it move?  CNN + GRU, stratified folds, mixup (notebook exported to a script)

# %%
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler


class CFG:
    seed = 2024
    n_clips = 1200
    n_frames = 6
    size = 16
    n_classes = 4  # right, left, down, up
    class_share = [0.54, 0.26, 0.13, 0.07]
    n_folds = 3
    epochs = 8
    batch_size = 32
    lr = 3e-3
    weight_decay = 1e-3
    mixup_alpha = 0.3
    hidden = 48


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_clips():
    """A bright blob that moves 1 to 1.5 pixels a frame, under noise: uint8 clips (N, T, 1, H, W)."""
    rng = np.random.default_rng(CFG.seed)
    labels = rng.choice(CFG.n_classes, CFG.n_clips, p=CFG.class_share)
    steps = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])[labels] * rng.uniform(1.0, 1.5, (CFG.n_clips, 1))
    centers = rng.uniform(5.0, CFG.size - 6.0, (CFG.n_clips, 2))  # where it is half-way
    grid_y, grid_x = np.mgrid[0 : CFG.size, 0 : CFG.size]
    clips = np.zeros((CFG.n_clips, CFG.n_frames, 1, CFG.size, CFG.size), dtype=np.float32)
    for t in range(CFG.n_frames):
        x, y = (centers + (t - (CFG.n_frames - 1) / 2) * steps).T
        distance = (grid_x - x[:, None, None]) ** 2 + (grid_y - y[:, None, None]) ** 2
        clips[:, t, 0] = np.exp(-distance / 4.0)
    clips += 0.08 * rng.standard_normal(clips.shape)
    return (clips.clip(0, 1) * 255).astype(np.uint8), labels.astype(np.int64)


class ClipDataset(Dataset):
    def __init__(self, clips, labels):
        self.clips, self.labels = clips, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        clip = torch.from_numpy(self.clips[idx]).float() / 255.0
        return (clip - 0.1) / 0.2, int(self.labels[idx])


# %%
class VideoNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 12, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 24, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24 * 4 * 4, CFG.hidden),
            nn.ReLU(),
        )
        self.gru = nn.GRU(CFG.hidden, CFG.hidden, batch_first=True)
        self.head = nn.Linear(CFG.hidden, CFG.n_classes)

    def forward(self, x):
        b, t, c, h, w = x.shape
        with torch.autocast("cpu", dtype=torch.bfloat16):
            feats = self.cnn(x.reshape(b * t, c, h, w))
        feats = feats.float().view(b, t, -1)
        out, _ = self.gru(feats)
        return self.head(out[:, -1])


def mixup(x, y, alpha):
    lam = float(np.random.beta(alpha, alpha))
    perm = torch.randperm(len(x))
    return lam * x + (1 - lam) * x[perm], y, y[perm], lam


def mixup_loss(logits, y_a, y_b, lam):
    return lam * F.cross_entropy(logits, y_a) + (1 - lam) * F.cross_entropy(logits, y_b)


def make_sampler(labels):
    counts = np.bincount(labels, minlength=CFG.n_classes)
    weights = 1.0 / counts[labels]
    return WeightedRandomSampler(torch.as_tensor(weights, dtype=torch.double), len(labels), replacement=True)


def train_one_epoch(model, loader, optimizer, scheduler):
    model.train()
    total, seen = 0.0, 0
    for x, y in loader:
        x, y_a, y_b, lam = mixup(x, y, CFG.mixup_alpha)
        loss = mixup_loss(model(x), y_a, y_b, lam)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(y)
        seen += len(y)
    return total / seen


@torch.no_grad()
def predict(model, loader):
    model.eval()
    return torch.cat([model(x).softmax(dim=1) for x, _ in loader]).numpy()


def main():
    seed_everything(CFG.seed)
    clips, labels = make_clips()
    oof = np.zeros((len(labels), CFG.n_classes), dtype=np.float32)
    skf = StratifiedKFold(n_splits=CFG.n_folds, shuffle=True, random_state=CFG.seed)

    for fold, (trn_idx, val_idx) in enumerate(skf.split(clips, labels)):
        model = VideoNet()
        trn_loader = DataLoader(
            ClipDataset(clips[trn_idx], labels[trn_idx]),
            batch_size=CFG.batch_size,
            sampler=make_sampler(labels[trn_idx]),
            drop_last=True,
        )
        val_loader = DataLoader(ClipDataset(clips[val_idx], labels[val_idx]), batch_size=100, shuffle=False)
        optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=CFG.lr, epochs=CFG.epochs, steps_per_epoch=len(trn_loader), pct_start=0.15
        )
        for epoch in range(CFG.epochs):
            loss = train_one_epoch(model, trn_loader, optimizer, scheduler)
            probs = predict(model, val_loader)
            score = f1_score(labels[val_idx], probs.argmax(axis=1), average="macro")
            print(f"fold {fold} epoch {epoch + 1}: loss {loss:.4f}  val macro F1 {score:.4f}")
        oof[val_idx] = probs

    pred = oof.argmax(axis=1)
    print(f"OOF accuracy {accuracy_score(labels, pred):.4f}  macro F1 {f1_score(labels, pred, average='macro'):.4f}")


if __name__ == "__main__":
    main()
