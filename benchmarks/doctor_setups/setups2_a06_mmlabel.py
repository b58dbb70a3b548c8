"""Multi-label images in the manner of MMEngine/MMPretrain: registry, config dicts, depthwise network, optimizer wrapper with loss scaling."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import shape_mask

CLASSES = ("red square", "blue cross", "green disc", "yellow cross", "blue square")
PALETTE = {"red": (0.9, 0.2, 0.1), "blue": (0.1, 0.2, 0.9), "green": (0.1, 0.8, 0.2), "yellow": (0.9, 0.9, 0.1)}
REGISTRY = {}


def register(cls):
    REGISTRY[cls.__name__] = cls
    return cls


def build(cfg):
    return REGISTRY[cfg["type"]](**{key: value for key, value in cfg.items() if key != "type"})


@register
class ShapeMultiLabel(Dataset):
    def __init__(self, num, seed, classes, mean, std):
        self.classes, self.mean, self.std = classes, mean, std
        generator = torch.Generator().manual_seed(seed)
        self.data_list = [self.draw(generator) for _ in range(num)]

    @staticmethod
    def draw(generator):
        names = [name for name in CLASSES if torch.rand((), generator=generator) < 0.4]
        cells = torch.randperm(9, generator=generator).tolist()
        img = torch.full((3, 24, 24), 0.5)
        for name, cell in zip(names, cells):
            color, kind = name.split()
            mask = shape_mask(kind, 24, 8 * (cell // 3), 8 * (cell % 3), 7)
            img[:, mask] = torch.tensor(PALETTE[color])[:, None]
        return dict(img=img + 0.05 * torch.randn(img.shape, generator=generator), names=names)

    def __len__(self):
        return len(self.data_list)

    def __getitem__(self, idx):
        info = self.data_list[idx]
        gt_label = torch.tensor([float(name in info["names"]) for name in self.classes])
        return (info["img"] - self.mean) / self.std, gt_label


def conv_bn(cin, cout, k, stride=1, groups=1):
    return [nn.Conv2d(cin, cout, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(cout), nn.ReLU6()]


@register
class MobileBackbone(nn.Sequential):
    def __init__(self, widths):
        layers = conv_bn(3, widths[0], 3)
        for cin, cout in zip(widths, widths[1:]):
            layers += conv_bn(cin, cin, 3, stride=2, groups=cin) + conv_bn(cin, cout, 1)
        super().__init__(*layers)


@register
class MultiLabelHead(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.fc = nn.Linear(in_channels, num_classes)

    def forward(self, feats):
        return self.fc(feats.amax(dim=(2, 3)))


@register
class CrossEntropyLoss(nn.Module):
    def __init__(self, use_sigmoid=False):
        super().__init__()
        self.use_sigmoid = use_sigmoid

    def forward(self, cls_score, label):
        if self.use_sigmoid:
            return F.binary_cross_entropy_with_logits(cls_score, label)
        return F.cross_entropy(cls_score, label)


@register
class AmpOptimWrapper:
    def __init__(self, clip_grad):
        self.clip_grad = clip_grad
        self.scaler = torch.amp.GradScaler("cpu")

    def update_params(self, model, batch, optimizer, loss_module):
        loss = loss_module(model(batch[0]), batch[1])
        optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), **self.clip_grad)
        self.scaler.step(optimizer)
        self.scaler.update()
        return loss


cfg = dict(
    backbone=dict(type="MobileBackbone", widths=(16, 32, 48)),
    head=dict(type="MultiLabelHead", in_channels=48, num_classes=len(CLASSES)),
    loss=dict(type="CrossEntropyLoss", use_sigmoid=True),
    train_dataset=dict(type="ShapeMultiLabel", num=1000, seed=0, classes=CLASSES, mean=0.5, std=0.2),
    val_dataset=dict(type="ShapeMultiLabel", num=200, seed=1, classes=CLASSES, mean=0.5, std=0.2),
    optim_wrapper=dict(type="AmpOptimWrapper", clip_grad=dict(max_norm=5.0)),
    optimizer=dict(lr=0.1, momentum=0.9, weight_decay=1e-4),
)


def setup():
    torch.manual_seed(3)
    model = nn.Sequential(build(cfg["backbone"]), build(cfg["head"]))
    train = DataLoader(build(cfg["train_dataset"]), batch_size=32, shuffle=True, drop_last=True)
    val = DataLoader(build(cfg["val_dataset"]), batch_size=100)
    optimizer = torch.optim.SGD(model.parameters(), **cfg["optimizer"])
    return dict(model=model, train=train, val=val, loss=build(cfg["loss"]), optimizer=optimizer, step=build(cfg["optim_wrapper"]).update_params)
