"""Segmentation with a config dictionary, registries, a runner and hooks, in the manner of MMEngine and MMSegmentation."""

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset
from toydata import Shapes

CLASSES = ("background", "square", "disc", "cross")
train_pipeline = [
    dict(type="LoadAnnotations", reduce_zero_label=False),
    dict(type="RandomFlip", prob=0.6, directions=("horizontal", "vertical")),
    dict(type="PackSegInputs", mean=0.5, std=0.18),
]
val_pipeline = [
    dict(type="LoadAnnotations", reduce_zero_label=False),
    dict(type="PackSegInputs", mean=0.5, std=0.18),
]
cfg = dict(
    seed=3,
    model=dict(type="EncoderDecoder", width=16, num_classes=len(CLASSES), ignore_index=255),
    train_dataloader=dict(batch_size=20, shuffle=True, dataset=dict(train=True, count=600, pipeline=train_pipeline)),
    val_dataloader=dict(batch_size=40, shuffle=False, dataset=dict(train=False, count=160, pipeline=val_pipeline)),
    optimizer=dict(type="AdamW", lr=4e-3, weight_decay=1e-3),
    train_cfg=dict(max_epochs=8),
    hooks=[dict(type="PolyLrHook", power=0.9), dict(type="CheckpointHook")],
)
REGISTRY = {}

def register(cls):
    REGISTRY[cls.__name__] = cls
    return cls

def build(config, **extra):
    config = dict(config, **extra)
    return REGISTRY[config.pop("type")](**config)

@register
class LoadAnnotations:
    def __init__(self, reduce_zero_label):
        self.reduce_zero_label = reduce_zero_label

    def __call__(self, results):
        gt = results["mask"].clone()
        if self.reduce_zero_label:
            gt[gt == 0] = 256
            gt = gt - 1
        results["gt_seg_map"] = gt
        return results

@register
class RandomFlip:
    def __init__(self, prob, directions):
        self.prob, self.directions = prob, directions

    def __call__(self, results):
        if torch.rand(()) < self.prob:
            direction = self.directions[int(torch.randint(len(self.directions), ()))]
            axis = {"horizontal": -1, "vertical": -2}[direction]
            results["img"] = results["img"].flip(axis)
            results["gt_seg_map"] = results["gt_seg_map"].flip(axis)
        return results

@register
class PackSegInputs:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, results):
        return (results["img"] - self.mean) / self.std, results["gt_seg_map"]

class SegDataset(Dataset):
    def __init__(self, train, count, pipeline):
        self.shapes = Shapes(train=train, count=count)
        self.pipeline = [build(step) for step in pipeline]

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        results = {"img": self.shapes.images[index], "mask": self.shapes.masks[index]}
        for step in self.pipeline:
            results = step(results)
        return results

@register
class EncoderDecoder(nn.Module):
    def __init__(self, width, num_classes, ignore_index, class_weight):
        super().__init__()
        self.ignore_index = ignore_index
        self.register_buffer("class_weight", class_weight)
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.down = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=2, dilation=2), nn.BatchNorm2d(2 * width), nn.ReLU(),
        )
        self.fuse = nn.Sequential(nn.Conv2d(3 * width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU())
        self.conv_seg = nn.Conv2d(2 * width, num_classes, 1)

    def forward(self, inputs):
        fine = self.stem(inputs)
        coarse = F.interpolate(self.down(fine), size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return self.conv_seg(self.fuse(torch.cat([fine, coarse], 1)))

    def loss(self, logits, gt):
        return F.cross_entropy(logits, gt, weight=self.class_weight, ignore_index=self.ignore_index)

class Hook:
    def before_train_iter(self, runner): ...
    def after_val_epoch(self, runner, metrics): ...

@register
class PolyLrHook(Hook):
    def __init__(self, power):
        self.power = power

    def before_train_iter(self, runner):
        progress = min(runner.iter / runner.max_iters, 1.0)
        for group in runner.optimizer.param_groups:
            group["lr"] = runner.base_lr * (1 - progress) ** self.power

@register
class CheckpointHook(Hook):
    best_miou, best_state = 0.0, None

    def after_val_epoch(self, runner, metrics):
        if metrics["mIoU"] > self.best_miou:
            self.best_miou, self.best_state = metrics["mIoU"], copy.deepcopy(runner.model.state_dict())

class Runner:
    def __init__(self, config):
        torch.manual_seed(config["seed"])
        loaders = []
        for name in ("train_dataloader", "val_dataloader"):
            options = dict(config[name])
            loaders.append(DataLoader(SegDataset(**options.pop("dataset")), **options))
        self.train_loader, self.val_loader = loaders
        self.num_classes = config["model"]["num_classes"]
        pixels = torch.stack(self.train_loader.dataset.shapes.masks).flatten()
        freq = torch.bincount(pixels, minlength=self.num_classes).float() / len(pixels)
        class_weight = freq.rsqrt()
        self.model = build(config["model"], class_weight=class_weight / class_weight.mean())
        optimizer = dict(config["optimizer"])
        self.optimizer = getattr(torch.optim, optimizer.pop("type"))(self.model.parameters(), **optimizer)
        self.base_lr = optimizer["lr"]
        self.max_epochs = config["train_cfg"]["max_epochs"]
        self.max_iters = self.max_epochs * len(self.train_loader)
        self.hooks = [build(hook) for hook in config["hooks"]]
        self.iter = self.epoch = 0

    def call_hook(self, name, *args):
        for hook in self.hooks:
            getattr(hook, name)(self, *args)

    def train(self):
        for self.epoch in range(self.max_epochs):
            self.model.train()
            for inputs, gt in self.train_loader:
                self.call_hook("before_train_iter")
                loss = self.model.loss(self.model(inputs), gt)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.iter += 1
            metrics = self.val()
            print(f"Epoch(val) [{self.epoch + 1}]  loss {loss.item():.4f}  mIoU {metrics['mIoU']:.4f}")
            self.call_hook("after_val_epoch", metrics)

    @torch.no_grad()
    def val(self):
        self.model.eval()
        confusion = torch.zeros(self.num_classes, self.num_classes)
        for inputs, gt in self.val_loader:
            pred = self.model(inputs).argmax(1)
            pairs = (gt * self.num_classes + pred).flatten()
            confusion += torch.bincount(pairs, minlength=self.num_classes**2).view_as(confusion)
        hit = confusion.diagonal()
        return {"mIoU": (hit / (confusion.sum(0) + confusion.sum(1) - hit).clamp(min=1)).mean().item()}

def main():
    Runner(cfg).train()

if __name__ == "__main__":
    main()
