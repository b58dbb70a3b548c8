"""Single-object localization: what shape is in the picture, and in which box?

    python b01_locate_shapes.py --epochs 18 --lr 1e-3
"""

import argparse
import json
import random
import time
from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


def get_args_parser():
    parser = argparse.ArgumentParser("Localization training", add_help=True)
    parser.add_argument("--size", default=32, type=int)
    parser.add_argument("--train-images", default=2000, type=int)
    parser.add_argument("--val-images", default=400, type=int)
    parser.add_argument("--batch-size", default=32, type=int)
    parser.add_argument("--epochs", default=18, type=int)
    parser.add_argument("--lr", default=1e-3, type=float)
    parser.add_argument("--weight-decay", default=1e-4, type=float)
    parser.add_argument("--box-weight", default=5.0, type=float)
    parser.add_argument("--seed", default=0, type=int)
    return parser


class LocalizationDataset(Dataset):
    """Pictures with one box (x1, y1, x2, y2), as fractions of the picture's side, and one label."""

    def __init__(self, shapes, mean, std, train):
        self.shapes = shapes
        self.mean, self.std = mean.view(3, 1, 1), std.view(3, 1, 1)
        self.train = train

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, label = self.shapes[index]
        box = self.shapes.boxes[index]
        if self.train and random.random() < 0.5:
            image = image.flip(-1)
            box = torch.stack([1 - box[2], box[1], 1 - box[0], box[3]])
        image = (image - self.mean) / self.std
        return image, {"boxes": box, "labels": label}


def conv_block(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )


class Localizer(nn.Module):
    def __init__(self, num_classes, size):
        super().__init__()
        self.backbone = nn.Sequential(conv_block(3, 16), conv_block(16, 32), conv_block(32, 64))
        self.neck = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64 * (size // 8) ** 2, 128),
            nn.ReLU(inplace=True),
            nn.Dropout(0.25),
        )
        self.classifier = nn.Linear(128, num_classes)
        self.regressor = nn.Linear(128, 4)

    def forward(self, images):
        features = self.neck(self.backbone(images))
        return {"logits": self.classifier(features), "boxes": self.regressor(features).sigmoid()}


def box_iou_pairwise(a, b):
    """IoU of the first box of a with the first of b, of the second with the second, and so on."""
    top_left = torch.maximum(a[:, :2], b[:, :2])
    bottom_right = torch.minimum(a[:, 2:], b[:, 2:])
    inter = (bottom_right - top_left).clamp(min=0).prod(dim=1)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(dim=1)
    area_b = (b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1)
    return inter / (area_a + area_b - inter).clamp(min=1e-9)


def train_one_epoch(model, loader, optimizer, box_weight):
    model.train()
    totals = defaultdict(float)
    for images, targets in loader:
        outputs = model(images)
        loss_cls = F.cross_entropy(outputs["logits"], targets["labels"])
        loss_box = F.l1_loss(outputs["boxes"], targets["boxes"])
        loss = loss_cls + box_weight * loss_box

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        totals["samples"] += len(images)
        totals["loss_cls"] += loss_cls.item() * len(images)
        totals["loss_box"] += loss_box.item() * len(images)
    return {name: totals[name] / totals["samples"] for name in ("loss_cls", "loss_box")}


@torch.inference_mode()
def evaluate(model, loader):
    model.eval()
    correct, iou_sum, found, samples = 0, 0.0, 0, 0
    for images, targets in loader:
        outputs = model(images)
        right = outputs["logits"].argmax(dim=1) == targets["labels"]
        iou = box_iou_pairwise(outputs["boxes"], targets["boxes"])
        correct += right.sum().item()
        iou_sum += iou.sum().item()
        found += (right & (iou > 0.5)).sum().item()
        samples += len(images)
    return {"acc": correct / samples, "mean_iou": iou_sum / samples, "found@0.5": found / samples}


def main(args):
    random.seed(args.seed)
    torch.manual_seed(args.seed)

    train_shapes = Shapes(train=True, count=args.train_images, size=args.size)
    val_shapes = Shapes(train=False, count=args.val_images, size=args.size)
    pixels = torch.stack(train_shapes.images)
    mean, std = pixels.mean(dim=(0, 2, 3)), pixels.std(dim=(0, 2, 3))

    train_set = LocalizationDataset(train_shapes, mean, std, train=True)
    val_set = LocalizationDataset(val_shapes, mean, std, train=False)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=64)

    model = Localizer(len(NAMES), args.size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)

    start = time.time()
    for epoch in range(args.epochs):
        stats = train_one_epoch(model, train_loader, optimizer, args.box_weight)
        scheduler.step()
        stats.update(evaluate(model, val_loader))
        print(json.dumps({"epoch": epoch, **{name: round(value, 4) for name, value in stats.items()}}))
    print(f"Training time {time.time() - start:.1f} s")


if __name__ == "__main__":
    main(get_args_parser().parse_args())
