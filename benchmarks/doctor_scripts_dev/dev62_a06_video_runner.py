"""Clips of a moving blob: its direction (4 classes) and its speed. A small runner with hooks, in the way of MMEngine."""
import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

cfg = dict(
    seed=0,
    clip=dict(num_frames=6, size=16),
    train_dataloader=dict(num_clips=640, batch_size=32), val_dataloader=dict(num_clips=160, batch_size=64),
    model=dict(in_channels=18, width=32, speed_weight=0.5),
    optim_wrapper=dict(lr=3e-3, weight_decay=0.01, max_norm=5.0),
    param_scheduler=dict(milestones=[6, 9], gamma=0.2),
    ema=dict(momentum=0.05),
    max_epochs=10,
)

DIRECTIONS = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]], dtype=np.float32)  # right, left, down, up


def render_clip(rng, num_frames, size):
    label = int(rng.integers(4))
    speed = rng.uniform(0.5, 1.5)
    center = size / 2 + rng.uniform(-2, 2, size=2)
    color = rng.uniform(0.4, 1.0, size=3)
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), -1)
    frames = []
    for t in range(num_frames):
        place = center + DIRECTIONS[label] * speed * (t - (num_frames - 1) / 2)
        blob = np.exp(-((grid - place) ** 2).sum(-1) / 4.5)
        frames.append(blob[..., None] * color)
    clip = np.stack(frames) + 0.05 * rng.standard_normal((num_frames, size, size, 3))
    return clip.astype(np.float32), label, (speed - 1.0) / 0.29


class MovingBlobs(Dataset):
    def __init__(self, num_clips, seed, num_frames, size, test_mode=False):
        rng = np.random.default_rng(seed)
        self.data_infos = [render_clip(rng, num_frames, size) for _ in range(num_clips)]
        self.test_mode = test_mode

    def __len__(self):
        return len(self.data_infos)

    def pack(self, clip):
        return torch.from_numpy(clip.transpose(3, 0, 1, 2).copy())

    def __getitem__(self, idx):
        clip, label, speed = self.data_infos[idx]
        if not self.test_mode:
            clip = clip * np.float32(np.random.uniform(0.8, 1.2))
        return self.pack((clip - 0.1) / 0.2), label, torch.tensor(speed, dtype=torch.float32)


class BlobRecognizer(nn.Module):
    def __init__(self, in_channels, width, speed_weight):
        super().__init__()

        def block(inp, out):
            return nn.Sequential(nn.Conv2d(inp, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU())

        stages = [block(in_channels, width), block(width, 2 * width), block(2 * width, 2 * width)]
        self.backbone = nn.Sequential(stages[0], nn.MaxPool2d(2), stages[1], nn.MaxPool2d(2), stages[2])
        self.cls_head = nn.Linear(2 * width, 4)
        self.speed_head = nn.Linear(2 * width, 1)
        self.speed_weight = speed_weight

    def forward(self, clips):
        x = self.backbone(clips.flatten(1, 2)).mean(dim=(2, 3))
        return self.cls_head(x), self.speed_head(x)

    def loss(self, clips, label, speed):
        cls_score, speed_pred = self(clips)
        loss_speed = F.smooth_l1_loss(speed_pred.squeeze(1), speed)
        return dict(loss_cls=F.cross_entropy(cls_score, label), loss_speed=self.speed_weight * loss_speed)


class Hook:
    def before_run(self, runner): ...
    def after_train_iter(self, runner): ...
    def after_train_epoch(self, runner): ...


class EMAHook(Hook):
    def __init__(self, momentum):
        self.momentum = momentum

    def before_run(self, runner):
        runner.ema_model = copy.deepcopy(runner.model).requires_grad_(False)

    @torch.no_grad()
    def after_train_iter(self, runner):
        for avg, src in zip(runner.ema_model.parameters(), runner.model.parameters()):
            avg.lerp_(src, self.momentum)  # (1 - momentum) * avg + momentum * src
        for avg, src in zip(runner.ema_model.buffers(), runner.model.buffers()):
            avg.copy_(src)


class ParamSchedulerHook(Hook):
    def after_train_epoch(self, runner):
        runner.scheduler.step()


class EvalHook(Hook):
    @torch.no_grad()
    def after_train_epoch(self, runner):
        model = runner.ema_model.eval()
        correct, error, total = 0, 0.0, 0
        for clips, label, speed in runner.val_loader:
            cls_score, speed_pred = model(clips)
            correct += (cls_score.argmax(1) == label).sum().item()
            error += (speed_pred.squeeze(1) - speed).abs().sum().item()
            total += len(label)
        print(f"Epoch(val) [{runner.epoch + 1}]  acc/top1: {correct / total:.4f}  speed/mae: {error / total:.4f}")


class Runner:
    def __init__(self, cfg):
        train, val, optim = cfg["train_dataloader"], cfg["val_dataloader"], cfg["optim_wrapper"]
        train_set = MovingBlobs(train["num_clips"], cfg["seed"] + 1, **cfg["clip"])
        val_set = MovingBlobs(val["num_clips"], cfg["seed"] + 2, **cfg["clip"], test_mode=True)
        self.train_loader = DataLoader(train_set, train["batch_size"], shuffle=True)
        self.val_loader = DataLoader(val_set, val["batch_size"])
        self.model = BlobRecognizer(**cfg["model"])
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=optim["lr"], weight_decay=optim["weight_decay"])
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, **cfg["param_scheduler"])
        self.max_norm, self.max_epochs, self.epoch = optim["max_norm"], cfg["max_epochs"], 0
        self.hooks = [EMAHook(**cfg["ema"]), ParamSchedulerHook(), EvalHook()]

    def call_hook(self, name):
        for hook in self.hooks:
            getattr(hook, name)(self)

    def train(self):
        self.call_hook("before_run")
        for self.epoch in range(self.max_epochs):
            self.model.train()
            for clips, label, speed in self.train_loader:
                losses = self.model.loss(clips, label, speed)
                loss = sum(losses.values())
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
                self.optimizer.step()
                self.call_hook("after_train_iter")
            print(f"Epoch(train) [{self.epoch + 1}]  " + "  ".join(f"{k}: {v.item():.4f}" for k, v in losses.items()))
            self.call_hook("after_train_epoch")


def main():
    np.random.seed(cfg["seed"])
    torch.manual_seed(cfg["seed"])
    Runner(cfg).train()


if __name__ == "__main__":
    main()
