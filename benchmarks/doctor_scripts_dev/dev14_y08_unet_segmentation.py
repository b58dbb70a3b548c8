import argparse
import logging
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim
from torch.utils.data import DataLoader, Dataset, random_split

from toydata import Shapes


class BasicDataset(Dataset):
    """Images of 3 x H x W in [0, 1] and masks of H x W: 0 background, 1 square, 2 disc, 3 cross."""

    def __init__(self, count=420, augment=True):
        self.shapes = Shapes(train=True, count=count)
        self.augment = augment
        logging.info(f'Creating dataset with {len(self.shapes)} examples')

    def __len__(self):
        return len(self.shapes)

    @staticmethod
    def preprocess(img):
        if (img > 1).any():
            img = img / 255.0
        return img

    def __getitem__(self, idx):
        img, mask = self.shapes.images[idx], self.shapes.masks[idx]
        if self.augment and random.random() < 0.5:
            img, mask = img.flip(-1), mask.flip(-1)
        if self.augment and random.random() < 0.5:
            img, mask = img.flip(-2), mask.flip(-2)
        return {'image': self.preprocess(img), 'mask': mask}


class DoubleConv(nn.Module):
    """(convolution => [BN] => ReLU) * 2"""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.double_conv(x)


class Up(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
        self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, x1, x2):
        return self.conv(torch.cat([x2, self.up(x1)], dim=1))


class UNet(nn.Module):
    def __init__(self, n_channels, n_classes, base=12):
        super().__init__()
        self.n_classes = n_classes
        self.inc = DoubleConv(n_channels, base)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(base, 2 * base))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(2 * base, 4 * base))
        self.up1 = Up(4 * base, 2 * base)
        self.up2 = Up(2 * base, base)
        self.outc = nn.Conv2d(base, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        return self.outc(self.up2(self.up1(x3, x2), x1))


def dice_coeff(input, target, epsilon=1e-6):
    """ Dice of each class over the whole batch; input and target are (B, C, H, W) """
    inter = 2 * (input * target).sum(dim=(0, 2, 3))
    sets_sum = input.sum(dim=(0, 2, 3)) + target.sum(dim=(0, 2, 3))
    return (inter + epsilon) / (sets_sum + epsilon)


def dice_loss(logits, masks):
    n_classes = logits.shape[1]
    target = F.one_hot(masks, n_classes).permute(0, 3, 1, 2).float()
    return 1 - dice_coeff(F.softmax(logits, dim=1), target).mean()


@torch.inference_mode()
def evaluate(net, dataloader):
    net.eval()
    inter, total = torch.zeros(net.n_classes), torch.zeros(net.n_classes)
    for batch in dataloader:
        mask_true = F.one_hot(batch['mask'], net.n_classes).bool()
        mask_pred = F.one_hot(net(batch['image']).argmax(dim=1), net.n_classes).bool()
        inter += (mask_true & mask_pred).sum(dim=(0, 1, 2))
        total += mask_true.sum(dim=(0, 1, 2)) + mask_pred.sum(dim=(0, 1, 2))
    net.train()
    # the background is left out of the score
    return (2 * inter / total.clamp(min=1))[1:].mean().item()


def train_model(model, epochs, batch_size, learning_rate, val_percent, gradient_clipping=1.0):
    # 1. Create datasets, 2. Split into train / validation partitions
    dataset = BasicDataset()
    n_val = int(len(dataset) * val_percent)
    train_set, val_set = random_split(dataset, [len(dataset) - n_val, n_val], generator=torch.Generator().manual_seed(0))

    # 3. Create data loaders
    train_loader = DataLoader(train_set, shuffle=True, batch_size=batch_size)
    val_loader = DataLoader(val_set, shuffle=False, batch_size=batch_size)

    # 4. Set up the optimizer, the loss, the learning rate scheduler
    optimizer = optim.RMSprop(model.parameters(), lr=learning_rate, weight_decay=1e-8, momentum=0.5)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, 'max', patience=2, factor=0.3)  # goal: maximize Dice score
    criterion = nn.CrossEntropyLoss()

    # 5. Begin training
    for epoch in range(1, epochs + 1):
        model.train()
        epoch_loss = 0
        for batch in train_loader:
            images, true_masks = batch['image'], batch['mask']
            masks_pred = model(images)
            loss = criterion(masks_pred, true_masks)
            loss += dice_loss(masks_pred, true_masks)

            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), gradient_clipping)
            optimizer.step()
            epoch_loss += loss.item()

        val_score = evaluate(model, val_loader)
        scheduler.step(val_score)
        logging.info(f'Epoch {epoch}: loss {epoch_loss / len(train_loader):.4f}  validation Dice {val_score:.4f}')
    return val_score


def get_args():
    parser = argparse.ArgumentParser(description='Train the UNet on images and target masks')
    parser.add_argument('--epochs', '-e', type=int, default=9)
    parser.add_argument('--batch-size', '-b', dest='batch_size', type=int, default=12)
    parser.add_argument('--learning-rate', '-l', type=float, default=1e-3, dest='lr')
    parser.add_argument('--validation', '-v', dest='val', type=float, default=20.0, help='Percent used as validation (0-100)')
    return parser.parse_args()


if __name__ == '__main__':
    args = get_args()
    logging.basicConfig(level=logging.INFO, format='%(levelname)s: %(message)s')
    random.seed(0)
    torch.manual_seed(0)
    score = train_model(UNet(n_channels=3, n_classes=4), args.epochs, args.batch_size, args.lr, args.val / 100)
    print(f'final validation Dice {score:.4f}')
