"""Find the one object of each picture and name it. The layout follows torchvision's references/detection."""
import argparse
import copy
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image, target):
        for t in self.transforms:
            image, target = t(image, target)
        return image, target


class ToNormalizedTensor:
    def __call__(self, image, target):
        image = torch.from_numpy(image).permute(2, 0, 1).float().div(255)
        return (image - 0.5) / 0.2, target


class RandomHorizontalFlip:
    def __init__(self, p=0.5):
        self.p = p

    def __call__(self, image, target):
        if torch.rand(1).item() < self.p:
            image = image.flip(-1)
            x1, y1, x2, y2 = target["boxes"].unbind()
            target["boxes"] = torch.stack([1 - x2, y1, 1 - x1, y2])
        return image, target


class ShapesDetection(Dataset):
    """Pictures as height x width x 3 bytes, as an image reader gives them; boxes are x1, y1, x2, y2 from 0 to 1."""

    def __init__(self, image_set, transforms):
        shapes = Shapes(train=image_set == "train", size=24)
        self.pictures = [
            np.ascontiguousarray((image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()) for image in shapes.images
        ]
        self.boxes, self.labels = shapes.boxes, shapes.targets
        self.transforms = transforms

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, idx):
        target = {"boxes": self.boxes[idx].clone(), "labels": torch.tensor(self.labels[idx])}
        return self.transforms(self.pictures[idx], target)


def get_transform(train):
    transforms = [ToNormalizedTensor()]
    if train:
        transforms.append(RandomHorizontalFlip(0.5))
    return Compose(transforms)


def conv_bn_relu(in_planes, out_planes, stride=1):
    conv = nn.Conv2d(in_planes, out_planes, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_planes), nn.ReLU(inplace=True))


class Locator(nn.Module):
    def __init__(self, num_classes, width=16):
        super().__init__()
        self.backbone = nn.Sequential(
            conv_bn_relu(3, width),
            conv_bn_relu(width, 2 * width, stride=2),
            conv_bn_relu(2 * width, 2 * width),
            conv_bn_relu(2 * width, 4 * width, stride=2),
        )
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(4 * width * 6 * 6, 128), nn.ReLU(inplace=True), nn.Dropout(0.1))
        self.cls_head = nn.Linear(128, num_classes)
        self.box_head = nn.Linear(128, 4)

    def forward(self, x):
        x = self.neck(self.backbone(x))
        return self.cls_head(x), self.box_head(x).sigmoid()


def compute_loss(scores, boxes, target):
    loss_classifier = F.cross_entropy(scores, target["labels"])
    loss_box_reg = F.smooth_l1_loss(boxes, target["boxes"], beta=0.1)
    return loss_classifier + 5.0 * loss_box_reg


def matched_iou(a, b):
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(dim=1)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(dim=1)
    area_b = (b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1)
    return overlap / (area_a + area_b - overlap)


def train_one_epoch(model, optimizer, data_loader):
    model.train()
    for images, target in data_loader:
        scores, boxes = model(images)
        loss = compute_loss(scores, boxes, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def evaluate(model, data_loader):
    model.eval()
    loss_sum, hits, iou_sum, seen = 0.0, 0, 0.0, 0
    for images, target in data_loader:
        scores, boxes = model(images)
        loss_sum += compute_loss(scores, boxes, target).item() * len(images)
        hits += (scores.argmax(dim=1) == target["labels"]).sum().item()
        iou_sum += matched_iou(boxes, target["boxes"]).sum().item()
        seen += len(images)
    return loss_sum / seen, hits / seen, iou_sum / seen


def main(args):
    torch.manual_seed(args.seed)
    dataset = ShapesDetection("train", get_transform(train=True))
    dataset_test = ShapesDetection("val", get_transform(train=False))
    data_loader = DataLoader(dataset, batch_size=args.batch_size, shuffle=True)
    data_loader_test = DataLoader(dataset_test, batch_size=60)

    model = Locator(num_classes=len(NAMES))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    lr_scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[8, 11], gamma=0.1)

    start_time = time.time()
    best_loss, best_state = float("inf"), None
    for epoch in range(args.epochs):
        train_one_epoch(model, optimizer, data_loader)
        lr_scheduler.step()
        val_loss, accuracy, iou = evaluate(model, data_loader_test)
        print(f"Epoch: [{epoch}]  loss {val_loss:.4f}  accuracy {accuracy:.3f}  IoU {iou:.3f}")
        if val_loss < best_loss:
            best_loss, best_state = val_loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    val_loss, accuracy, iou = evaluate(model, data_loader_test)
    print(f"Training time {time.time() - start_time:.0f} s. Kept model: accuracy {accuracy:.3f}  IoU {iou:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Locating shapes")
    parser.add_argument("-b", "--batch-size", default=32, type=int)
    parser.add_argument("--epochs", default=12, type=int)
    parser.add_argument("--lr", default=0.002, type=float)
    parser.add_argument("--seed", default=0, type=int)
    main(parser.parse_args())
