import argparse
import os
import shutil
import tempfile
import time

import torch
import torch.nn as nn
import torch.utils.data

import toydata

parser = argparse.ArgumentParser(description="Where is the shape? Box regression with GIoU")
parser.add_argument("--epochs", default=16, type=int, metavar="N")
parser.add_argument("-b", "--batch-size", default=32, type=int)
parser.add_argument("--lr", "--learning-rate", default=4e-3, type=float, dest="lr")
parser.add_argument("--wd", "--weight-decay", default=1e-2, type=float, dest="weight_decay")
parser.add_argument("--seed", default=3, type=int)
best_iou = 0.0


class ShapeBoxes(torch.utils.data.Dataset):
    def __init__(self, train):
        self.shapes = toydata.Shapes(train=train, size=24)

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, i):
        image, _ = self.shapes[i]
        return (image - 0.5) / 0.2, self.shapes.boxes[i].clone()


class BoxNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(inplace=True),
        )
        self.fc = nn.Sequential(nn.Flatten(), nn.Linear(32 * 6 * 6, 96), nn.ReLU(inplace=True), nn.Linear(96, 4))

    def forward(self, x):
        center, size = self.fc(self.features(x)).sigmoid().split(2, dim=1)
        return torch.cat([center - size / 2, center + size / 2], dim=1)


def area(boxes):
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def box_iou_giou(a, b):
    side = (torch.min(a[:, 2:], b[:, 2:]) - torch.max(a[:, :2], b[:, :2])).clamp(min=0)
    inter = side[:, 0] * side[:, 1]
    union = area(a) + area(b) - inter
    hull = area(torch.cat([torch.min(a[:, :2], b[:, :2]), torch.max(a[:, 2:], b[:, 2:])], dim=1))
    iou = inter / union
    return iou, iou - (hull - union) / hull


def augment(images, boxes):
    flip = torch.rand(len(images)) < 0.5
    images[flip] = images[flip].flip(3)
    left, top, right, bottom = boxes[flip].unbind(1)
    boxes[flip] = torch.stack([1 - right, top, 1 - left, bottom], dim=1)
    # red becomes blue and blue red: where it lies does not depend on it
    swap = torch.rand(len(images)) < 0.5
    images[swap] = images[swap].flip(1)
    return images, boxes


def main():
    global best_iou
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = BoxNet()
    train_loader = torch.utils.data.DataLoader(ShapeBoxes(True), batch_size=args.batch_size, shuffle=True)
    val_loader = torch.utils.data.DataLoader(ShapeBoxes(False), batch_size=100)
    optimizer = torch.optim.AdamW(model.parameters(), args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, total_steps=args.epochs * len(train_loader)
    )
    folder = tempfile.mkdtemp()
    for epoch in range(args.epochs):
        train(train_loader, model, optimizer, scheduler, epoch)
        iou = validate(val_loader, model)
        is_best = iou > best_iou
        best_iou = max(iou, best_iou)
        torch.save({"epoch": epoch + 1, "state_dict": model.state_dict()}, os.path.join(folder, "checkpoint.pth"))
        if is_best:
            shutil.copyfile(os.path.join(folder, "checkpoint.pth"), os.path.join(folder, "model_best.pth"))
    checkpoint = torch.load(os.path.join(folder, "model_best.pth"))
    model.load_state_dict(checkpoint["state_dict"])
    print(f"best: epoch {checkpoint['epoch']}, mean IoU {validate(val_loader, model):.4f}")
    shutil.rmtree(folder)


def train(train_loader, model, optimizer, scheduler, epoch):
    losses = AverageMeter("Loss")
    ious = AverageMeter("IoU")
    model.train()
    end = time.time()
    for images, target in train_loader:
        images, target = augment(images, target)
        output = model(images)
        iou, giou = box_iou_giou(output, target)
        loss = 2 * nn.functional.l1_loss(output, target) - giou.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.update(loss.detach(), len(images))
        ious.update(iou.detach().mean(), len(images))
    print(f"Epoch [{epoch}]  Time {time.time() - end:.2f}  {losses}  {ious}")


def validate(val_loader, model):
    ious = AverageMeter("IoU")
    model.eval()
    with torch.no_grad():
        for images, target in val_loader:
            iou, _ = box_iou_giou(model(images), target)
            ious.update(iou.mean(), len(images))
    print(f" * {ious}")
    return float(ious.avg)


class AverageMeter:
    def __init__(self, name):
        self.name, self.sum, self.count = name, 0.0, 0

    def update(self, value, n=1):
        self.sum, self.count = self.sum + value * n, self.count + n

    @property
    def avg(self):
        return self.sum / self.count

    def __str__(self):
        return f"{self.name} {float(self.avg):.4f}"


if __name__ == "__main__":
    main()
