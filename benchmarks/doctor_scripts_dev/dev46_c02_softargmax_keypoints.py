import argparse
import random

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

POINTS = ("top_left", "center", "bottom_right")


def box_to_points(box):
    left, top, right, bottom = box.tolist()
    return torch.tensor([[left, top], [(left + right) / 2, (top + bottom) / 2], [right, bottom]])


class KeypointShapes(Dataset):
    """Image and three points (x, y), as parts of the image's side."""

    def __init__(self, split, size):
        self.base = Shapes(train=split == "train", size=size)
        self.flip = split == "train"

    def __len__(self):
        return len(self.base)

    def __getitem__(self, i):
        image, box = self.base.images[i], self.base.boxes[i]
        if self.flip and random.random() < 0.5:
            image = image.flip(-1)
            box = torch.stack([1 - box[2], box[1], 1 - box[0], box[3]])
        if self.flip and random.random() < 0.5:
            image = image.flip(-2)
            box = torch.stack([box[0], 1 - box[3], box[2], 1 - box[1]])
        return (image - 0.5) / 0.25, box_to_points(box)


def conv_block(inp, out, **kw):
    return nn.Sequential(nn.Conv2d(inp, out, 3, bias=False, **kw), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class SoftArgmax(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.register_buffer("axis", torch.linspace(0, 1, side))

    def forward(self, heat):
        n, k, h, w = heat.shape
        prob = heat.flatten(2).softmax(-1).view(n, k, h, w)
        x = (prob.sum(2) * self.axis).sum(-1)
        y = (prob.sum(3) * self.axis).sum(-1)
        return torch.stack([x, y], dim=-1)


class KeypointNet(nn.Module):
    def __init__(self, size, points=len(POINTS)):
        super().__init__()
        self.body = nn.Sequential(
            conv_block(3, 16, padding=1),
            conv_block(16, 32, stride=2, padding=1),
            conv_block(32, 32, padding=2, dilation=2),
            conv_block(32, 48, padding=3, dilation=3),
            conv_block(48, 48, padding=1),
        )
        self.heat = nn.Conv2d(48, points, 1)
        self.decode = SoftArgmax(size // 2)

    def forward(self, x):
        return self.decode(self.heat(self.body(x)))


def train_one_epoch(model, criterion, optimizer, loader):
    model.train()
    total, seen = 0.0, 0
    for images, points in loader:
        loss = criterion(model(images), points)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(images)
        seen += len(images)
    return float(total) / seen


@torch.inference_mode()
def evaluate(model, loader, size):
    model.eval()
    distances = []
    for images, points in loader:
        found = model(images)
        distances.append(((found - points) * size).norm(dim=-1))
    distances = torch.cat(distances)
    return distances.mean(0), (distances < 1.5).float().mean().item()


def get_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch-size", type=int, default=30)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def main(args):
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    train_loader = DataLoader(KeypointShapes("train", args.size), args.batch_size, shuffle=True)
    val_loader = DataLoader(KeypointShapes("val", args.size), 60)
    model = KeypointNet(args.size)
    criterion = nn.SmoothL1Loss(beta=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    milestones = [args.epochs * 6 // 10, args.epochs * 85 // 100]
    lr_scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.25)
    for epoch in range(args.epochs):
        loss = train_one_epoch(model, criterion, optimizer, train_loader)
        lr_scheduler.step()
        errors, pck = evaluate(model, val_loader, args.size)
        named = "  ".join(f"{name} {error:.2f}px" for name, error in zip(POINTS, errors.tolist()))
        print(f"Epoch [{epoch}]  loss {loss:.4f}  {named}  PCK@1.5px {pck:.3f}")


if __name__ == "__main__":
    main(get_args())
