"""Config-driven BaseTrainer: shape name + center keypoint heatmap (soft-argmax), losses weighted by learned log-variances."""
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CONFIG = yaml.safe_load("""
name: ShapePose
arch: {type: TwoHead, args: {width: 24}}
optimizer: {type: AdamW, args: {lr: 0.004, weight_decay: 0.01, amsgrad: true}}
lr_scheduler: {type: ReduceLROnPlateau, args: {mode: min, factor: 0.3, patience: 1}}
loader: {batch_size: 36, shuffle: true}
trainer: {epochs: 11, monitor: min val_loss, early_stop: 4}
""")

class PoseSet(Dataset):
    def __init__(self, train):
        self.s = Shapes(train)

    def __len__(self):
        return len(self.s)

    def __getitem__(self, k):
        image, cls = self.s[k]
        b = self.s.boxes[k]
        return dict(img=image * 2 - 1, gt=dict(cls=cls, kp=(b[:2] + b[2:]) / 2))

class TwoHead(nn.Module):
    def __init__(self, width):
        super().__init__()
        w = width
        self.stem = nn.Sequential(nn.Conv2d(3, w, 3, 1, 1), nn.BatchNorm2d(w), nn.ReLU(), nn.Conv2d(w, 2 * w, 3, 2, 1), nn.BatchNorm2d(2 * w), nn.ReLU())
        self.cls_head = nn.Sequential(nn.Conv2d(2 * w, 2 * w, 3, 2, 1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(2 * w, 6))
        self.kp_head = nn.Sequential(nn.Conv2d(2 * w, w, 3, 1, 1), nn.ReLU(), nn.Conv2d(w, 1, 1))
        self.log_vars = nn.Parameter(torch.zeros(2))
        self.register_buffer("grid", (torch.arange(8) + 0.5) / 8, persistent=False)

    def forward(self, x):
        f = self.stem(x)
        heat = self.kp_head(f)[:, 0].flatten(1).softmax(1).view(-1, 8, 8)
        kp = torch.stack([(heat.sum(1) * self.grid).sum(1), (heat.sum(2) * self.grid).sum(1)], 1)
        return {"cls": self.cls_head(f), "kp": kp}

def criterion(out, gt, log_vars):
    parts = [F.cross_entropy(out["cls"], gt["cls"]), F.l1_loss(out["kp"], gt["kp"]) * 10]
    return sum(torch.exp(-s) * l + s for s, l in zip(log_vars, parts)), parts

def accuracy(out, gt): return (out["cls"].argmax(1) == gt["cls"]).float().mean().item()
def pck(out, gt): return ((out["kp"] - gt["kp"]).norm(dim=1) < 0.08).float().mean().item()

class BaseTrainer:
    def __init__(self, config, save_dir):
        self.cfg, self.save_dir = config, Path(save_dir)
        self.model = globals()[config["arch"]["type"]](**config["arch"]["args"])
        self.optimizer = getattr(torch.optim, config["optimizer"]["type"])(self.model.parameters(), **config["optimizer"]["args"])
        self.lr_scheduler = getattr(torch.optim.lr_scheduler, config["lr_scheduler"]["type"])(self.optimizer, **config["lr_scheduler"]["args"])
        self.loaders = {"train": DataLoader(PoseSet(True), **config["loader"]), "val": DataLoader(PoseSet(False), batch_size=80)}
        self.mnt_best, self.not_improved = float("inf"), 0

    def _train_epoch(self):
        self.model.train()
        total = 0
        for batch in self.loaders["train"]:
            self.optimizer.zero_grad()
            loss, parts = criterion(self.model(batch["img"]), batch["gt"], self.model.log_vars)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return {"loss": total / len(self.loaders["train"])}

    def _valid_epoch(self):
        self.model.eval()
        log = {"val_loss": 0, "val_accuracy": 0, "val_pck": 0}
        with torch.no_grad():
            for batch in self.loaders["val"]:
                out = self.model(batch["img"])
                _, parts = criterion(out, batch["gt"], self.model.log_vars)
                for k, v in zip(log, (sum(parts).item(), accuracy(out, batch["gt"]), pck(out, batch["gt"]))):
                    log[k] += v / len(self.loaders["val"])
        return log

    def train(self):
        for epoch in range(1, self.cfg["trainer"]["epochs"] + 1):
            log = {"epoch": epoch, **self._train_epoch(), **self._valid_epoch()}
            self.lr_scheduler.step(log["val_loss"])
            print("    ".join(f"{k:s}: {v:.3f}" for k, v in log.items()), self.model.log_vars.tolist())
            if log["val_loss"] <= self.mnt_best:
                self.mnt_best, self.not_improved = log["val_loss"], 0
                torch.save({"state_dict": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "config": self.cfg}, self.save_dir / "model_best.pth")
            else:
                self.not_improved += 1
            if self.not_improved > self.cfg["trainer"]["early_stop"]:
                break
        self.model.load_state_dict(torch.load(self.save_dir / "model_best.pth")["state_dict"])
        print("best:", self._valid_epoch())

if __name__ == "__main__":
    torch.manual_seed(123)
    with tempfile.TemporaryDirectory() as d:
        BaseTrainer(CONFIG, d).train()
