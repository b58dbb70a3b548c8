# %% [markdown]
# # A small U-Net that finds shapes: cross entropy + soft dice, flips of image and mask together

# %%
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

torch.manual_seed(3)
CLASSES = 4  # ground, square, disc, cross
EPOCHS = 12


# %%
class Segmentation(Dataset):
    def __init__(self, train):
        self.shapes = Shapes(train=train, size=24)
        self.train = train

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image = (self.shapes.images[index] - 0.5) / 0.2
        mask = self.shapes.masks[index]
        if self.train:
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
        return image, mask


train_loader = DataLoader(Segmentation(True), batch_size=20, shuffle=True)
val_loader = DataLoader(Segmentation(False), batch_size=40)


# %%
def double_conv(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.GroupNorm(4, outputs),
        nn.SiLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.GroupNorm(4, outputs),
        nn.SiLU(),
    )


class UNet(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.down1 = double_conv(3, width)
        self.down2 = double_conv(width, 2 * width)
        self.middle = double_conv(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.merge2 = double_conv(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.merge1 = double_conv(2 * width, width)
        self.out = nn.Conv2d(width, CLASSES, 1)

    def forward(self, x):
        d1 = self.down1(x)
        d2 = self.down2(F.max_pool2d(d1, 2))
        m = self.middle(F.max_pool2d(d2, 2))
        u2 = self.merge2(torch.cat([self.up2(m), d2], dim=1))
        u1 = self.merge1(torch.cat([self.up1(u2), d1], dim=1))
        return self.out(u1)


def dice_loss(logits, mask, eps=1.0):
    probabilities = logits.softmax(1)
    onehot = F.one_hot(mask, CLASSES).permute(0, 3, 1, 2).float()
    inter = (probabilities * onehot).sum((0, 2, 3))
    total = probabilities.sum((0, 2, 3)) + onehot.sum((0, 2, 3))
    return 1 - ((2 * inter + eps) / (total + eps)).mean()


def combined_loss(logits, mask):
    return F.cross_entropy(logits, mask) + dice_loss(logits, mask)


@torch.inference_mode()
def mean_iou(net):
    net.eval()
    confusion = torch.zeros(CLASSES, CLASSES, dtype=torch.long)
    for image, mask in val_loader:
        prediction = net(image).argmax(1)
        confusion += torch.bincount((mask * CLASSES + prediction).flatten(), minlength=CLASSES**2).view(CLASSES, -1)
    inter = confusion.diag().float()
    union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
    return inter / union.clamp(min=1)


# %%
net = UNet()
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-3)
steps = EPOCHS * len(train_loader)
scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=steps, power=0.9)

for epoch in range(EPOCHS):
    net.train()
    running = 0.0
    for image, mask in train_loader:
        optimizer.zero_grad()
        loss = combined_loss(net(image), mask)
        loss.backward()
        optimizer.step()
        scheduler.step()
        running += loss.item() * len(image)
    iou = mean_iou(net)
    names = ("ground", "square", "disc", "cross")
    print(
        f"epoch {epoch:2d} loss {running / len(train_loader.dataset):.4f} mIoU {iou.mean():.3f} ",
        " ".join(f"{name} {value:.3f}" for name, value in zip(names, iou.tolist())),
    )
