"""Keypoints by heatmaps ("simple baseline"): a downsampling backbone, deconvolutions, one map for each joint."""

import os
import random
import tempfile
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

JOINTS = ("head", "left_hand", "right_hand", "foot")
FLIP_PAIRS = [(1, 2)]
BN_MOMENTUM = 0.1


@dataclass
class Config:
    image_size: int = 40
    heatmap_size: int = 20
    sigma: float = 1.5
    epochs: int = 9
    batch_size: int = 16
    lr: float = 2e-3
    lr_step: tuple = (6, 8)
    lr_factor: float = 0.1
    wd: float = 1e-5
    train_size: int = 480
    val_size: int = 120
    seed: int = 5
    mean: float = 0.35
    std: float = 0.25


def draw_line(image, start, end, color, thickness=1.0):
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    d = end - start
    t = np.clip(((x - start[0]) * d[0] + (y - start[1]) * d[1]) / (d @ d + 1e-6), 0, 1)
    distance = np.hypot(x - start[0] - t * d[0], y - start[1] - t * d[1])
    image[distance < thickness] = color


def draw_person(rng, size):
    """A stick figure; both hands look the same, the left one is always on the left of the picture."""
    image = np.full((size, size, 3), rng.uniform(0.1, 0.4), np.float32)
    center = np.array([rng.uniform(14, size - 14), rng.uniform(13, 17)])
    tilt = rng.uniform(-0.25, 0.25)
    down = np.array([np.sin(tilt), np.cos(tilt)])
    head, foot = center - 7 * down, center + rng.uniform(12, 17) * down
    hands = []
    for side in (-1, 1):
        angle = rng.uniform(-1.0, 1.0)
        hands.append(center + rng.uniform(8, 12) * np.array([side * np.cos(angle), np.sin(angle)]))
    color = rng.uniform(0.5, 0.8, 3)
    draw_line(image, head, foot, color)
    y, x = np.mgrid[0:size, 0:size]
    for hand in hands:
        draw_line(image, center, hand, color)
        image[np.hypot(x - hand[0], y - hand[1]) < 2.0] = (0.9, 0.7, 0.6)
    image[np.hypot(x - head[0], y - head[1]) < 3.0] = (0.95, 0.8, 0.7)
    joints = np.stack([head, hands[0], hands[1], foot]).astype(np.float32)
    visible = np.ones(len(JOINTS), np.float32)
    visible[((joints < 0) | (joints > size - 1)).any(1)] = 0
    image = image + 0.05 * rng.standard_normal(image.shape).astype(np.float32)
    return image.clip(0, 1), joints, visible


class JointsDataset(Dataset):
    def __init__(self, cfg, count, seed, is_train):
        self.cfg, self.is_train = cfg, is_train
        rng = np.random.default_rng(seed)
        self.db = [draw_person(rng, cfg.image_size) for _ in range(count)]

    def __len__(self):
        return len(self.db)

    def generate_target(self, joints, visible):
        size = self.cfg.heatmap_size
        stride = self.cfg.image_size / size
        grid = np.arange(size, dtype=np.float32)
        target = np.zeros((len(JOINTS), size, size), np.float32)
        for j, (x, y) in enumerate(joints / stride):
            if visible[j]:
                target[j] = np.exp(-((grid[None] - x) ** 2 + (grid[:, None] - y) ** 2) / (2 * self.cfg.sigma**2))
        return target

    def __getitem__(self, index):
        image, joints, visible = self.db[index]
        if self.is_train and random.random() < 0.5:
            image = image[:, ::-1]
            joints = joints * np.array([-1, 1], np.float32) + np.array([self.cfg.image_size - 1, 0], np.float32)
            order = list(range(len(JOINTS)))
            for a, b in FLIP_PAIRS:
                order[a], order[b] = b, a
            joints, visible = joints[order], visible[order]
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        pixels = (pixels - self.cfg.mean) / self.cfg.std
        target = torch.from_numpy(self.generate_target(joints, visible))
        return pixels, target, torch.from_numpy(visible), torch.from_numpy(joints)


def conv_bn(inside, outside, stride):
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside, momentum=BN_MOMENTUM), nn.ReLU(inplace=True)
    )


class PoseNet(nn.Module):
    def __init__(self, joints):
        super().__init__()
        self.backbone = nn.Sequential(conv_bn(3, 16, 1), conv_bn(16, 24, 2), conv_bn(24, 32, 2), conv_bn(32, 48, 2), conv_bn(48, 48, 1))
        layers = []
        for inside, outside in ((48, 32), (32, 32)):
            layers += [
                nn.ConvTranspose2d(inside, outside, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outside, momentum=BN_MOMENTUM),
                nn.ReLU(inplace=True),
            ]
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(32, joints, 1)
        self.init_weights()

    def init_weights(self):
        for m in self.deconv_layers.modules():
            if isinstance(m, nn.ConvTranspose2d):
                nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
        nn.init.normal_(self.final_layer.weight, std=0.01)
        nn.init.zeros_(self.final_layer.bias)

    def forward(self, x):
        return self.final_layer(self.deconv_layers(self.backbone(x)))


class JointsMSELoss(nn.Module):
    """Half the mean squared error of each map, joints out of the picture left out."""

    def forward(self, output, target, target_weight):
        error = (output - target).pow(2).mean((2, 3))
        return 0.5 * (error * target_weight).sum() / target_weight.sum().clamp(min=1)


def get_max_preds(heatmaps):
    n, joints, height, width = heatmaps.shape
    index = heatmaps.reshape(n, joints, -1).argmax(2)
    return torch.stack([index % width, index // width], 2).float()


@torch.no_grad()
def validate(cfg, model, loader):
    """PCK: the share of visible joints found within three pixels."""
    model.eval()
    stride = cfg.image_size / cfg.heatmap_size
    hits, seen = torch.zeros(len(JOINTS)), torch.zeros(len(JOINTS))
    for images, _, visible, joints in loader:
        found = get_max_preds(model(images)) * stride
        distance = (found - joints).norm(dim=2)
        hits += ((distance < 3) * visible).sum(0)
        seen += visible.sum(0)
    return hits / seen


def train(cfg, model, loader, criterion, optimizer):
    model.train()
    total = 0.0
    for images, target, weight, _ in loader:
        loss = criterion(model(images), target, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


def main():
    cfg = Config()
    random.seed(cfg.seed)
    torch.manual_seed(cfg.seed)
    train_loader = DataLoader(JointsDataset(cfg, cfg.train_size, 31, True), cfg.batch_size, shuffle=True)
    valid_loader = DataLoader(JointsDataset(cfg, cfg.val_size, 32, False), 40)
    model = PoseNet(len(JOINTS))
    criterion = JointsMSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr, weight_decay=cfg.wd)
    lr_scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, cfg.lr_step, cfg.lr_factor)
    output = tempfile.mkdtemp()
    best_perf = 0.0
    for epoch in range(cfg.epochs):
        loss = train(cfg, model, train_loader, criterion, optimizer)
        lr_scheduler.step()
        pck = validate(cfg, model, valid_loader)
        perf = pck.mean().item()
        print(f"epoch {epoch}: loss {loss:.6f}  PCK@3 {perf:.3f}  " + " ".join(f"{n} {p:.2f}" for n, p in zip(JOINTS, pck)))
        if perf > best_perf:
            best_perf = perf
            torch.save({"epoch": epoch + 1, "state_dict": model.state_dict(), "perf": perf}, os.path.join(output, "best.pth"))
    print(f"best PCK@3: {best_perf:.3f}")


if __name__ == "__main__":
    main()
