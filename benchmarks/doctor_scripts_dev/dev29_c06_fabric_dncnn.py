#!/usr/bin/env python
"""DnCNN in short: the network predicts the noise in a picture of fabric, PSNR in dB."""
import torch
import torch.nn as nn
from torch.utils.data import DataLoader

SIGMA = 0.15
SIZE = 24


def make_fabrics(count, seed):
    """Woven stripes in two directions, with patches of another shade."""
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(SIZE).float()
    y, x = t[None, :, None], t[None, None, :]

    def rand(low, high):
        return low + (high - low) * torch.rand(count, 1, 1, generator=g)

    angle = rand(0, 3.14)
    first = torch.sin(rand(0.4, 0.9) * (x * angle.cos() + y * angle.sin()) + rand(0, 6.28))
    second = torch.sin(rand(0.4, 0.9) * (y * angle.cos() - x * angle.sin()) + rand(0, 6.28))
    top, left, side = rand(0, 14), rand(0, 14), rand(6, 12)
    patch = ((y >= top) & (y < top + side) & (x >= left) & (x < left + side)).float()
    return (0.5 + 0.15 * first + 0.12 * second + rand(-0.25, 0.25) * patch).clamp(0, 1).unsqueeze(1)


class DnCNN(nn.Module):
    def __init__(self, depth=5, width=16):
        super().__init__()
        layers = [nn.Conv2d(1, width, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        layers.append(nn.Conv2d(width, 1, 3, padding=1))
        self.dncnn = nn.Sequential(*layers)

    def forward(self, noisy):
        return self.dncnn(noisy)


def psnr(a, b):
    mse = (a - b).pow(2).flatten(1).mean(1)
    return -10 * torch.log10(mse)


def main():
    torch.manual_seed(12)
    clean_train = make_fabrics(1280, seed=1)
    clean_val = make_fabrics(200, seed=2)
    fixed = torch.Generator().manual_seed(99)
    noisy_val = clean_val + SIGMA * torch.randn(clean_val.shape, generator=fixed)
    loader = DataLoader(clean_train, batch_size=16, shuffle=True)

    model = DnCNN()
    criterion = nn.MSELoss(reduction="sum")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.4)
    print(f"noisy input: {psnr(noisy_val, clean_val).mean():.2f} dB")

    for epoch in range(10):
        model.train()
        total = 0.0
        for clean in loader:
            noise = SIGMA * torch.randn_like(clean)
            noisy = clean + noise
            optimizer.zero_grad()
            loss = criterion(model(noisy - 0.5), noise) / (2 * len(clean))
            loss.backward()
            optimizer.step()
            total += loss.item() * len(clean)
        scheduler.step()

        model.eval()
        with torch.no_grad():
            outputs = [(part - model(part - 0.5)).clamp(0, 1) for part in noisy_val.split(50)]
        result = psnr(torch.cat(outputs), clean_val)
        print(f"[epoch {epoch + 1}] loss {total / len(clean_train):.3f}  PSNR_val {result.mean():.3f} dB")


if __name__ == "__main__":
    main()
