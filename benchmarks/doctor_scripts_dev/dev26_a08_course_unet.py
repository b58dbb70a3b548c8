# %% [markdown]
# # Week 6: Semantic segmentation with a small U-Net
# Each pixel is background (0), square (1), disc (2) or cross (3).

# %%
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

torch.manual_seed(0)
CLASSES = ["background", "square", "disc", "cross"]

# %% [markdown]
# ## Data

# %%
class SegmentationShapes(Dataset):
    def __init__(self, train, count):
        source = Shapes(train=train, count=count)
        self.images, self.masks, self.train = source.images, source.masks, train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image, mask = (self.images[i] - 0.5) / 0.2, self.masks[i]
        if self.train:
            if torch.rand(1).item() < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if torch.rand(1).item() < 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
        return image, mask


train_dl = DataLoader(SegmentationShapes(True, 960), batch_size=24, shuffle=True)
valid_dl = DataLoader(SegmentationShapes(False, 240), batch_size=48)

# %%
xb, yb = next(iter(train_dl))
print("images", tuple(xb.shape), "masks", tuple(yb.shape), "classes", yb.unique().tolist())

# %% [markdown]
# ## Model

# %%
def double_conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, n_classes, w=16):
        super().__init__()
        self.down1 = double_conv(3, w)
        self.down2 = double_conv(w, 2 * w)
        self.bottom = double_conv(2 * w, 4 * w)
        self.drop_bottom = nn.Dropout2d(0.3)
        self.up2 = nn.ConvTranspose2d(4 * w, 2 * w, 2, stride=2)
        self.dec2 = double_conv(4 * w, 2 * w)
        self.up1 = nn.ConvTranspose2d(2 * w, w, 2, stride=2)
        self.dec1 = double_conv(2 * w, w)
        self.drop_out = nn.Dropout2d(0.2)
        self.out = nn.Conv2d(w, n_classes, 1)

    def forward(self, x):
        d1 = self.down1(x)
        d2 = self.down2(F.max_pool2d(d1, 2))
        b = self.drop_bottom(self.bottom(F.max_pool2d(d2, 2)))
        u2 = self.dec2(torch.cat([self.up2(b), d2], dim=1))
        u1 = self.dec1(torch.cat([self.up1(u2), d1], dim=1))
        return self.out(self.drop_out(u1))


net = UNet(len(CLASSES))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
n_epochs = 12
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=n_epochs)

# %% [markdown]
# ## Metric: intersection over union, from one confusion matrix of all pixels

# %%
def confusion(pred, target, n):
    return torch.bincount(target.flatten() * n + pred.flatten(), minlength=n * n).reshape(n, n)


def iou_per_class(cm):
    hits = cm.diag().float()
    return hits / (cm.sum(0) + cm.sum(1) - cm.diag()).clamp(min=1)


# %%
def train_epoch(dl):
    net.train()
    total = 0.0
    for xb, yb in dl:
        logits = net(xb)
        loss = criterion(logits, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(xb)
    return total / len(dl.dataset)


def validate(dl):
    net.eval()
    cm = torch.zeros(len(CLASSES), len(CLASSES), dtype=torch.long)
    with torch.no_grad():
        for xb, yb in dl:
            pred = net(xb).argmax(dim=1)
            cm += confusion(pred, yb, len(CLASSES))
    return cm


# %% [markdown]
# ## Training

# %%
for epoch in range(n_epochs):
    train_loss = train_epoch(train_dl)
    cm = validate(valid_dl)
    iou = iou_per_class(cm)
    pixel_acc = cm.diag().sum().item() / cm.sum().item()
    scheduler.step()
    print(f"epoch {epoch + 1:2d}  train loss {train_loss:.4f}  pixel acc {pixel_acc:.4f}  mIoU {iou.mean().item():.4f}")

# %%
for name, value in zip(CLASSES, iou.tolist()):
    print(f"{name:>10}: IoU {value:.3f}")
