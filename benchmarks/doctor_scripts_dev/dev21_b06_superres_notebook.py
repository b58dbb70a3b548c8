# %% [markdown]
# # Super-resolution x2
# A small EDSR-like network adds to the bicubic enlargement what is missing: sharp edges.

# %%
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import shape_mask

torch.manual_seed(0)
np.random.seed(0)

SCALE = 2
HR_SIZE = 40
LR_PATCH = 16
BATCH_SIZE = 16
EPOCHS = 14

# %% [markdown]
# ## Pictures
# Flat shapes of random colors, height x width x channels, from 0 to 1, as an image library would give them.


# %%
def paint(count, seed):
    rng = np.random.default_rng(seed)
    images = np.empty((count, HR_SIZE, HR_SIZE, 3), np.float32)
    for image in images:
        image[:] = rng.uniform(0.1, 0.9, 3)
        for _ in range(rng.integers(3, 7)):
            width = int(rng.integers(7, 20))
            top, left = rng.integers(0, HR_SIZE - width + 1, 2)
            kind = ("square", "disc", "cross")[rng.integers(3)]
            mask = shape_mask(kind, HR_SIZE, int(top), int(left), width).numpy()
            image[mask] = rng.uniform(0, 1, 3)
    return images


def shrink(images):
    """Area average of SCALE x SCALE pixels."""
    n, h, w, c = images.shape
    return images.reshape(n, h // SCALE, SCALE, w // SCALE, SCALE, c).mean(axis=(2, 4))


def to_tensor(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


train_images, val_images = paint(1200, seed=1), paint(150, seed=2)
print(train_images.shape, val_images.shape, train_images.min(), train_images.max())


# %%
class PairDataset(Dataset):
    """Small and large pictures; in training random patches that show the same part, sometimes mirrored."""

    def __init__(self, images, train):
        self.lr, self.hr = to_tensor(shrink(images)), to_tensor(images)
        self.train = train

    def __len__(self):
        return len(self.hr)

    def __getitem__(self, index):
        lr, hr = self.lr[index], self.hr[index]
        if self.train:
            top, left = np.random.randint(0, lr.shape[-1] - LR_PATCH + 1, 2).tolist()
            size = SCALE * LR_PATCH
            lr = lr[:, top : top + LR_PATCH, left : left + LR_PATCH]
            hr_top, hr_left = SCALE * top, SCALE * left
            hr = hr[:, hr_top : hr_top + size, hr_left : hr_left + size]
            if np.random.rand() < 0.5:
                lr, hr = lr.flip(-1), hr.flip(-1)
        return lr, hr


train_loader = DataLoader(PairDataset(train_images, train=True), batch_size=BATCH_SIZE, shuffle=True)
val_loader = DataLoader(PairDataset(val_images, train=False), batch_size=50)


# %% [markdown]
# ## Network


# %%
class ResBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(F.relu(self.conv1(x)))


class SuperResolver(nn.Module):
    def __init__(self, width=24, blocks=3):
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*[ResBlock(width) for _ in range(blocks)])
        self.tail = nn.Sequential(nn.Conv2d(width, 3 * SCALE**2, 3, padding=1), nn.PixelShuffle(SCALE))

    def forward(self, lr):
        bicubic = F.interpolate(lr, scale_factor=SCALE, mode="bicubic", align_corners=False)
        features = self.head(lr - 0.5)
        return bicubic + self.tail(features + self.body(features))


model = SuperResolver()
print(f"{sum(p.numel() for p in model.parameters()):,} parameters")

# %%
criterion = nn.L1Loss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.5)


# %% [markdown]
# ## Metric
# PSNR of each picture, for values from 0 to 1; the mean over pictures.


# %%
def psnr(output, target):
    mse = ((output.clamp(0, 1) - target) ** 2).mean(dim=(1, 2, 3))
    return -10 * torch.log10(mse.clamp(min=1e-10))


def bicubic_only(lr):
    return F.interpolate(lr, scale_factor=SCALE, mode="bicubic", align_corners=False)


@torch.no_grad()
def evaluate(network):
    return torch.cat([psnr(network(lr), hr) for lr, hr in val_loader]).mean().item()


print(f"bicubic: {evaluate(bicubic_only):.2f} dB")

# %% [markdown]
# ## Training

# %%
history = []
for epoch in range(EPOCHS):
    model.train()
    losses = []
    for lr, hr in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(lr), hr)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    scheduler.step()
    model.eval()
    history.append(evaluate(model))
    print(f"epoch {epoch + 1:2d}/{EPOCHS}  L1 {np.mean(losses):.4f}  val PSNR {history[-1]:.2f} dB")

# %%
print(f"best {max(history):.2f} dB, bicubic {evaluate(bicubic_only):.2f} dB")
