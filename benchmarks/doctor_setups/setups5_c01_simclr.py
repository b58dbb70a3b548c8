"""SimCLR pre-training on digits: two views of each image, NT-Xent between them."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

CFG = dict(batch_size=64, temperature=0.2, lr=1e-3, weight_decay=1e-4, width=16, proj_dim=32)


def to_tensor(image):
    return (image.float() / 255 - 0.2) / 0.35


class TwoViews:
    """Random shift by up to two pixels, contrast, pixel noise; for each image of the batch on its own."""

    def __init__(self, shift=2, contrast=0.2, noise=0.15):
        self.shift, self.contrast, self.noise = shift, contrast, noise

    def augment(self, images):
        n, _, h, w = images.shape
        s = self.shift
        padded = F.pad(images, (s, s, s, s), mode="replicate")
        out = torch.empty_like(images)
        offsets = torch.randint(0, 2 * s + 1, (n, 2)).tolist()
        for i, (top, left) in enumerate(offsets):
            out[i] = padded[i, :, top : top + h, left : left + w]
        scale = 1 + self.contrast * (2 * torch.rand(n, 1, 1, 1) - 1)
        return out * scale + self.noise * torch.randn_like(out)

    def __call__(self, images):
        return self.augment(images), self.augment(images)


class SimCLR(nn.Module):
    def __init__(self, width, proj_dim):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Flatten(),
        )
        self.projector = nn.Sequential(
            nn.Linear(2 * width * 16, 128), nn.ReLU(), nn.Linear(128, proj_dim)
        )

    def forward(self, x):
        return F.normalize(self.projector(self.encoder(x)), dim=1)


class NTXent(nn.Module):
    """Rows with the same id are positives of each other (two views of one image)."""

    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, z, ids):
        sim = z @ z.t() / self.temperature
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        log_prob = sim - sim.masked_fill(itself, float("-inf")).logsumexp(dim=1, keepdim=True)
        positive = (ids[:, None] == ids[None, :]) & ~itself
        count = positive.sum(1)
        per_row = -(log_prob * positive).sum(1) / count.clamp(min=1)
        return per_row[count > 0].mean()


def make_step():
    views = TwoViews()

    def step(model, batch, optimizer, loss):
        images, _ = batch
        ids = torch.arange(len(images)).repeat(2)
        v1, v2 = views(images)
        z = model(torch.cat([v1, v2]))
        value = loss(z, ids)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value

    return step


def setup():
    torch.manual_seed(0)
    train = DataLoader(Digits(True, transform=to_tensor), batch_size=CFG["batch_size"], shuffle=True, drop_last=True)
    model = SimCLR(CFG["width"], CFG["proj_dim"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG["lr"], weight_decay=CFG["weight_decay"])
    return dict(model=model, train=train, val=None, loss=NTXent(CFG["temperature"]), optimizer=optimizer, step=make_step())
