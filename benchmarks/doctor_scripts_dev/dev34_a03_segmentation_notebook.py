# %% [markdown]
# # Week 6: semantic segmentation with a small U-Net
# Every pixel is background (0), square (1), disc (2) or cross (3).

# %%
import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import Shapes

torch.manual_seed(42)
SIZE, CLASSES, BATCH, EPOCHS = 24, 4, 16, 12

# %% Load the data
train_ds, val_ds = Shapes(train=True, size=SIZE), Shapes(train=False, size=SIZE)
X, M = torch.stack(train_ds.images), torch.stack(train_ds.masks)
Xv, Mv = torch.stack(val_ds.images), torch.stack(val_ds.masks)
perm = torch.randperm(len(X))
X, M = X[perm], M[perm]
print("train", tuple(X.shape), tuple(M.shape), "val", tuple(Xv.shape), tuple(Mv.shape))

# %% Normalize with the statistics of the training images
mean = X.mean((0, 2, 3), keepdim=True)
std = X.std((0, 2, 3), keepdim=True)
X = (X - mean) / std
Xv = (Xv - mean) / std


# %% Augmentation: flips
def augment(x, m):
    if torch.rand(()) < 0.5:
        x, m = x.flip(-1), m.flip(-1)
    if torch.rand(()) < 0.5:
        x, m = x.flip(-2), m.flip(-2)
    return x, m


# %% The network
def double_conv(i, o):
    return nn.Sequential(
        nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(inplace=True),
        nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, n=12):
        super().__init__()
        self.enc1 = double_conv(3, n)
        self.enc2 = double_conv(n, 2 * n)
        self.middle = double_conv(2 * n, 4 * n)
        self.up2 = nn.ConvTranspose2d(4 * n, 2 * n, 2, stride=2)
        self.dec2 = double_conv(4 * n, 2 * n)
        self.up1 = nn.ConvTranspose2d(2 * n, n, 2, stride=2)
        self.dec1 = double_conv(2 * n, n)
        self.head = nn.Conv2d(n, CLASSES, 1)

    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(F.max_pool2d(e1, 2))
        m = self.middle(F.max_pool2d(e2, 2))
        d2 = self.dec2(torch.cat([self.up2(m), e2], dim=1))
        d1 = self.dec1(torch.cat([self.up1(d2), e1], dim=1))
        return self.head(d1)


model = UNet()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
print(sum(p.numel() for p in model.parameters()), "parameters")


# %% Mean IoU over the whole validation set
def mean_iou(model, images, masks):
    model.eval()
    confusion = torch.zeros(CLASSES, CLASSES)
    with torch.no_grad():
        for x, m in zip(images.split(40), masks.split(40)):
            p = model(x).argmax(dim=1)
            pairs = CLASSES * m.flatten() + p.flatten()
            confusion += torch.bincount(pairs, minlength=CLASSES**2).view(CLASSES, CLASSES)
    inter = confusion.diag()
    union = confusion.sum(0) + confusion.sum(1) - inter
    return (inter / union.clamp(min=1)).mean().item()


# %% Training
history = []
for epoch in range(EPOCHS):
    model.train()
    losses = []
    for idx in torch.randperm(len(X)).split(BATCH):
        x, m = augment(X[idx], M[idx])
        optimizer.zero_grad()
        loss = criterion(model(x), m)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    scheduler.step()
    iou = mean_iou(model, Xv, Mv)
    history.append(iou)
    print(f"Epoch {epoch + 1}/{EPOCHS}  loss {sum(losses) / len(losses):.4f}  val mIoU {iou:.4f}", flush=True)

# %% Results
print("best mIoU", max(history))
