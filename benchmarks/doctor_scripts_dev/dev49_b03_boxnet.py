"""Reference script: one object per image, a box head and a class head on a common backbone."""

import argparse
import os
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from toydata import Shapes


class LocalizationDataset(Dataset):
    """Images as height x width x 3 bytes, boxes as x1, y1, x2, y2 from 0 to 1."""

    def __init__(self, train, size=24, hflip_prob=0.0):
        source = Shapes(train=train, size=size)
        self.images = np.stack([(image.permute(1, 2, 0).numpy() * 255).astype(np.uint8) for image in source.images])
        self.boxes = torch.stack(source.boxes)
        self.labels = torch.tensor(source.targets)
        self.hflip_prob = hflip_prob

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = torch.from_numpy(self.images[index]).permute(2, 0, 1)
        image = image.float() / 255
        box = self.boxes[index]
        if torch.rand(1).item() < self.hflip_prob:
            image = image.flip(-1)
            box = torch.stack([1 - box[2], box[1], 1 - box[0], box[3]])
        return (image - 0.5) / 0.2, self.labels[index], box


def conv_bn_relu(c_in, c_out):
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True))


class BoxNet(nn.Module):
    def __init__(self, num_classes=6, size=24):
        super().__init__()
        self.backbone = nn.Sequential(
            conv_bn_relu(3, 24),
            nn.MaxPool2d(2),
            conv_bn_relu(24, 48),
            nn.MaxPool2d(2),
            conv_bn_relu(48, 64),
            nn.Flatten(),
            nn.Linear(64 * (size // 4) ** 2, 128),
            nn.ReLU(inplace=True),
        )
        self.cls_head = nn.Linear(128, num_classes)
        self.box_head = nn.Linear(128, 4)

    def forward(self, x):
        features = self.backbone(x)
        return self.cls_head(features), self.box_head(features).sigmoid()


def compute_loss(scores, boxes, labels, targets):
    return F.cross_entropy(scores, labels) + 5.0 * F.smooth_l1_loss(boxes, targets, beta=0.1)


def box_iou(a, b):
    top_left = torch.maximum(a[:, :2], b[:, :2])
    bottom_right = torch.minimum(a[:, 2:], b[:, 2:])
    inter = (bottom_right - top_left).clamp(min=0).prod(1)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(1)
    area_b = (b[:, 2:] - b[:, :2]).clamp(min=0).prod(1)
    return inter / (area_a + area_b - inter).clamp(min=1e-6)


def train_one_epoch(model, optimizer, loader, epoch):
    model.train()
    running, seen = 0.0, 0
    for images, labels, targets in loader:
        scores, boxes = model(images)
        loss = compute_loss(scores, boxes, labels, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item() * len(images)
        seen += len(images)
    print(f"Epoch: [{epoch}]  lr: {optimizer.param_groups[0]['lr']:.5f}  loss: {running / seen:.4f}")


@torch.inference_mode()
def evaluate(model, loader):
    model.eval()
    total_loss, iou, correct, seen = 0.0, 0.0, 0, 0
    for images, labels, targets in loader:
        scores, boxes = model(images)
        total_loss += compute_loss(scores, boxes, labels, targets).item() * len(images)
        iou += box_iou(boxes, targets).sum().item()
        correct += (scores.argmax(1) == labels).sum().item()
        seen += len(images)
    return total_loss / seen, iou / seen, correct / seen


def get_args_parser():
    parser = argparse.ArgumentParser(description="Localization training")
    parser.add_argument("--epochs", default=12, type=int)
    parser.add_argument("--batch-size", default=32, type=int)
    parser.add_argument("--lr", default=2e-3, type=float)
    parser.add_argument("--wd", default=1e-3, type=float)
    parser.add_argument("--lr-steps", default=[8, 11], nargs="+", type=int)
    parser.add_argument("--lr-gamma", default=0.1, type=float)
    return parser


def main(args):
    torch.manual_seed(0)
    train_set = LocalizationDataset(train=True, hflip_prob=0.5)
    held_out = LocalizationDataset(train=False)
    val_set, test_set = Subset(held_out, range(0, 120)), Subset(held_out, range(120, 240))
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=60)
    test_loader = DataLoader(test_set, batch_size=60)

    model = BoxNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.wd)
    lr_scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=args.lr_steps, gamma=args.lr_gamma)

    output = os.path.join(tempfile.mkdtemp(), "model_best.pth")
    best_loss = float("inf")
    for epoch in range(args.epochs):
        train_one_epoch(model, optimizer, train_loader, epoch)
        lr_scheduler.step()
        val_loss, val_iou, val_acc = evaluate(model, val_loader)
        print(f"Val:   loss {val_loss:.4f}  IoU {val_iou:.3f}  acc {val_acc:.3f}")
        if val_loss < best_loss:
            best_loss = val_loss
            torch.save({"model": model.state_dict(), "epoch": epoch}, output)

    checkpoint = torch.load(output)
    model.load_state_dict(checkpoint["model"])
    test_loss, test_iou, test_acc = evaluate(model, test_loader)
    print(f"Test (epoch {checkpoint['epoch']}): loss {test_loss:.4f}  IoU {test_iou:.3f}  acc {test_acc:.3f}")


if __name__ == "__main__":
    main(get_args_parser().parse_args())
