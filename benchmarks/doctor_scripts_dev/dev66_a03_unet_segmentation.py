import argparse
import logging
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor, optim
from torch.utils.data import DataLoader, Dataset, random_split

CLASS_NAMES = ['background', 'disk', 'triangle']
MASK_VALUES = [0, 255, 1]  # grey value in the mask files of each class


def draw_sample(rng, size=48):
    """RGB image with disks and triangles (and distracting lines) and its mask."""
    bg, noise = rng.uniform(60, 160), rng.uniform(10, 25)
    img = Image.new('RGB', (size, size), tuple(int(bg + v) for v in rng.uniform(-20, 20, 3)))
    mask = Image.new('L', (size, size), MASK_VALUES[0])
    d_img, d_mask = ImageDraw.Draw(img), ImageDraw.Draw(mask)
    for _ in range(rng.integers(1, 4)):
        p = [int(v) for v in rng.integers(0, size, 4)]
        d_img.line(p, fill=tuple(int(v) for v in rng.uniform(20, 235, 3)), width=1)
    for _ in range(rng.integers(2, 5)):
        cx, cy, r = rng.integers(6, size - 6), rng.integers(6, size - 6), rng.integers(4, 9)
        color = tuple(int(v) for v in np.clip(bg + rng.choice([-1, 1]) * rng.uniform(25, 70, 3), 0, 255))
        if rng.random() < 0.5:
            box = [int(cx - r), int(cy - r), int(cx + r), int(cy + r)]
            d_img.ellipse(box, fill=color)
            d_mask.ellipse(box, fill=MASK_VALUES[1])
        else:  # triangles always point upwards
            pts = [(int(cx), int(cy - r)), (int(cx - r), int(cy + r)), (int(cx + r), int(cy + r))]
            d_img.polygon(pts, fill=color)
            d_mask.polygon(pts, fill=MASK_VALUES[2])
    arr = np.asarray(img, dtype=np.float32) + noise * rng.standard_normal((size, size, 3))
    return Image.fromarray(np.clip(arr, 0, 255).astype(np.uint8)), mask


class BasicDataset(Dataset):
    def __init__(self, n: int, seed: int):
        rng = np.random.default_rng(seed)
        self.samples = [draw_sample(rng) for _ in range(n)]
        logging.info(f'Creating dataset with {n} examples, mask values {MASK_VALUES}')

    def __len__(self):
        return len(self.samples)

    @staticmethod
    def preprocess(mask_values, pil_img, is_mask):
        img = np.asarray(pil_img)
        if is_mask:
            mask = np.zeros(img.shape, dtype=np.int64)
            for i, v in enumerate(mask_values):
                mask[img == v] = i
            return mask
        return img.transpose((2, 0, 1)) / 255.0

    def __getitem__(self, idx):
        img, mask = self.samples[idx]
        img = self.preprocess(MASK_VALUES, img, is_mask=False)
        mask = self.preprocess(MASK_VALUES, mask, is_mask=True)
        return {'image': torch.as_tensor(img.copy()).float().contiguous(),
                'mask': torch.as_tensor(mask.copy()).long().contiguous()}


class FlippedDataset(Dataset):
    """Training view of a dataset: flips images and masks from left to right at random."""

    def __init__(self, dataset, p=0.5):
        self.dataset, self.p = dataset, p

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, idx):
        image, mask = self.dataset[idx]['image'], self.dataset[idx]['mask']
        if torch.rand(1).item() < self.p:
            image, mask = image.flip(-1), mask.flip(-1)
        return {'image': image, 'mask': mask}


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
            nn.ReLU(inplace=True))

    def forward(self, x):
        return self.double_conv(x)


class Up(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
        self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, x1, x2):
        x1 = self.up(x1)
        diffY, diffX = x2.size()[2] - x1.size()[2], x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [diffX // 2, diffX - diffX // 2, diffY // 2, diffY - diffY // 2])
        return self.conv(torch.cat([x2, x1], dim=1))


class UNet(nn.Module):
    def __init__(self, n_channels, n_classes, base=8):
        super().__init__()
        self.n_channels, self.n_classes = n_channels, n_classes
        self.inc = DoubleConv(n_channels, base)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(base, base * 2))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(base * 2, base * 4))
        self.up1 = Up(base * 4, base * 2)
        self.up2 = Up(base * 2, base)
        self.outc = nn.Conv2d(base, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x = self.up1(x3, x2)
        x = self.up2(x, x1)
        return self.outc(x)


def dice_coeff(input: Tensor, target: Tensor, epsilon: float = 1e-6):
    """Average of the Dice coefficient over all images (and classes), of (N, H, W)."""
    assert input.size() == target.size() and input.dim() == 3
    inter = 2 * (input * target).sum(dim=(-1, -2))
    sets_sum = input.sum(dim=(-1, -2)) + target.sum(dim=(-1, -2))
    sets_sum = torch.where(sets_sum == 0, inter, sets_sum)
    return ((inter + epsilon) / (sets_sum + epsilon)).mean()


def multiclass_dice_coeff(input: Tensor, target: Tensor, epsilon: float = 1e-6):
    return dice_coeff(input.flatten(0, 1), target.flatten(0, 1), epsilon)


def dice_loss(input: Tensor, target: Tensor):
    return 1 - multiclass_dice_coeff(input, target)

@torch.inference_mode()
def evaluate(net, dataloader):
    net.eval()
    dice_score, inter, total = 0, torch.zeros(net.n_classes), torch.zeros(net.n_classes)
    for batch in dataloader:
        mask_true = F.one_hot(batch['mask'], net.n_classes).permute(0, 3, 1, 2).float()
        mask_pred = net(batch['image'])
        mask_pred = F.one_hot(mask_pred.argmax(dim=1), net.n_classes).permute(0, 3, 1, 2).float()
        # compute the Dice score, ignoring background
        dice_score += multiclass_dice_coeff(mask_pred[:, 1:], mask_true[:, 1:]) * len(mask_true)
        inter += 2 * (mask_pred * mask_true).sum(dim=(0, 2, 3))
        total += (mask_pred + mask_true).sum(dim=(0, 2, 3))
    net.train()
    per_class = (inter / total.clamp(min=1)).tolist()
    return dice_score / len(dataloader.dataset), dict(zip(CLASS_NAMES, per_class))


def train_model(model, epochs, batch_size, learning_rate, val_percent, weight_decay=1e-8, momentum=0.9,
                gradient_clipping=1.0):
    dataset = BasicDataset(400, seed=0)
    n_val = int(len(dataset) * val_percent)
    n_train = len(dataset) - n_val
    train_set, val_set = random_split(dataset, [n_train, n_val], generator=torch.Generator().manual_seed(0))
    train_loader = DataLoader(FlippedDataset(train_set), shuffle=True, batch_size=batch_size)
    val_loader = DataLoader(val_set, shuffle=False, batch_size=32)

    optimizer = optim.RMSprop(model.parameters(), lr=learning_rate, weight_decay=weight_decay, momentum=momentum)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, 'max', factor=0.3, patience=2)  # maximize Dice score
    criterion = nn.CrossEntropyLoss()

    for epoch in range(1, epochs + 1):
        model.train()
        epoch_loss = 0
        for batch in train_loader:
            images, true_masks = batch['image'], batch['mask']
            masks_pred = model(images)
            loss = criterion(masks_pred, true_masks)
            loss += dice_loss(F.softmax(masks_pred, dim=1),
                              F.one_hot(true_masks, model.n_classes).permute(0, 3, 1, 2).float())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), gradient_clipping)
            optimizer.step()
            epoch_loss += loss.item() * len(images)
        val_score, per_class = evaluate(model, val_loader)
        scheduler.step(val_score)
        logging.info(f"Epoch {epoch} loss {epoch_loss / n_train:.4f} lr {optimizer.param_groups[0]['lr']:.1e} "
                     f"Validation Dice score: {val_score:.4f}")
    return val_score, per_class


def get_args():
    parser = argparse.ArgumentParser(description='Train the UNet on images and target masks')
    parser.add_argument('--epochs', '-e', type=int, default=12)
    parser.add_argument('--batch-size', '-b', dest='batch_size', type=int, default=8)
    parser.add_argument('--learning-rate', '-l', type=float, default=3e-4, dest='lr')
    parser.add_argument('--validation', '-v', dest='val', type=float, default=25.0, help='Percent of validation data')
    return parser.parse_args()


if __name__ == '__main__':
    args = get_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logging.basicConfig(level=logging.INFO, format='%(levelname)s: %(message)s')
    start = time.time()
    model = UNet(n_channels=3, n_classes=len(CLASS_NAMES))
    score, per_class = train_model(model, args.epochs, args.batch_size, args.lr, args.val / 100)
    print(f'FINAL val dice {score:.4f}', {k: round(v, 4) for k, v in per_class.items()},
          f'time {time.time() - start:.0f}s')
