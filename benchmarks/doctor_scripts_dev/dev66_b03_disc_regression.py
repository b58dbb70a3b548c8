"""Where is the disc, how large and how bright? Regression from images with an own Trainer and callbacks."""
import argparse
import copy
import random

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

SIZE = 24
NAMES = ["cx", "cy", "radius", "brightness"]


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def render_scenes(n_scenes, frames, seed):
    """Every scene has its own background, radius and brightness; the disc moves from frame to frame."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[0:SIZE, 0:SIZE]
    images, targets, scene_ids = [], [], []
    for s in range(n_scenes):
        fx, fy, ph = rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.6), rng.uniform(0, 6.28)
        background = 0.3 * np.sin(fx * xx + fy * yy + ph) + 0.2 * rng.standard_normal((SIZE, SIZE))
        radius, bright = rng.uniform(2.0, 5.0), rng.uniform(0.5, 1.5)
        for _ in range(frames):
            cx, cy = rng.uniform(5, SIZE - 6, size=2)
            disc = 1 / (1 + np.exp(2.0 * (np.hypot(xx - cx, yy - cy) - radius)))
            images.append(background + bright * disc + 0.1 * rng.standard_normal((SIZE, SIZE)))
            targets.append((cx, cy, radius, bright))
            scene_ids.append(s)
    return np.float32(images)[:, None], np.float32(targets), np.array(scene_ids)


def split_by_scene(scene_ids, fractions=(0.7, 0.15), seed=0):
    scenes = np.random.default_rng(seed).permutation(np.unique(scene_ids))
    a, b = int(fractions[0] * len(scenes)), int(sum(fractions) * len(scenes))
    return [np.flatnonzero(np.isin(scene_ids, part)) for part in (scenes[:a], scenes[a:b], scenes[b:])]


class DiscDataset(Dataset):
    def __init__(self, images, targets, pixel_stats, target_stats, augment=False):
        self.images, self.targets = torch.from_numpy(images), torch.from_numpy(targets)
        self.pixel_mean, self.pixel_std = pixel_stats
        self.target_mean, self.target_std = target_stats
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image, target = self.images[i], self.targets[i].clone()
        if self.augment and random.random() < 0.5:
            image = torch.flip(image, dims=[2])
            target[0] = SIZE - 1 - target[0]
        if self.augment and random.random() < 0.5:
            image = torch.flip(image, dims=[1])
            target[1] = SIZE - 1 - target[1]
        return (image - self.pixel_mean) / self.pixel_std, (target - self.target_mean) / self.target_std


class Regressor(nn.Module):
    def __init__(self, width=16, n_out=4):
        super().__init__()

        def block(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2))

        self.body = nn.Sequential(block(1, width), block(width, 2 * width), block(2 * width, 2 * width))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(2 * width * 9, 96), nn.ReLU(), nn.Dropout(0.1), nn.Linear(96, n_out))

    def forward(self, x):
        return self.head(self.body(x))


class Callback:
    def on_train_begin(self, trainer): pass
    def on_epoch_end(self, trainer, logs): pass
    def on_train_end(self, trainer): pass


class MonitorMixin:
    def setup_monitor(self, monitor, mode):
        self.monitor, self.mode = monitor, mode
        self.best = float("inf") if mode == "min" else float("-inf")

    def improved(self, value, min_delta=0.0):
        return value < self.best - min_delta if self.mode == "min" else value > self.best + min_delta


class EarlyStopping(Callback, MonitorMixin):
    def __init__(self, monitor="val_loss", mode="min", patience=7, min_delta=1e-4):
        self.setup_monitor(monitor, mode)
        self.patience, self.min_delta, self.wait = patience, min_delta, 0

    def on_epoch_end(self, trainer, logs):
        if self.improved(logs[self.monitor], self.min_delta):
            self.best = logs[self.monitor]
            self.wait = 0
        else:
            self.wait += 1
            if self.wait >= self.patience:
                print(f"early stop in epoch {logs['epoch']}")
                trainer.stop = True


class BestCheckpoint(Callback, MonitorMixin):
    def __init__(self, monitor="val_loss", mode="min"):
        self.setup_monitor(monitor, mode)
        self.state, self.epoch = None, 0

    def on_epoch_end(self, trainer, logs):
        if self.improved(logs[self.monitor]):
            self.best, self.epoch = logs[self.monitor], logs["epoch"]
            self.state = copy.deepcopy(trainer.model.state_dict())

    def on_train_end(self, trainer):
        trainer.model.load_state_dict(self.state)
        print(f"restored epoch {self.epoch} ({self.monitor} {self.best:.4f})")


class ReduceOnPlateau(Callback):
    def __init__(self, monitor="val_loss", **kwargs):
        self.monitor, self.kwargs = monitor, kwargs

    def on_train_begin(self, trainer):
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(trainer.optimizer, **self.kwargs)

    def on_epoch_end(self, trainer, logs):
        self.scheduler.step(logs[self.monitor])


class ProgressPrinter(Callback):
    def on_epoch_end(self, trainer, logs):
        print(f"{logs['epoch']:3d}  lr {logs['lr']:.5f}  train {logs['train_loss']:.4f}  val {logs['val_loss']:.4f}  "
              f"r2 {logs['val_r2']:.4f}  mae " + " ".join(f"{m:.3f}" for m in logs["val_mae"]))


class Trainer:
    def __init__(self, model, optimizer, criterion, target_stats, callbacks=(), clip=5.0):
        self.model, self.optimizer, self.criterion, self.clip = model, optimizer, criterion, clip
        self.target_mean, self.target_std = target_stats
        self.callbacks, self.stop, self.history = list(callbacks), False, []

    def _call(self, hook, *args):
        for callback in self.callbacks:
            getattr(callback, hook)(self, *args)

    def train_epoch(self, loader):
        self.model.train()
        total, count = 0.0, 0
        for x, y in loader:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
            total += loss.item() * len(x)
            count += len(x)
        return total / count

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        outputs = [(self.model(x), y) for x, y in loader]
        pred, true = torch.cat([p for p, _ in outputs]), torch.cat([t for _, t in outputs])
        loss = self.criterion(pred, true).item()
        pred = pred * self.target_std + self.target_mean
        true = true * self.target_std + self.target_mean
        mae = (pred - true).abs().mean(dim=0)
        ss_res = ((true - pred) ** 2).sum(dim=0)
        ss_tot = ((true - true.mean(dim=0)) ** 2).sum(dim=0)
        return {"loss": loss, "mae": mae.tolist(), "r2": (1 - ss_res / ss_tot).mean().item()}

    def fit(self, train_loader, val_loader, epochs):
        self._call("on_train_begin")
        for epoch in range(1, epochs + 1):
            logs = {"epoch": epoch, "lr": self.optimizer.param_groups[0]["lr"], "train_loss": self.train_epoch(train_loader)}
            logs.update({f"val_{k}": v for k, v in self.evaluate(val_loader).items()})
            self.history.append(logs)
            self._call("on_epoch_end", logs)
            if self.stop:
                break
        self._call("on_train_end")
        return self.history


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    seed_all(args.seed)

    images, targets, scene_ids = render_scenes(240, 8, args.seed)
    train, val, test = split_by_scene(scene_ids, seed=args.seed)
    pixel_stats = (float(images[train].mean()), float(images[train].std()))
    target_stats = (torch.from_numpy(targets[train].mean(axis=0)), torch.from_numpy(targets[train].std(axis=0)))
    sets = [DiscDataset(images[i], targets[i], pixel_stats, target_stats, augment=i is train) for i in (train, val, test)]
    train_loader = DataLoader(sets[0], batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader, test_loader = (DataLoader(s, batch_size=128) for s in sets[1:])

    model = Regressor()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
    callbacks = [EarlyStopping(patience=8), BestCheckpoint(), ReduceOnPlateau(mode="min", factor=0.5, patience=2), ProgressPrinter()]
    trainer = Trainer(model, optimizer, nn.SmoothL1Loss(beta=0.5), target_stats, callbacks)
    trainer.fit(train_loader, val_loader, args.epochs)
    scores = trainer.evaluate(test_loader)
    print(f"FINAL loss {scores['loss']:.4f}  r2 {scores['r2']:.4f}  mae " + " ".join(
        f"{n} {m:.3f}" for n, m in zip(NAMES, scores["mae"])))


if __name__ == "__main__":
    main()
