"""U-Net on colored shapes, configured in the way of MMSegmentation."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

def build(cfg):
    cfg = dict(cfg)
    return globals()[cfg.pop("type")](**cfg)

img_norm_cfg = dict(type="Normalize", mean=[0.50, 0.47, 0.50], std=[0.17, 0.15, 0.18])
train_pipeline = [dict(type="LoadAnnotations"), dict(type="RandomFlip", prob=0.5), img_norm_cfg]
test_pipeline = [dict(type="LoadAnnotations"), img_norm_cfg]
model_cfg = dict(type="UNet", in_channels=3, base_channels=16, num_classes=4, frozen_stages=0)
loss_cfg = [dict(type="CrossEntropyLoss", class_weight=None, loss_weight=1.0), dict(type="DiceLoss", loss_weight=3.0)]
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=1e-4), batch_size=25)

class LoadAnnotations:
    def __init__(self, reduce_zero_label=False):
        self.reduce_zero_label = reduce_zero_label

    def __call__(self, results):
        if self.reduce_zero_label:
            seg = results["gt_seg_map"]
            results["gt_seg_map"] = torch.where(seg == 0, torch.full_like(seg, 255), seg - 1)
        return results

class RandomFlip:
    def __init__(self, prob):
        self.prob = prob

    def __call__(self, results):
        if torch.rand(()) < self.prob:
            for key in ("img", "gt_seg_map"):
                results[key] = results[key].flip(-1)
        return results

class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def __call__(self, results):
        results["img"] = (results["img"] - self.mean) / self.std
        return results

class ShapesSegDataset(Dataset):
    def __init__(self, train, pipeline):
        self.shapes = Shapes(train=train)
        self.pipeline = [build(cfg) for cfg in pipeline]

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, idx):
        results = dict(img=self.shapes.images[idx], gt_seg_map=self.shapes.masks[idx])
        for transform in self.pipeline:
            results = transform(results)
        return results["img"], results["gt_seg_map"]

def conv_module(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU())

class UNet(nn.Module):
    def __init__(self, in_channels, base_channels, num_classes, frozen_stages):
        super().__init__()
        c = base_channels
        self.encoder = nn.ModuleList([conv_module(in_channels, c), conv_module(c, 2 * c), conv_module(2 * c, 4 * c)])
        self.decoder = nn.ModuleList([conv_module(6 * c, 2 * c), conv_module(3 * c, c)])
        self.conv_seg = nn.Conv2d(c, num_classes, 1)
        self.encoder[:frozen_stages].requires_grad_(False)

    def forward(self, x):
        skips = []
        for i, stage in enumerate(self.encoder):
            x = stage(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        skips.pop()
        for stage in self.decoder:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = stage(torch.cat([x, skips.pop()], dim=1))
        return self.conv_seg(x)

class CrossEntropyLoss(nn.Module):
    def __init__(self, class_weight, loss_weight):
        super().__init__()
        self.weight = None if class_weight is None else torch.tensor(class_weight)
        self.loss_weight = loss_weight

    def forward(self, pred, target):
        return self.loss_weight * F.cross_entropy(pred, target, weight=self.weight, ignore_index=255)

class DiceLoss(nn.Module):
    def __init__(self, loss_weight, eps=1.0):
        super().__init__()
        self.loss_weight, self.eps = loss_weight, eps

    def forward(self, pred, target):
        num_classes = pred.shape[1]
        valid = (target != 255).unsqueeze(1).float()
        prob = pred.softmax(dim=1) * valid
        onehot = F.one_hot(target.clamp(0, num_classes - 1), num_classes).permute(0, 3, 1, 2).float() * valid
        inter = (prob * onehot).sum(dim=(0, 2, 3))
        total = prob.sum(dim=(0, 2, 3)) + onehot.sum(dim=(0, 2, 3))
        dice = (2 * inter + self.eps) / (total + self.eps)
        return self.loss_weight * (1 - dice).mean()

def setup():
    torch.manual_seed(0)
    batch_size = optim_wrapper["batch_size"]
    train = DataLoader(ShapesSegDataset(True, train_pipeline), batch_size, shuffle=True)
    val = DataLoader(ShapesSegDataset(False, test_pipeline), batch_size)
    losses = nn.ModuleList([build(cfg) for cfg in loss_cfg])
    model = build(model_cfg)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], **optim_wrapper["optimizer"])
    return dict(model=model, train=train, val=val, loss=lambda pred, target: sum(l(pred, target) for l in losses),
                optimizer=optimizer, task="segment")
