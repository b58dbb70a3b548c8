"""Super-resolution with sub-pixel convolution, after pytorch/examples/super_resolution."""

from math import log10

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.nn.init as init
from torch.utils.data import DataLoader, TensorDataset

UPSCALE = 2


def make_pictures(count, size, seed):
    """Soft-edged discs and bars in two gray tones over a smooth gradient."""
    g = torch.Generator().manual_seed(seed)
    axis = torch.arange(size).float()
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    pictures = torch.empty(count, 1, size, size)
    for i in range(count):
        a, b, c = torch.rand(3, generator=g).tolist()
        picture = 0.2 + 0.2 * a + 0.2 * (b - 0.5) * x / size + 0.2 * (c - 0.5) * y / size
        for _ in range(3):
            cy, cx, r, tone = torch.rand(4, generator=g).tolist()
            cy, cx, r = cy * size, cx * size, 3 + 5 * r
            inside = torch.sigmoid(3 * (r - ((y - cy) ** 2 + (x - cx) ** 2).sqrt()))
            picture = picture * (1 - inside) + tone * inside
        angle, offset, tone = torch.rand(3, generator=g).tolist()
        angle = 3.14159 * angle
        line = (x - size / 2) * torch.cos(torch.tensor(angle)) + (y - size / 2) * torch.sin(torch.tensor(angle))
        inside = torch.sigmoid(3 * (1.5 - (line - (offset - 0.5) * size / 2).abs()))
        pictures[i, 0] = picture * (1 - inside) + tone * inside
    return pictures.clamp(0, 1)


def get_set(count, seed):
    high = make_pictures(count, 32, seed)
    low = F.interpolate(high, scale_factor=1 / UPSCALE, mode="area")
    return TensorDataset(low, high)


class Net(nn.Module):
    def __init__(self, upscale_factor):
        super().__init__()
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(1, 32, 5, padding=2)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 16, 3, padding=1)
        self.conv4 = nn.Conv2d(16, upscale_factor**2, 3, padding=1)
        self.pixel_shuffle = nn.PixelShuffle(upscale_factor)
        self._initialize_weights()

    def forward(self, x):
        out = self.relu(self.conv1(x - 0.5))
        out = self.relu(self.conv2(out))
        out = self.relu(self.conv3(out))
        out = self.pixel_shuffle(self.conv4(out))
        return out + F.interpolate(x, scale_factor=UPSCALE, mode="bilinear", align_corners=False)

    def _initialize_weights(self):
        init.orthogonal_(self.conv1.weight, init.calculate_gain("relu"))
        init.orthogonal_(self.conv2.weight, init.calculate_gain("relu"))
        init.orthogonal_(self.conv3.weight, init.calculate_gain("relu"))
        init.normal_(self.conv4.weight, std=0.01)
        init.zeros_(self.conv4.bias)


torch.manual_seed(123)
torch.set_num_threads(1)

print("===> Loading datasets")
training_data_loader = DataLoader(get_set(500, seed=5), batch_size=16, shuffle=True)
testing_data_loader = DataLoader(get_set(100, seed=6), batch_size=50, shuffle=False)

print("===> Building model")
model = Net(upscale_factor=UPSCALE)
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)


def train(epoch):
    model.train()
    epoch_loss = 0
    for input, target in training_data_loader:
        optimizer.zero_grad()
        loss = criterion(model(input), target)
        epoch_loss += loss.item()
        loss.backward()
        optimizer.step()
    print(f"===> Epoch {epoch} Complete: Avg. Loss: {epoch_loss / len(training_data_loader):.5f}")


def psnr(upscale):
    total, count = 0.0, 0
    with torch.no_grad():
        for input, target in testing_data_loader:
            error = (upscale(input).clamp(0, 1) - target).pow(2).mean(dim=(1, 2, 3))
            total += sum(10 * log10(1 / e) for e in error.tolist())
            count += len(input)
    return total / count


def test():
    model.eval()
    print(f"===> Avg. PSNR: {psnr(model):.2f} dB")


bicubic = psnr(lambda x: F.interpolate(x, scale_factor=UPSCALE, mode="bicubic", align_corners=False))
print(f"===> Bicubic PSNR: {bicubic:.2f} dB")
for epoch in range(1, 16):
    train(epoch)
    test()
