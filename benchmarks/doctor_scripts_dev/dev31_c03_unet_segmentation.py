"""U-Net that segments shapes (background, square, disc, cross), with joint flips of images and masks."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ["background", "square", "disc", "cross"]


class ShapeSegmentation(Dataset):
    def __init__(self, train):
        shapes = Shapes(train=train, size=24, count=800 if train else 200)
        self.images, self.masks = shapes.images, shapes.masks
        self.train = train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, mask = self.images[index], self.masks[index]
        if self.train:
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
        return (image - 0.5) / 0.25, mask


class DoubleConv(nn.Module):
    def __init__(self, inp, out):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(inp, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.double_conv(x)


class UNet(nn.Module):
    def __init__(self, n_channels, n_classes, width=12):
        super().__init__()
        self.inc = DoubleConv(n_channels, width)
        self.down1 = DoubleConv(width, 2 * width)
        self.down2 = DoubleConv(2 * width, 4 * width)
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.conv1 = DoubleConv(4 * width, 2 * width)
        self.up2 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.conv2 = DoubleConv(2 * width, width)
        self.outc = nn.Conv2d(width, n_classes, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = self.conv1(torch.cat([x2, self.up1(x3)], dim=1))
        x = self.conv2(torch.cat([x1, self.up2(x)], dim=1))
        return self.outc(x)


def dice_loss(logits, masks, eps=1.0):
    probs = logits.softmax(1)
    onehot = F.one_hot(masks, logits.shape[1]).permute(0, 3, 1, 2).float()
    inter = (probs * onehot).sum((0, 2, 3))
    union = probs.sum((0, 2, 3)) + onehot.sum((0, 2, 3))
    return 1 - ((2 * inter + eps) / (union + eps)).mean()


@torch.no_grad()
def evaluate(net, loader):
    net.eval()
    matrix = torch.zeros(len(CLASSES), len(CLASSES), dtype=torch.long)
    for images, masks in loader:
        pred = net(images).argmax(dim=1)
        index = masks.flatten() * len(CLASSES) + pred.flatten()
        matrix += torch.bincount(index, minlength=len(CLASSES) ** 2).view(len(CLASSES), len(CLASSES))
    net.train()
    hit = matrix.diag().float()
    iou = hit / (matrix.sum(0) + matrix.sum(1) - matrix.diag()).clamp(min=1)
    return iou, hit.sum().item() / matrix.sum().item()


def train_net(epochs=11, batch_size=25, lr=5e-4):
    torch.manual_seed(0)
    train_loader = DataLoader(ShapeSegmentation(True), batch_size=batch_size, shuffle=True)
    val_loader = DataLoader(ShapeSegmentation(False), batch_size=50, shuffle=False)
    net = UNet(3, len(CLASSES))
    optimizer = torch.optim.RMSprop(net.parameters(), lr=lr, momentum=0.9, weight_decay=1e-8)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=3)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        net.train()
        epoch_loss = 0.0
        for images, masks in train_loader:
            masks_pred = net(images)
            loss = criterion(masks_pred, masks) + dice_loss(masks_pred, masks)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            epoch_loss += loss.item() * len(images)
        iou, pixel = evaluate(net, val_loader)
        scheduler.step(iou.mean())
        each = " ".join(f"{name} {value:.2f}" for name, value in zip(CLASSES, iou.tolist()))
        print(f"epoch {epoch + 1}: loss {epoch_loss / len(train_loader.dataset):.3f} "
              f"mIoU {iou.mean():.3f} pixel {pixel:.3f} | {each}")


if __name__ == "__main__":
    train_net()
