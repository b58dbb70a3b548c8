"""Localization of one shape an image, with a runner and hooks (after MMEngine)."""

import copy
import operator

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes

CLASSES = tuple(NAMES)

cfg = dict(
    seed=3,
    max_epochs=10,
    batch_size=32,
    train_dataset=dict(train=True, start=0, stop=900, classes=CLASSES),
    val_dataset=dict(train=False, start=0, stop=150, classes=CLASSES),
    test_dataset=dict(train=False, start=150, stop=300, classes=CLASSES),
    model=dict(num_classes=len(CLASSES), loss_iou_weight=2.0, loss_l1_weight=2.0),
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=1e-4),
    optimizer_hook=dict(max_norm=35.0),
    checkpoint_hook=dict(save_best="hit50", rule="greater"),
)


class ToyDetDataset(Dataset):
    def __init__(self, train, start, stop, classes, size=24):
        source = Shapes(train=train, count=900 if train else 300, size=size)
        self.cat2label = {name: i for i, name in enumerate(classes)}
        self.items = [(source.images[i], source.boxes[i], source.names[i]) for i in range(start, stop)]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        image, box, name = self.items[index]
        return dict(img=(image - 0.5) / 0.15, gt_bbox=box.float(), gt_label=self.cat2label[name])


def bbox_iou(a, b, generalized=False):
    """IoU or GIoU of aligned boxes (x1, y1, x2, y2)."""
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    wh = (torch.min(a[:, 2:], b[:, 2:]) - torch.max(a[:, :2], b[:, :2])).clamp(min=0)
    inter = wh[:, 0] * wh[:, 1]
    union = area_a + area_b - inter + 1e-6
    iou = inter / union
    if not generalized:
        return iou
    hull = torch.max(a[:, 2:], b[:, 2:]) - torch.min(a[:, :2], b[:, :2])
    hull = hull[:, 0] * hull[:, 1] + 1e-6
    return iou - (hull - union) / hull


class SingleBoxDetector(nn.Module):
    def __init__(self, num_classes, loss_iou_weight, loss_l1_weight):
        super().__init__()
        layers, channels = [], 3
        for width in (16, 32, 32):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        self.backbone = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 3 * 3, 96), nn.ReLU())
        self.cls_head = nn.Linear(96, num_classes)
        self.reg_head = nn.Linear(96, 4)
        self.loss_iou_weight, self.loss_l1_weight = loss_iou_weight, loss_l1_weight

    def forward(self, img):
        feat = self.backbone(img)
        cxcy, wh = self.reg_head(feat).sigmoid().chunk(2, dim=1)
        return self.cls_head(feat), torch.cat([cxcy - wh / 2, cxcy + wh / 2], dim=1)

    def loss(self, data):
        scores, boxes = self(data["img"])
        giou = bbox_iou(boxes, data["gt_bbox"], generalized=True)
        return dict(
            loss_cls=F.cross_entropy(scores, data["gt_label"]),
            loss_iou=self.loss_iou_weight * (1 - giou).mean(),
            loss_l1=self.loss_l1_weight * F.l1_loss(boxes, data["gt_bbox"]),
        )


class OptimizerHook:
    def __init__(self, max_norm):
        self.max_norm = max_norm

    def after_train_iter(self, runner):
        runner.optimizer.zero_grad()
        runner.outputs["loss"].backward()
        nn.utils.clip_grad_norm_(runner.model.parameters(), self.max_norm)
        runner.optimizer.step()


class CheckpointHook:
    def __init__(self, save_best, rule):
        self.key, self.better = save_best, dict(greater=operator.gt, less=operator.lt)[rule]
        self.best, self.state = None, None

    def after_val(self, runner):
        value = runner.metrics[self.key]
        if self.best is None or self.better(value, self.best):
            self.best, self.state = value, copy.deepcopy(runner.model.state_dict())

    def after_run(self, runner):
        runner.model.load_state_dict(self.state)


class LoggerHook:
    def after_val(self, runner):
        losses = {k: round(v.item(), 4) for k, v in runner.outputs.items()}
        print(f"Epoch(val) [{runner.epoch + 1}] {losses} {runner.metrics}")


class Runner:
    def __init__(self, cfg):
        torch.manual_seed(cfg["seed"])
        self.max_epochs, self.epoch = cfg["max_epochs"], 0
        train_set, val_set, test_set = (ToyDetDataset(**cfg[f"{k}_dataset"]) for k in ("train", "val", "test"))
        self.train_loader = DataLoader(train_set, batch_size=cfg["batch_size"], shuffle=True)
        self.val_loader, self.test_loader = (DataLoader(s, batch_size=50) for s in (val_set, test_set))
        self.model = SingleBoxDetector(**cfg["model"])
        opt = dict(cfg["optimizer"])
        self.optimizer = getattr(torch.optim, opt.pop("type"))(self.model.parameters(), **opt)
        self.hooks = [OptimizerHook(**cfg["optimizer_hook"]), CheckpointHook(**cfg["checkpoint_hook"]), LoggerHook()]

    def call_hook(self, name):
        for hook in self.hooks:
            if hasattr(hook, name):
                getattr(hook, name)(self)

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        ious, correct = [], []
        for data in loader:
            scores, boxes = self.model(data["img"])
            ious.append(bbox_iou(boxes, data["gt_bbox"]))
            correct.append(scores.argmax(dim=1) == data["gt_label"])
        ious, correct = torch.cat(ious), torch.cat(correct)
        hit = (ious >= 0.5) & correct
        return dict(hit50=hit.float().mean().item(), mIoU=ious.mean().item(), acc=correct.float().mean().item())

    def run(self):
        for self.epoch in range(self.max_epochs):
            self.model.train()
            for data in self.train_loader:
                losses = self.model.loss(data)
                self.outputs = dict(losses, loss=sum(losses.values()))
                self.call_hook("after_train_iter")
            self.metrics = self.evaluate(self.val_loader)
            self.call_hook("after_val")
        self.call_hook("after_run")
        print("test:", self.evaluate(self.test_loader))


if __name__ == "__main__":
    Runner(cfg).run()
