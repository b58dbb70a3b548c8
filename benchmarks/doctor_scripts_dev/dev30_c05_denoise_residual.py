"""DnCNN in small: predict the noise of an image, and take it away. Charbonnier loss, fresh noise for each batch."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

SIGMA = 0.3


class DnCNN(nn.Module):
    def __init__(self, depth=4, width=24):
        super().__init__()
        layers = [nn.Conv2d(1, width, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
        layers.append(nn.Conv2d(width, 1, 3, padding=1))
        self.noise = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.noise[-1].weight.mul_(0.1)

    def forward(self, noisy):
        return noisy - self.noise(noisy)


class CharbonnierLoss(nn.Module):
    def __init__(self, eps=1e-3):
        super().__init__()
        self.eps = eps

    def forward(self, prediction, target):
        return torch.sqrt((prediction - target) ** 2 + self.eps**2).mean()


def psnr(a, b):
    """Of each image, for values from 0 to 1."""
    return -10 * torch.log10(((a - b) ** 2).flatten(1).mean(1).clamp(min=1e-10))


def load():
    train_images, _ = draw_digits(1400, seed=0, noise=0.0)
    val_images, _ = draw_digits(200, seed=1, noise=0.0)
    clean_train, clean_val = train_images.float() / 255, val_images.float() / 255
    generator = torch.Generator().manual_seed(99)
    noisy_val = clean_val + SIGMA * torch.randn(clean_val.shape, generator=generator)
    return TensorDataset(clean_train), TensorDataset(noisy_val, clean_val)


def train_epoch(model, loader, criterion, optimizer, scheduler):
    model.train()
    total = count = 0
    for (clean,) in loader:
        noisy = clean + SIGMA * torch.randn_like(clean)
        loss = criterion(model(noisy), clean)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(clean)
        count += len(clean)
    return total / count


@torch.no_grad()
def validate(model, loader):
    model.eval()
    before, after = [], []
    for noisy, clean in loader:
        before.append(psnr(noisy, clean))
        after.append(psnr(model(noisy).clamp(0, 1), clean))
    return torch.cat(before).mean().item(), torch.cat(after).mean().item()


def main(epochs=14):
    torch.manual_seed(0)
    train_set, val_set = load()
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=50)
    model, criterion = DnCNN(), CharbonnierLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(train_loader), eta_min=1e-5)
    best, best_state = 0.0, None
    for epoch in range(epochs):
        loss = train_epoch(model, train_loader, criterion, optimizer, scheduler)
        before, after = validate(model, val_loader)
        if after > best:
            best = after
            best_state = {name: value.clone() for name, value in model.state_dict().items()}
        print(f"epoch {epoch + 1:2d}/{epochs}  loss {loss:.4f}  psnr {before:.2f} -> {after:.2f} dB")
    model.load_state_dict(best_state)
    print(f"best: {validate(model, val_loader)[1]:.2f} dB")


if __name__ == "__main__":
    main()
