"""Direction and speed of a moving blob in short clips; a runner with registries and hooks, as in MMEngine."""

import copy
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
REGISTRY = {}
def register(cls):
    REGISTRY[cls.__name__] = cls
    return cls
def build(cfg, **extra):
    cfg = dict(cfg)
    return REGISTRY[cfg.pop("type")](**cfg, **extra)
CLASSES = ("up", "down", "left", "right")
cfg = dict(
    seed=3,
    max_epochs=10,
    model=dict(type="MotionRecognizer", width=16, hidden=64, num_classes=len(CLASSES), speed_weight=0.5),
    train=dict(dataset=dict(type="BlobClips", count=1000, seed=0), batch_size=32, shuffle=True),
    val=dict(dataset=dict(type="BlobClips", count=250, seed=1), batch_size=64, shuffle=False),
    optimizer=dict(lr=2e-3, weight_decay=1e-3),
    hooks=[
        dict(type="OptimizerHook", max_norm=5.0),
        dict(type="LrHook", gamma=0.85),
        dict(type="LoggerHook"),
        dict(type="EvalHook", save_best="accuracy"),
    ],
)
@register
class BlobClips(Dataset):
    """Clips of T x 1 x H x W, in each a blob that goes one way at one speed."""
    VECTORS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
    def __init__(self, count, seed, frames=6, size=16, test_mode=False):
        g = torch.Generator().manual_seed(seed)
        y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
        names = list(self.VECTORS)
        self.names = [names[i] for i in torch.randint(0, 4, (count,), generator=g).tolist()]
        self.speeds = 0.4 + 1.2 * torch.rand(count, generator=g)
        self.class_to_idx = {name: i for i, name in enumerate(CLASSES)}
        self.test_mode = test_mode
        clips = []
        time = torch.arange(frames).float() - (frames - 1) / 2
        for name, speed in zip(self.names, self.speeds.tolist()):
            start = size / 2 - 0.5 + 3 * (torch.rand(2, generator=g) - 0.5)
            dy, dx = self.VECTORS[name]
            cy, cx = start[0] + dy * speed * time, start[1] + dx * speed * time
            clip = torch.exp(-((y - cy[:, None, None]) ** 2 + (x - cx[:, None, None]) ** 2) / 4.0)
            clips.append(clip + 0.05 * torch.randn(clip.shape, generator=g))
        self.clips = ((torch.stack(clips) - 0.05) / 0.17).unsqueeze(2)
    def __len__(self):
        return len(self.clips)
    def __getitem__(self, i):
        clip = self.clips[i]
        if not self.test_mode:
            clip = clip * (0.9 + 0.2 * torch.rand(()))
        speed = (self.speeds[i] - 1.0) / 0.35
        return dict(inputs=clip, label=self.class_to_idx[self.names[i]], speed=speed)
@register
class MotionRecognizer(nn.Module):
    def __init__(self, width, hidden, num_classes, speed_weight):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        )
        self.temporal = nn.GRU(width * 16, hidden, batch_first=True)
        self.cls_head = nn.Linear(hidden, num_classes)
        self.speed_head = nn.Linear(hidden, 1)
        self.speed_weight = speed_weight
    def extract(self, inputs):
        b, t = inputs.shape[:2]
        feats = self.backbone(inputs.flatten(0, 1)).flatten(1)
        feats = feats.view(b, t, -1)
        return self.temporal(feats)[0][:, -1]
    def forward(self, batch, mode="loss"):
        feat = self.extract(batch["inputs"])
        logits, speed = self.cls_head(feat), self.speed_head(feat).squeeze(-1)
        if mode == "predict":
            return logits.argmax(1), speed
        loss_cls = F.cross_entropy(logits, batch["label"])
        loss_speed = F.smooth_l1_loss(speed, batch["speed"])
        return dict(loss=loss_cls + self.speed_weight * loss_speed, loss_cls=loss_cls, loss_speed=loss_speed)
class Hook:
    def before_run(self, runner): ...
    def after_train_iter(self, runner): ...
    def after_train_epoch(self, runner): ...
@register
class OptimizerHook(Hook):
    def __init__(self, max_norm):
        self.max_norm = max_norm
    def after_train_iter(self, runner):
        runner.optimizer.zero_grad()
        runner.outputs["loss"].backward()
        nn.utils.clip_grad_norm_(runner.model.parameters(), self.max_norm)
        runner.optimizer.step()
@register
class LrHook(Hook):
    def __init__(self, gamma):
        self.gamma = gamma
    def before_run(self, runner):
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(runner.optimizer, self.gamma)
    def after_train_epoch(self, runner):
        self.scheduler.step()
@register
class LoggerHook(Hook):
    def before_run(self, runner):
        self.sums, self.iters = {}, 0
    def after_train_iter(self, runner):
        for k, v in runner.outputs.items():
            self.sums[k] = self.sums.get(k, 0.0) + v.detach()
        self.iters += 1
    def after_train_epoch(self, runner):
        text = ", ".join(f"{k}: {float(v) / self.iters:.4f}" for k, v in self.sums.items())
        print(f"Epoch(train) [{runner.epoch + 1}] {text}")
        self.sums, self.iters = {}, 0
@register
class EvalHook(Hook):
    def __init__(self, save_best):
        self.save_best, self.best, self.state = save_best, -1.0, None
    @torch.no_grad()
    def after_train_epoch(self, runner):
        runner.model.eval()
        correct, error, total = 0, 0.0, 0
        for batch in runner.val_loader:
            pred, speed = runner.model(batch, mode="predict")
            correct += (pred == batch["label"]).sum().item()
            error += (speed - batch["speed"]).abs().sum().item()
            total += len(pred)
        metrics = dict(accuracy=correct / total, speed_mae=error / total)
        print(f"Epoch(val) [{runner.epoch + 1}] " + ", ".join(f"{k}: {v:.4f}" for k, v in metrics.items()))
        if metrics[self.save_best] > self.best:
            self.best, self.state = metrics[self.save_best], copy.deepcopy(runner.model.state_dict())
class Runner:
    def __init__(self, cfg):
        torch.manual_seed(cfg["seed"])
        self.max_epochs, self.epoch = cfg["max_epochs"], 0
        self.train_loader = self.build_loader(cfg["train"], test_mode=False)
        self.val_loader = self.build_loader(cfg["val"], test_mode=True)
        self.model = build(cfg["model"])
        self.optimizer = torch.optim.AdamW(self.model.parameters(), **cfg["optimizer"])
        self.hooks = [build(h) for h in cfg["hooks"]]
    @staticmethod
    def build_loader(cfg, test_mode):
        return DataLoader(build(cfg["dataset"], test_mode=test_mode), cfg["batch_size"], shuffle=cfg["shuffle"])
    def call(self, name):
        for hook in self.hooks:
            getattr(hook, name)(self)
    def train(self):
        self.call("before_run")
        for self.epoch in range(self.max_epochs):
            self.model.train()
            for batch in self.train_loader:
                self.outputs = self.model(batch, mode="loss")
                self.call("after_train_iter")
            self.call("after_train_epoch")
def main():
    Runner(cfg).train()
if __name__ == "__main__":
    main()
