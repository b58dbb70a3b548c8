"""Facial keypoints by heatmap regression, in the manner of "simple baselines" for pose estimation."""
from dataclasses import dataclass, field
from typing import List

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

JOINTS = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]
FLIP_PAIRS = [(0, 1), (3, 4)]


@dataclass
class Config:
    image_size: int = 48
    stride: int = 2
    sigma: float = 1.5
    num_joints: int = len(JOINTS)
    train_size: int = 360
    val_size: int = 160
    batch_size: int = 24
    epochs: int = 5
    lr: float = 2e-3
    weight_decay: float = 1e-4
    lr_step: List[int] = field(default_factory=lambda: [3, 4])
    lr_factor: float = 0.1
    flip_prob: float = 0.5
    seed: int = 7

    @property
    def heatmap_size(self):
        return self.image_size // self.stride


def render_face(rng, size):
    """A schematic face, turned by up to 30 degrees, among a few stray spots."""
    yy, xx = np.mgrid[:size, :size].astype(np.float32)
    s = rng.uniform(0.8, 1.15)
    layout = np.array([[6, -5], [-6, -5], [0, 1], [4, 7], [-4, 7]], dtype=np.float32) * s
    layout += rng.normal(0, 0.5, layout.shape)
    angle = rng.uniform(-np.pi / 6, np.pi / 6)
    rot = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = rng.uniform(16, size - 16, 2)
    joints = layout @ rot.T + centre

    image = rng.uniform(0.0, 0.3) + rng.normal(0, 0.05, (size, size))
    face = np.hypot(xx - centre[0], yy - centre[1]) < 12.5 * s
    image = image + face * rng.uniform(0.4, 0.6)

    def spot(x, y, width, depth):
        return depth * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * width**2))

    for x, y in joints[:2]:
        image = image - spot(x, y, 1.5, 0.6)
    image = image - spot(*joints[2], 1.1, 0.4)
    for t in np.linspace(0, 1, 9):
        x, y = joints[3] * t + joints[4] * (1 - t)
        image = image - spot(x, y, 0.8, 0.25)
    for _ in range(2):
        x, y = rng.uniform(0, size, 2)
        image = image + spot(x, y, 1.5, 0.4)
    return image.astype(np.float32), joints.astype(np.float32)


class JointsDataset(Dataset):
    def __init__(self, cfg, num, seed, is_train):
        self.cfg, self.is_train = cfg, is_train
        rng = np.random.default_rng(seed)
        self.db = [render_face(rng, cfg.image_size) for _ in range(num)]
        self.rng = np.random.default_rng(seed + 1)

    def __len__(self):
        return len(self.db)

    def fliplr_joints(self, joints):
        joints = joints.copy()
        joints[:, 0] = self.cfg.image_size - 1 - joints[:, 0]
        for a, b in FLIP_PAIRS:
            joints[[a, b]] = joints[[b, a]]
        return joints

    def generate_target(self, joints):
        size = self.cfg.heatmap_size
        grid_y, grid_x = np.mgrid[:size, :size].astype(np.float32)
        mu = joints / self.cfg.stride
        d2 = (grid_x[None] - mu[:, 0, None, None]) ** 2 + (grid_y[None] - mu[:, 1, None, None]) ** 2
        return np.exp(-d2 / (2 * self.cfg.sigma**2)).astype(np.float32)

    def __getitem__(self, idx):
        image, joints = self.db[idx]
        if self.is_train and self.rng.random() < self.cfg.flip_prob:
            image = image[:, ::-1].copy()
            joints = self.fliplr_joints(joints)
        target = self.generate_target(joints)
        image = (image - 0.3) / 0.3
        return torch.from_numpy(image)[None], torch.from_numpy(target), torch.from_numpy(joints)


def conv_bn_relu(cin, cout, stride=1):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(cout),
        nn.ReLU(inplace=True),
    )


class PoseNet(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.stem = nn.Sequential(conv_bn_relu(1, 16), conv_bn_relu(16, 24, stride=2))
        self.layer1 = nn.Sequential(conv_bn_relu(24, 32, stride=2), conv_bn_relu(32, 32))
        self.layer2 = nn.Sequential(conv_bn_relu(32, 48, stride=2), conv_bn_relu(48, 48))
        self.deconv1 = nn.ConvTranspose2d(48, 32, 4, stride=2, padding=1)
        self.deconv2 = nn.ConvTranspose2d(32, 24, 4, stride=2, padding=1)
        self.head = nn.Sequential(conv_bn_relu(24, 24), nn.Conv2d(24, cfg.num_joints, 1))
        nn.init.normal_(self.head[-1].weight, std=0.001)
        nn.init.zeros_(self.head[-1].bias)

    def forward(self, x):
        c1 = self.stem(x)
        c2 = self.layer1(c1)
        c3 = self.layer2(c2)
        x = torch.relu(self.deconv1(c3) + c2)
        x = torch.relu(self.deconv2(x) + c1)
        return self.head(x)


class JointsMSELoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.criterion = nn.MSELoss(reduction="mean")

    def forward(self, output, target):
        num_joints = output.size(1)
        loss = 0
        for j in range(num_joints):
            loss = loss + 0.5 * self.criterion(output[:, j], target[:, j])
        return loss / num_joints


def get_max_preds(heatmaps, stride):
    n, j, h, w = heatmaps.shape
    idx = heatmaps.reshape(n, j, -1).argmax(dim=2)
    preds = torch.stack([idx % w, torch.div(idx, w, rounding_mode="floor")], dim=2)
    return preds.float() * stride


@torch.no_grad()
def validate(cfg, loader, model, threshold=2.5):
    model.eval()
    hits = torch.zeros(cfg.num_joints)
    count = 0
    for image, _, joints in loader:
        preds = get_max_preds(model(image), cfg.stride)
        dist = (preds - joints).norm(dim=2)
        hits += (dist < threshold).float().sum(dim=0)
        count += image.size(0)
    return hits / count


def train_epoch(loader, model, criterion, optimizer):
    model.train()
    total, seen = 0.0, 0
    for image, target, _ in loader:
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * image.size(0)
        seen += image.size(0)
    return total / seen


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    train_set = JointsDataset(cfg, cfg.train_size, cfg.seed, is_train=True)
    val_set = JointsDataset(cfg, cfg.val_size, cfg.seed + 100, is_train=False)
    train_loader = DataLoader(train_set, cfg.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, cfg.batch_size)

    model = PoseNet(cfg)
    criterion = JointsMSELoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, cfg.lr_step, cfg.lr_factor)

    for epoch in range(cfg.epochs):
        loss = train_epoch(train_loader, model, criterion, optimizer)
        scheduler.step()
        pck = validate(cfg, val_loader, model)
        print(f"epoch {epoch + 1}: loss {loss:.5f}  PCK {pck.mean():.4f}")
    for name, value in zip(JOINTS, pck.tolist()):
        print(f"  {name:12s} {value:.3f}")
    print(f"val PCK: {pck.mean():.4f}")


if __name__ == "__main__":
    main()
