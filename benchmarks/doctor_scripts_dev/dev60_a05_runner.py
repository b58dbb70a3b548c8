"""One-object detection with a runner, registries and hooks (class, box and width of a shape)."""
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes

MODELS, DATASETS, HOOKS = {}, {}, {}


def register(registry):
    return lambda cls: registry.setdefault(cls.__name__, cls)


def build(cfg, registry):
    cfg = dict(cfg)
    return registry[cfg.pop("type")](**cfg)


cfg = dict(
    model=dict(type="OneObjectDetector", frozen_stages=-1, loss_weights=dict(cls=1.0, bbox=5.0, width=0.5)),
    train_dataset=dict(type="ShapesDataset", train=True, metainfo=dict(classes=tuple(NAMES))),
    val_dataset=dict(type="ShapesDataset", train=False, metainfo=dict(classes=tuple(NAMES))),
    optim_wrapper=dict(lr=2e-3, weight_decay=1e-2, max_norm=10.0, accumulative_counts=1),
    hooks=[dict(type="EMAHook", momentum=0.02, begin_iter=0)],
    batch_size=32, max_epochs=10,
)


@register(DATASETS)
class ShapesDataset(Dataset):
    def __init__(self, train, metainfo):
        self.shapes = Shapes(train=train, size=20)
        self.cat2label = {name: i for i, name in enumerate(metainfo["classes"])}

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, idx):
        image, box = self.shapes.images[idx], self.shapes.boxes[idx]
        width = (box[2] - box[0] - 0.45) / 0.08
        return dict(inputs=(image - 0.5) / 0.17, gt_label=self.cat2label[self.shapes.names[idx]], gt_bbox=box, gt_width=width)


@register(MODELS)
class OneObjectDetector(nn.Module):
    def __init__(self, frozen_stages, loss_weights, num_classes=6):
        super().__init__()
        self.frozen_stages, self.loss_weights = frozen_stages, loss_weights
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())
            for i, o, s in [(3, 16, 1), (16, 32, 2), (32, 32, 2)])
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(32 * 5 * 5, 96), nn.ReLU())
        self.cls_head, self.bbox_head, self.width_head = nn.Linear(96, num_classes), nn.Linear(96, 4), nn.Linear(96, 1)
        self.stages[:max(frozen_stages, 0)].requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        self.stages[:max(self.frozen_stages, 0)].eval()
        return self

    def forward(self, inputs):
        for stage in self.stages:
            inputs = stage(inputs)
        x = self.neck(inputs)
        return self.cls_head(x), self.bbox_head(x).sigmoid(), self.width_head(x)

    def loss(self, data):
        cls, bbox, width = self(data["inputs"])
        losses = dict(cls=F.cross_entropy(cls, data["gt_label"]), bbox=F.l1_loss(bbox, data["gt_bbox"]),
                      width=F.mse_loss(width.squeeze(1), data["gt_width"]))
        return {k: v * self.loss_weights[k] for k, v in losses.items()}


class Hook:
    def before_run(self, runner): ...

    after_train_iter = before_val = after_val = before_run


@register(HOOKS)
class EMAHook(Hook):
    """Averages weights and buffers; `momentum` is the share of the new weights. Validation uses the average."""

    def __init__(self, momentum, begin_iter):
        self.momentum, self.begin_iter = momentum, begin_iter
    def before_run(self, runner):
        self.ema = copy.deepcopy(runner.model).requires_grad_(False)

    @torch.no_grad()
    def after_train_iter(self, runner):
        if runner.iter < self.begin_iter: return
        momentum = max(self.momentum, 1 / (runner.iter - self.begin_iter + 2))
        for avg, new in zip(self.ema.state_dict().values(), runner.model.state_dict().values()):
            avg.lerp_(new, momentum) if avg.is_floating_point() else avg.copy_(new)

    def before_val(self, runner):
        runner.model, self.ema = self.ema, runner.model

    after_val = before_val


class Runner:
    def __init__(self, cfg):
        self.max_epochs, self.opt = cfg["max_epochs"], cfg["optim_wrapper"]
        self.model = build(cfg["model"], MODELS)
        self.train_loader = DataLoader(build(cfg["train_dataset"], DATASETS), cfg["batch_size"], shuffle=True, drop_last=True)
        self.val_loader = DataLoader(build(cfg["val_dataset"], DATASETS), 60)
        self.optimizer = torch.optim.AdamW(
            [p for p in self.model.parameters() if p.requires_grad], self.opt["lr"], weight_decay=self.opt["weight_decay"])
        self.hooks, self.iter = [build(h, HOOKS) for h in cfg["hooks"]], 0

    def call_hook(self, name):
        for hook in self.hooks:
            getattr(hook, name)(self)

    def update_params(self, loss):
        (loss / self.opt["accumulative_counts"]).backward()
        if (self.iter + 1) % self.opt["accumulative_counts"] == 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.opt["max_norm"])
            self.optimizer.step()
            self.optimizer.zero_grad()

    @torch.no_grad()
    def val(self):
        self.call_hook("before_val")
        self.model.eval()
        correct, iou, count = 0, 0.0, 0
        for data in self.val_loader:
            (cls, bbox, _), gt = self.model(data["inputs"]), data["gt_bbox"]
            sides = (torch.min(bbox[:, 2:], gt[:, 2:]) - torch.max(bbox[:, :2], gt[:, :2])).clamp(min=0)
            area = lambda b: (b[:, 2:] - b[:, :2]).clamp(min=0).prod(1)
            iou += (sides.prod(1) / (area(bbox) + area(gt) - sides.prod(1))).sum().item()
            correct, count = correct + (cls.argmax(1) == data["gt_label"]).sum().item(), count + len(gt)
        print(f"val: accuracy {correct / count:.3f} IoU {iou / count:.3f}")
        self.call_hook("after_val")

    def train(self):
        self.call_hook("before_run")
        for _ in range(self.max_epochs):
            self.model.train()
            for data in self.train_loader:
                self.losses = self.model.loss(data)
                self.update_params(sum(self.losses.values()))
                self.call_hook("after_train_iter")
                self.iter += 1
            print(f"Iter {self.iter}", {k: round(v.item(), 4) for k, v in self.losses.items()})
            self.val()


def main():
    torch.manual_seed(0)
    Runner(cfg).train()


if __name__ == "__main__":
    main()
