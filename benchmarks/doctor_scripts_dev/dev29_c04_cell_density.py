"""Counting cells by density maps (after Lempitsky & Zisserman): the sum of the predicted map is the count."""
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


@dataclass
class Config:
    size: int = 32
    train_count: int = 800
    val_count: int = 200
    batch_size: int = 16
    epochs: int = 12
    lr: float = 2e-3
    density_scale: float = 100.0  # a cell is worth 100, so that pixels are around 1
    seed: int = 3


class Cells(Dataset):
    def __init__(self, cfg, count, seed, flip):
        self.cfg, self.flip = cfg, flip
        g = torch.Generator().manual_seed(seed)
        grid = torch.arange(cfg.size).float()
        self.images, self.maps, self.counts = [], [], []
        for _ in range(count):
            n = int(torch.randint(3, 16, (1,), generator=g))
            cy, cx = (3 + (cfg.size - 7) * torch.rand(2, n, 1, 1, generator=g))
            d2 = (grid[None, :, None] - cy) ** 2 + (grid[None, None, :] - cx) ** 2
            radius = 1.3 + 0.7 * torch.rand(n, 1, 1, generator=g)
            bright = 0.5 + 0.4 * torch.rand(n, 1, 1, generator=g)
            image = 0.1 + (bright * torch.exp(-d2 / (2 * radius**2))).sum(0)
            image = image + 0.05 * torch.randn(cfg.size, cfg.size, generator=g)
            density = torch.exp(-d2 / (2 * 1.5**2))
            density = (density / density.sum((1, 2), keepdim=True)).sum(0)
            self.images.append(image[None])
            self.maps.append(density[None] * cfg.density_scale)
            self.counts.append(n)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image, density = (self.images[i] - 0.25) / 0.25, self.maps[i]
        if self.flip:
            for dim in (1, 2):
                if torch.rand(()) < 0.5:
                    image, density = image.flip(dim), density.flip(dim)
        return image, density, float(self.counts[i])


class DensityNet(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        layers, cin = [], 1
        for dilation in (1, 1, 2):
            layers += [nn.Conv2d(cin, width, 3, padding=dilation, dilation=dilation, bias=False),
                       nn.BatchNorm2d(width), nn.ReLU()]
            cin = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x):
        return self.head(self.body(x))


def fit(cfg):
    torch.manual_seed(cfg.seed)
    train_loader = DataLoader(Cells(cfg, cfg.train_count, 100, True), batch_size=cfg.batch_size, shuffle=True)
    val_loader = DataLoader(Cells(cfg, cfg.val_count, 200, False), batch_size=50)
    net = DensityNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=cfg.lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=2 * cfg.lr, epochs=cfg.epochs, steps_per_epoch=len(train_loader))
    mse = nn.MSELoss()

    for epoch in range(cfg.epochs):
        net.train()
        total, seen = 0.0, 0
        for image, density, _ in train_loader:
            loss = mse(net(image), density)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total, seen = total + loss.item() * len(image), seen + len(image)

        net.eval()
        error, naive, seen_val = 0.0, 0.0, 0
        with torch.no_grad():
            for image, _, count in val_loader:
                predicted = net(image).sum((1, 2, 3)) / cfg.density_scale
                error += (predicted - count).abs().sum().item()
                naive += (count - 9).abs().sum().item()
                seen_val += len(image)
        print(f"epoch {epoch + 1:2d}: map mse {total / seen:.4f}, "
              f"count MAE {error / seen_val:.3f} (always nine: {naive / seen_val:.3f})")
    return net


if __name__ == "__main__":
    fit(Config())
