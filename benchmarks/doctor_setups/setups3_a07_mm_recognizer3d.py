"""Where does the block move? Clips of six frames, a separable 3D network, config and registry as in MMAction2."""

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

TRANSFORMS = {}
CLASSES = ("left", "right", "up", "down")
MOVES = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}

img_norm = dict(type="Normalize", mean=[112.0, 112.0, 112.0], std=[45.0, 45.0, 45.0])
train_pipeline = [dict(type="FormatShape"), img_norm]
val_pipeline = [dict(type="FormatShape"), img_norm]
cfg = dict(
    model=dict(in_channels=3, base_channels=16, num_classes=4),
    train_dataloader=dict(batch_size=32, shuffle=True, drop_last=True),
    val_dataloader=dict(batch_size=60, shuffle=False),
    train_dataset=dict(num_clips=1000, seed=0, classes=CLASSES, pipeline=train_pipeline),
    val_dataset=dict(num_clips=240, seed=1, classes=CLASSES, pipeline=val_pipeline),
    optimizer=dict(lr=0.05, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={"backbone": dict(lr_mult=0.5)}),
    clip_grad=dict(max_norm=10.0),
)


def register(cls):
    TRANSFORMS[cls.__name__] = cls
    return cls


@register
class FormatShape:
    """(T, H, W, C) to (C, T, H, W)"""

    def __call__(self, results):
        results["imgs"] = np.ascontiguousarray(results["imgs"].transpose(3, 0, 1, 2))
        return results


@register
class Normalize:
    def __init__(self, mean, std):
        self.mean = np.array(mean, np.float32).reshape(-1, 1, 1, 1)
        self.std = np.array(std, np.float32).reshape(-1, 1, 1, 1)

    def __call__(self, results):
        results["imgs"] = (results["imgs"] - self.mean) / self.std
        return results


class ClipDataset(Dataset):
    def __init__(self, num_clips, seed, pipeline, classes=None, frames=6, size=12):
        rng = np.random.default_rng(seed)
        names = rng.choice(CLASSES, num_clips).tolist()
        self.classes = classes or sorted(set(names))
        self.labels = [self.classes.index(name) for name in names]
        self.clips = np.full((num_clips, frames, size, size, 3), 100.0, np.float32)
        for clip, name in zip(self.clips, names):
            color, (top, left) = rng.uniform(140, 255, 3), rng.integers(0, size, 2)
            for t in range(frames):
                rows = (top + MOVES[name][0] * t + np.arange(4)) % size
                cols = (left + MOVES[name][1] * t + np.arange(4)) % size
                clip[t, rows[:, None], cols[None, :]] = color
        self.clips += rng.normal(0, 6, self.clips.shape).astype(np.float32)
        self.pipeline = [TRANSFORMS[t["type"]](**{k: v for k, v in t.items() if k != "type"}) for t in pipeline]

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, idx):
        results = dict(imgs=self.clips[idx], label=self.labels[idx])
        for transform in self.pipeline:
            results = transform(results)
        return torch.from_numpy(results["imgs"]).float(), results["label"]


class Recognizer3D(nn.Module):
    def __init__(self, in_channels, base_channels, num_classes):
        super().__init__()
        c = base_channels
        self.backbone = nn.Sequential(
            nn.Conv3d(in_channels, c, 3, padding=1, bias=False), nn.BatchNorm3d(c), nn.ReLU(),
            nn.MaxPool3d((1, 2, 2)),
            nn.Conv3d(c, 2 * c, 1, bias=False), nn.BatchNorm3d(2 * c), nn.ReLU(),
            nn.Conv3d(2 * c, 2 * c, 3, padding=1, groups=2 * c, bias=False), nn.BatchNorm3d(2 * c), nn.ReLU(),
            nn.Conv3d(2 * c, 2 * c, 1, bias=False), nn.BatchNorm3d(2 * c), nn.ReLU(),
        )
        self.cls_head = nn.Linear(2 * c, num_classes)

    def forward(self, imgs):
        return self.cls_head(self.backbone(imgs).mean((2, 3, 4)))


class OptimWrapper:
    def __init__(self, clip_grad):
        self.clip_grad = clip_grad

    def update_params(self, model, optimizer, loss):
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), **self.clip_grad)
        optimizer.step()

    def train_step(self, model, batch, optimizer, loss_fn):
        imgs, labels = batch
        loss = loss_fn(model.train()(imgs), labels)
        self.update_params(model, optimizer, loss)
        return loss


def setup():
    torch.manual_seed(0)
    train = DataLoader(ClipDataset(**cfg["train_dataset"]), **cfg["train_dataloader"])
    val = DataLoader(ClipDataset(**cfg["val_dataset"]), **cfg["val_dataloader"])
    model, lr = Recognizer3D(**cfg["model"]), cfg["optimizer"]["lr"]
    mult = cfg["paramwise_cfg"]["custom_keys"]["backbone"]["lr_mult"]
    groups = [dict(params=list(model.backbone.parameters()), lr=lr * mult), dict(params=list(model.cls_head.parameters()))]
    optimizer = torch.optim.SGD(groups, **cfg["optimizer"])
    return dict(model=model, train=train, val=val, loss=nn.CrossEntropyLoss(), optimizer=optimizer, step=OptimWrapper(cfg["clip_grad"]).train_step)
