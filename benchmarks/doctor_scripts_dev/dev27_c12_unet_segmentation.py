"""U-Net for shape masks with cross-entropy plus Dice; flips of image and mask together."""
import logging

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
N_CLASSES = 4


class SegmentationDataset(Dataset):
    def __init__(self, train):
        self.base = Shapes(train, count=640 if train else 160, size=24)
        self.train = train

    def __len__(self):
        return len(self.base)

    def __getitem__(self, idx):
        image, mask = self.base.images[idx], self.base.masks[idx]
        if self.train and torch.rand(1).item() < 0.5:
            image, mask = image.flip(2), mask.flip(1)
        if self.train and torch.rand(1).item() < 0.5:
            image, mask = image.flip(1), mask.flip(0)
        return {"image": (image - 0.5) / 0.2, "mask": mask}


class DoubleConv(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))

    def forward(self, x):
        return self.double_conv(x)


class Up(nn.Module):
    def __init__(self, in_channels, skip, out_channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.conv = DoubleConv(out_channels + skip, out_channels)

    def forward(self, x, skip):
        return self.conv(torch.cat([skip, self.up(x)], dim=1))


class UNet(nn.Module):
    def __init__(self, n_channels=3, n_classes=N_CLASSES, w=8):
        super().__init__()
        self.inc = DoubleConv(n_channels, w)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(w, 2 * w))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(2 * w, 4 * w))
        self.up1 = Up(4 * w, 2 * w, 2 * w)
        self.up2 = Up(2 * w, w, w)
        self.outc = nn.Conv2d(w, n_classes, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        return self.outc(self.up2(self.up1(x3, x2), x1))


def dice_coeff(pred, target, epsilon=1e-6):
    """Mean over classes of the Dice coefficient over the whole batch; the ground (class 0) is left out."""
    dims = (0, 2, 3)
    inter = 2 * (pred * target).sum(dims)
    union = pred.sum(dims) + target.sum(dims)
    return ((inter + epsilon) / (union + epsilon))[1:].mean()


def as_one_hot(mask):
    return F.one_hot(mask, N_CLASSES).permute(0, 3, 1, 2).float()


def evaluate(net, dataloader):
    net.eval()
    inter = torch.zeros(N_CLASSES)
    union = torch.zeros(N_CLASSES)
    with torch.no_grad():
        for batch in dataloader:
            pred = as_one_hot(net(batch["image"]).argmax(dim=1))
            true = as_one_hot(batch["mask"])
            inter += (pred * true).sum((0, 2, 3))
            union += torch.maximum(pred, true).sum((0, 2, 3))
    net.train()
    iou = inter / union.clamp(min=1)
    return iou[1:].mean().item()


def train_net(net, epochs=20, batch_size=16, learning_rate=3e-3):
    train_loader = DataLoader(SegmentationDataset(True), batch_size=batch_size, shuffle=True)
    val_loader = DataLoader(SegmentationDataset(False), batch_size=40)
    optimizer = torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=3, factor=0.3)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        net.train()
        epoch_loss = 0
        for batch in train_loader:
            images, true_masks = batch["image"], batch["mask"]
            masks_pred = net(images)
            loss = criterion(masks_pred, true_masks)
            loss = loss + 1 - dice_coeff(F.softmax(masks_pred, dim=1), as_one_hot(true_masks))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            epoch_loss += loss.item()
        score = evaluate(net, val_loader)
        scheduler.step(score)
        logging.info(f"epoch {epoch + 1} loss {epoch_loss / len(train_loader):.4f} validation mean IoU {score:.4f}")


if __name__ == "__main__":
    torch.manual_seed(2)
    network = UNet()
    logging.info(f"{sum(p.numel() for p in network.parameters())} parameters")
    train_net(network)
