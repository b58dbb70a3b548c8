"""PointNet with PointMix and an EMA teacher for evaluation (reference implementation, toy scale)."""

import copy
import math
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

cfg = SimpleNamespace(
    num_points=64, num_classes=4, width=32, batch_size=32, lr=0.03, momentum=0.9, wd=5e-4,
    smoothing=0.1, mix_prob=0.5, mix_alpha=1.0, ema_decay=0.95, jitter=0.02, seed=2023,
)


def sample_cloud(kind, n, g):
    u = 2 * math.pi * torch.rand(n, generator=g)
    v = 2 * torch.rand(n, generator=g) - 1
    if kind in (0, 2):  # sphere, cone
        r = (1 - v**2).sqrt() if kind == 0 else (1 - v) / 2
        return torch.stack([r * u.cos(), r * u.sin(), v], dim=1)
    if kind == 1:  # cylinder
        return torch.stack([0.6 * u.cos(), 0.6 * u.sin(), v], dim=1)
    w = 2 * math.pi * torch.rand(n, generator=g)  # torus
    r, z = 0.75 + 0.25 * w.cos(), 0.25 * w.sin()
    return torch.stack([r * u.cos(), r * u.sin(), z], dim=1)


class ToyModelNet(Dataset):
    def __init__(self, count, seed, augment):
        g = torch.Generator().manual_seed(seed)
        self.label = torch.randint(0, cfg.num_classes, (count,), generator=g)
        clouds = [sample_cloud(int(k), cfg.num_points, g) for k in self.label]
        scale = 0.8 + 0.4 * torch.rand(count, 1, 3, generator=g)
        self.clouds = torch.stack(clouds) * scale + 0.04 * torch.randn(count, cfg.num_points, 3, generator=g)
        self.augment = augment

    def __len__(self):
        return len(self.label)

    def __getitem__(self, i):
        pts = self.clouds[i]
        pts = pts - pts.mean(dim=0, keepdim=True)
        pts = pts / pts.norm(dim=1).max()
        if self.augment:
            pts = pts + cfg.jitter * torch.randn_like(pts)
        return pts, self.label[i]


class PointNet(nn.Module):
    def __init__(self, width, num_classes):
        super().__init__()
        dims = [3, width, width, 2 * width]
        layers = []
        for c_in, c_out in zip(dims[:-1], dims[1:]):
            layers += [nn.Conv1d(c_in, c_out, 1, bias=False), nn.BatchNorm1d(c_out), nn.ReLU()]
        self.mlp = nn.Sequential(*layers)
        self.cls = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, num_classes))
        for m in self.modules():
            if isinstance(m, (nn.Conv1d, nn.Linear)):
                nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
        nn.init.normal_(self.cls[-1].weight, std=0.01)

    def forward(self, pts):  # (B, N, 3)
        feat = self.mlp(pts.transpose(1, 2))
        return self.cls(feat.max(dim=2).values)


class MeanTeacher(nn.Module):
    """Trains the student; evaluates the exponential moving average of it."""

    def __init__(self, student, decay):
        super().__init__()
        self.student, self.teacher, self.decay = student, copy.deepcopy(student).requires_grad_(False), decay

    def forward(self, pts):
        return self.student(pts) if self.training else self.teacher(pts)

    @torch.no_grad()
    def update(self):
        for ema, now in zip(self.teacher.state_dict().values(), self.student.state_dict().values()):
            if ema.is_floating_point():
                ema.mul_(self.decay).add_(now, alpha=1 - self.decay)


class SmoothCE(nn.Module):
    def forward(self, logits, target):
        soft = torch.full_like(logits, cfg.smoothing / cfg.num_classes)
        soft.scatter_(1, target[:, None], 1 - cfg.smoothing + cfg.smoothing / cfg.num_classes)
        return -(soft * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def train_step(model, batch, optimizer, loss):
    model.train()
    pts, target = batch
    lam, perm = 1.0, torch.arange(len(pts))
    if torch.rand(()).item() < cfg.mix_prob:
        perm = torch.randperm(len(pts))
        keep = torch.rand(cfg.num_points) < torch.distributions.Beta(cfg.mix_alpha, cfg.mix_alpha).sample()
        pts = torch.where(keep[None, :, None], pts, pts[perm])
        lam = keep.float().mean().item()
    target_b = target[perm]
    logits = model(pts)
    value = lam * loss(logits, target) + (1 - lam) * loss(logits, target_b)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    model.update()
    return value


def setup():
    torch.manual_seed(cfg.seed)
    model = MeanTeacher(PointNet(cfg.width, cfg.num_classes), cfg.ema_decay)
    train = DataLoader(ToyModelNet(1200, 0, True), cfg.batch_size, shuffle=True, drop_last=True)
    val = DataLoader(ToyModelNet(300, 1, False), 100)
    optimizer = torch.optim.SGD(model.student.parameters(), cfg.lr, cfg.momentum, nesterov=True, weight_decay=cfg.wd)
    return dict(model=model, train=train, val=val, loss=SmoothCE(), optimizer=optimizer, step=train_step)
