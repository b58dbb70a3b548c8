# %% [markdown]
# # Moving dots: direction (4 classes) and speed of short clips. CNN + GRU, one fold.

# %%
import copy
import random
import time

import numpy as np
import torch
import torch.nn as nn
from sklearn.model_selection import StratifiedKFold
from torch.utils.data import DataLoader, Dataset


# %%
class CFG:
    seed = 42
    n_clips = 1000
    frames = 8
    size = 12
    n_fold = 5
    trn_fold = [0]
    epochs = 10
    batch_size = 32
    max_lr = 4e-3
    weight_decay = 1e-2
    max_grad_norm = 5.0
    speed_weight = 0.5
    chunk = 128


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


# %%
DIRECTIONS = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)


def make_clips(n, frames, size, seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, n)
    speed = rng.uniform(0.3, 1.1, n).astype(np.float32)  # pixels a frame
    center = (size - 1) / 2 + rng.uniform(-1, 1, (n, 1, 2))
    time_ = np.arange(frames) - (frames - 1) / 2
    pos = center + time_[None, :, None] * speed[:, None, None] * DIRECTIONS[label][:, None, :]
    ys, xs = np.mgrid[:size, :size]
    dist = (xs - pos[..., 0, None, None]) ** 2 + (ys - pos[..., 1, None, None]) ** 2
    clips = np.exp(-dist / 3.0) + rng.normal(0, 0.05, dist.shape)
    return clips.astype(np.float32), label.astype(np.int64), speed


class ClipDataset(Dataset):
    def __init__(self, clips, labels, speeds):
        self.clips = (clips - 0.07) / 0.2
        self.labels = labels
        self.speeds = (speeds - 0.7) / 0.23

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        clip = torch.from_numpy(self.clips[i])
        return clip, torch.tensor(self.labels[i]), torch.tensor(self.speeds[i])


# %%
class ClipModel(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(2, 12, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(24 * 9, hidden), nn.ReLU(),
        )
        self.rnn = nn.GRU(hidden, hidden, batch_first=True)
        self.direction = nn.Linear(hidden, 4)
        self.speed = nn.Linear(hidden, 1)

    def forward(self, clip):
        b, t, h, w = clip.shape
        motion = torch.cat([torch.zeros_like(clip[:, :1]), clip[:, 1:] - clip[:, :-1]], 1)
        frames = torch.stack([clip, motion], 2).reshape(b * t, 2, h, w)
        feats = []
        for chunk in frames.split(CFG.chunk):
            feats.append(self.encoder(chunk))
        feats = torch.cat(feats).view(b, t, -1)
        out, _ = self.rnn(feats)
        pooled = out.mean(1)
        return self.direction(pooled), self.speed(pooled).squeeze(1)


class MultiTaskLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.ce, self.mse = nn.CrossEntropyLoss(), nn.MSELoss()

    def forward(self, outputs, label, speed):
        logits, pred = outputs
        return self.ce(logits, label) + CFG.speed_weight * self.mse(pred, speed)


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / self.count


# %%
def train_fn(train_loader, model, criterion, optimizer, scheduler):
    model.train()
    losses = AverageMeter()
    for clip, label, speed in train_loader:
        loss = criterion(model(clip), label, speed)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
        optimizer.step()
        scheduler.step()
        losses.update(loss.item(), len(label))
    return losses.avg


@torch.no_grad()
def valid_fn(valid_loader, model, criterion):
    model.eval()
    losses, correct, abs_err = AverageMeter(), 0, AverageMeter()
    for clip, label, speed in valid_loader:
        logits, pred = model(clip)
        losses.update(criterion((logits, pred), label, speed).item(), len(label))
        correct += (logits.argmax(1) == label).sum().item()
        abs_err.update((pred - speed).abs().mean().item(), len(label))
    acc = correct / len(valid_loader.dataset)
    return losses.avg, acc, abs_err.avg


def train_loop(clips, labels, speeds, trn_idx, val_idx, fold):
    print(f"========== fold: {fold} training ==========")
    train_ds = ClipDataset(clips[trn_idx], labels[trn_idx], speeds[trn_idx])
    valid_ds = ClipDataset(clips[val_idx], labels[val_idx], speeds[val_idx])
    train_loader = DataLoader(train_ds, CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_ds, CFG.batch_size * 2, shuffle=False)
    model, criterion = ClipModel(), MultiTaskLoss()
    params = list(model.parameters()) + list(criterion.parameters())
    optimizer = torch.optim.AdamW(params, lr=CFG.max_lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=CFG.max_lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader), pct_start=0.2
    )
    best_loss, best_state = np.inf, None
    for epoch in range(CFG.epochs):
        start = time.time()
        avg_loss = train_fn(train_loader, model, criterion, optimizer, scheduler)
        val_loss, acc, mae = valid_fn(valid_loader, model, criterion)
        print(f"Epoch {epoch + 1} - train {avg_loss:.4f} val {val_loss:.4f} acc {acc:.4f} mae {mae:.4f} {time.time() - start:.1f}s")
        if val_loss < best_loss:
            best_loss, best_state = val_loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    return valid_fn(valid_loader, model, criterion)[1]


def main():
    seed_everything(CFG.seed)
    clips, labels, speeds = make_clips(CFG.n_clips, CFG.frames, CFG.size, CFG.seed)
    folds = StratifiedKFold(CFG.n_fold, shuffle=True, random_state=CFG.seed)
    for fold, (trn_idx, val_idx) in enumerate(folds.split(clips, labels)):
        if fold in CFG.trn_fold:
            print(f"CV acc: {train_loop(clips, labels, speeds, trn_idx, val_idx, fold):.4f}")


if __name__ == "__main__":
    main()
