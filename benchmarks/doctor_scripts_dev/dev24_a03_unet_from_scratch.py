# U-Net from scratch, after the video tutorial, on my own pictures (one object per picture, black and white masks)
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

# Hyperparameters etc.
LEARNING_RATE = 1e-3
DEVICE = "cpu"
BATCH_SIZE = 16
NUM_EPOCHS = 10
NUM_IMAGES = 640
SIZE = 32


class ObjectDataset(Dataset):
    def __init__(self, train, count):
        shapes = Shapes(train=train, count=count, size=SIZE)
        # what PIL would read: H x W x 3 with 0..255, and masks H x W with 0 or 255
        self.images = [(image * 255).byte().permute(1, 2, 0).numpy() for image in shapes.images]
        self.masks = [((mask > 0) * 255).byte().numpy() for mask in shapes.masks]
        self.train = train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        mask = self.masks[index].astype(np.float32)
        mask[mask == 255.0] = 1.0

        if self.train:
            if random.random() < 0.5:
                image = np.fliplr(image).copy()
                mask = np.fliplr(mask).copy()
            if random.random() < 0.5:
                image = np.flipud(image).copy()
                mask = np.flipud(mask).copy()

        image = torch.from_numpy(image).permute(2, 0, 1).float() / 255.0
        image = (image - 0.5) / 0.2
        return image, torch.from_numpy(mask).unsqueeze(0)


class DoubleConv(nn.Module):
    def __init__(self, in_channels, out_channels):
        super(DoubleConv, self).__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.conv(x)


class UNET(nn.Module):
    def __init__(self, in_channels=3, out_channels=1, features=[8, 16, 32]):
        super(UNET, self).__init__()
        self.ups = nn.ModuleList()
        self.downs = nn.ModuleList()
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2)

        # Down part of UNET
        for feature in features:
            self.downs.append(DoubleConv(in_channels, feature))
            in_channels = feature

        # Up part of UNET
        for feature in reversed(features):
            self.ups.append(nn.ConvTranspose2d(feature * 2, feature, kernel_size=2, stride=2))
            self.ups.append(DoubleConv(feature * 2, feature))

        self.bottleneck = DoubleConv(features[-1], features[-1] * 2)
        self.final_conv = nn.Conv2d(features[0], out_channels, kernel_size=1)

    def forward(self, x):
        skip_connections = []
        for down in self.downs:
            x = down(x)
            skip_connections.append(x)
            x = self.pool(x)

        x = self.bottleneck(x)
        skip_connections = skip_connections[::-1]

        for idx in range(0, len(self.ups), 2):
            x = self.ups[idx](x)
            skip_connection = skip_connections[idx // 2]
            x = self.ups[idx + 1](torch.cat((skip_connection, x), dim=1))

        return self.final_conv(x)


class DiceBCELoss(nn.Module):
    def forward(self, predictions, targets, smooth=1.0):
        bce = F.binary_cross_entropy_with_logits(predictions, targets)
        probs = torch.sigmoid(predictions)
        intersection = (probs * targets).sum(dim=(1, 2, 3))
        total = probs.sum(dim=(1, 2, 3)) + targets.sum(dim=(1, 2, 3))
        dice = (2.0 * intersection + smooth) / (total + smooth)
        return bce + 1 - dice.mean()


def train_fn(loader, model, optimizer, loss_fn):
    model.train()
    total = 0.0
    for data, targets in loader:
        data = data.to(device=DEVICE)
        targets = targets.to(device=DEVICE)

        # forward
        predictions = model(data)
        loss = loss_fn(predictions, targets)

        # backward
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


def check_accuracy(loader, model, device="cpu"):
    num_correct = 0
    num_pixels = 0
    dice_score = 0
    num_images = 0
    model.eval()

    with torch.no_grad():
        for x, y in loader:
            x = x.to(device)
            y = y.to(device)
            preds = torch.sigmoid(model(x))
            preds = (preds > 0.5).float()
            num_correct += (preds == y).sum().item()
            num_pixels += torch.numel(preds)
            overlap = (preds * y).sum(dim=(1, 2, 3))
            both = (preds + y).sum(dim=(1, 2, 3))
            dice_score += (2 * overlap / (both + 1e-8)).sum().item()
            num_images += x.shape[0]

    print(f"Got {num_correct}/{num_pixels} with acc {num_correct/num_pixels*100:.2f}")
    print(f"Dice score: {dice_score/num_images:.4f}")
    model.train()


def main():
    random.seed(0)
    torch.manual_seed(0)
    train_loader = DataLoader(ObjectDataset(True, NUM_IMAGES), batch_size=BATCH_SIZE, shuffle=True)
    val_loader = DataLoader(ObjectDataset(False, 160), batch_size=BATCH_SIZE, shuffle=False)

    model = UNET(in_channels=3, out_channels=1).to(DEVICE)
    loss_fn = DiceBCELoss()
    optimizer = optim.Adam(model.parameters(), lr=LEARNING_RATE)

    for epoch in range(NUM_EPOCHS):
        loss = train_fn(train_loader, model, optimizer, loss_fn)
        print(f"=> Epoch {epoch}: loss {loss:.4f}")
        check_accuracy(val_loader, model, device=DEVICE)


if __name__ == "__main__":
    main()
