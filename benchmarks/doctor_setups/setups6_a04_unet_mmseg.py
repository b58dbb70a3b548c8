"""U-Net on shapes with focal and Dice loss; configs, registry and runner hooks in the manner of MMSegmentation."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

MODELS, TRANSFORMS = {}, {}
build = lambda registry, cfg: registry[cfg["type"]](**{k: v for k, v in cfg.items() if k != "type"})
register = lambda registry: lambda cls: registry.setdefault(cls.__name__, cls)

norm_cfg = dict(mean=0.5, std=0.2)
train_pipeline = [dict(type="RandomFlip", prob=0.5), dict(type="Normalize", **norm_cfg)]
test_pipeline = [dict(type="Normalize", **norm_cfg)]
model_cfg = dict(type="EncoderDecoder", in_channels=3, base_channels=16, num_classes=4)
loss_decode = [dict(type="FocalLoss", gamma=2.0, ignore_index=255, loss_weight=1.0),
               dict(type="DiceLoss", eps=1.0, ignore_index=255, loss_weight=3.0)]
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=1e-4), accumulative_counts=2)


@register(TRANSFORMS)
class RandomFlip:
    def __init__(self, prob):
        self.prob = prob

    def __call__(self, results):
        if torch.rand(()) < self.prob:
            for key in ("img", "gt_seg_map"):
                results[key] = results[key].flip(-1)
        return results


@register(TRANSFORMS)
class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, results):
        results["img"] = (results["img"] - self.mean) / self.std
        return results


class ShapesSegDataset(Dataset):
    def __init__(self, split, pipeline):
        self.data = Shapes(train=split == "train")
        self.pipeline = [build(TRANSFORMS, cfg) for cfg in pipeline]

    def __len__(self):
        return len(self.data)

    def __getitem__(self, idx):
        results = dict(img=self.data.images[idx], gt_seg_map=self.data.masks[idx].clone())
        for transform in self.pipeline:
            results = transform(results)
        return results["img"], results["gt_seg_map"]


def conv_module(c_in, c_out):
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(),
                         nn.Conv2d(c_out, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU())


@register(MODELS)
class EncoderDecoder(nn.Module):
    def __init__(self, in_channels, base_channels, num_classes):
        super().__init__()
        c = base_channels
        self.backbone = nn.ModuleList([conv_module(in_channels, c), conv_module(c, 2 * c), conv_module(2 * c, 4 * c)])
        self.decode_head = nn.ModuleList([conv_module(6 * c, 2 * c), conv_module(3 * c, c), nn.Conv2d(c, num_classes, 1)])

    def forward(self, inputs):
        x1 = self.backbone[0](inputs)
        x2 = self.backbone[1](F.max_pool2d(x1, 2))
        x3 = self.backbone[2](F.max_pool2d(x2, 2))
        up = self.decode_head[0](torch.cat([F.interpolate(x3, scale_factor=2.0), x2], dim=1))
        up = self.decode_head[1](torch.cat([F.interpolate(up, scale_factor=2.0), x1], dim=1))
        return self.decode_head[2](up)


@register(MODELS)
class FocalLoss(nn.Module):
    def __init__(self, gamma, ignore_index, loss_weight):
        super().__init__()
        self.gamma, self.ignore_index, self.loss_weight = gamma, ignore_index, loss_weight

    def forward(self, seg_logits, seg_label):
        ce = F.cross_entropy(seg_logits, seg_label, ignore_index=self.ignore_index, reduction="none")
        focal = (1 - torch.exp(-ce)) ** self.gamma * ce
        return self.loss_weight * focal.sum() / (seg_label != self.ignore_index).sum().clamp_min(1)


@register(MODELS)
class DiceLoss(nn.Module):
    def __init__(self, eps, ignore_index, loss_weight):
        super().__init__()
        self.eps, self.ignore_index, self.loss_weight = eps, ignore_index, loss_weight

    def forward(self, seg_logits, seg_label):
        valid = (seg_label != self.ignore_index).unsqueeze(1)
        target = seg_label.masked_fill(~valid.squeeze(1), 0)
        one_hot = F.one_hot(target, seg_logits.shape[1]).permute(0, 3, 1, 2).float() * valid
        prob = seg_logits.softmax(dim=1) * valid
        inter, union = (prob * one_hot).sum((0, 2, 3)), (prob + one_hot).sum((0, 2, 3))
        dice = (2 * inter + self.eps) / (union + self.eps)
        return self.loss_weight * (1 - dice).mean()


def setup():
    torch.manual_seed(0)
    model = build(MODELS, model_cfg)
    losses = [build(MODELS, cfg) for cfg in loss_decode]
    optimizer = torch.optim.AdamW(model.parameters(), **optim_wrapper["optimizer"])
    counts = optim_wrapper["accumulative_counts"]
    state = dict(inner_count=0)

    def train_step(model, batch, optimizer, loss):
        inputs, seg_map = batch
        value = loss(model(inputs), seg_map)
        (value / counts).backward()
        state["inner_count"] += 1
        if state["inner_count"] % counts == 0:
            optimizer.step()
            optimizer.zero_grad()
        return value

    train = DataLoader(ShapesSegDataset("train", train_pipeline), batch_size=16, shuffle=True, drop_last=True)
    val = DataLoader(ShapesSegDataset("val", test_pipeline), batch_size=40)
    loss = lambda logits, label: sum(module(logits, label) for module in losses)
    return dict(model=model, train=train, val=val, loss=loss, optimizer=optimizer, step=train_step, task="segment")
