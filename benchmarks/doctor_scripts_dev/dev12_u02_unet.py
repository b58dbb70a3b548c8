import argparse
import logging
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
from torch import optim
from torch.utils.data import DataLoader, Dataset, random_split

from toydata import Shapes

# ---------------------------------------------------------------- data


def write_folders(root: Path, count: int, size: int):
    """Images and masks as PNG files, like a data set one downloads."""
    (root / "imgs").mkdir(parents=True)
    (root / "masks").mkdir(parents=True)
    shapes = Shapes(train=True, count=count, size=size)
    for i in range(count):
        image = (shapes.images[i].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        Image.fromarray(image).save(root / "imgs" / f"{i:04d}.png")
        Image.fromarray(shapes.masks[i].numpy().astype(np.uint8)).save(root / "masks" / f"{i:04d}.png")


class BasicDataset(Dataset):
    def __init__(self, images_dir: Path, mask_dir: Path, scale: float = 1.0, augment: bool = False):
        assert 0 < scale <= 1, "Scale must be between 0 and 1"
        self.images_dir, self.mask_dir = images_dir, mask_dir
        self.scale, self.augment = scale, augment
        self.ids = sorted(file.stem for file in images_dir.glob("*.png"))
        logging.info(f"Creating dataset with {len(self.ids)} examples")

    def __len__(self):
        return len(self.ids)

    @staticmethod
    def preprocess(pil_img, scale, is_mask):
        w, h = pil_img.size
        new_size = int(scale * w), int(scale * h)
        pil_img = pil_img.resize(new_size, resample=Image.NEAREST if is_mask else Image.BICUBIC)
        array = np.asarray(pil_img)
        if is_mask:
            return torch.as_tensor(array.copy()).long()
        return torch.as_tensor(array.transpose(2, 0, 1).copy()).float() / 255.0

    def __getitem__(self, idx):
        name = self.ids[idx]
        with Image.open(self.images_dir / f"{name}.png") as file:
            img = self.preprocess(file, self.scale, is_mask=False)
        with Image.open(self.mask_dir / f"{name}.png") as file:
            mask = self.preprocess(file, self.scale, is_mask=True)
        if self.augment and torch.rand(()) < 0.5:
            img = img.flip(-1)
            mask = mask.flip(-1)
        if self.augment and torch.rand(()) < 0.5:
            img = img.flip(-2)
            mask = mask.flip(-2)
        return {"image": img, "mask": mask}


# ---------------------------------------------------------------- dice


def dice_coeff(pred, target, epsilon=1e-6):
    """Mean Dice coefficient of (N, H, W) maps."""
    inter = 2 * (pred * target).sum(dim=(-1, -2, -3))
    sets_sum = pred.sum(dim=(-1, -2, -3)) + target.sum(dim=(-1, -2, -3))
    sets_sum = torch.where(sets_sum == 0, inter, sets_sum)
    return ((inter + epsilon) / (sets_sum + epsilon)).mean()


def multiclass_dice_coeff(pred, target):
    return torch.stack([dice_coeff(pred[:, c], target[:, c]) for c in range(pred.shape[1])]).mean()


def dice_loss(pred, target):
    return 1 - multiclass_dice_coeff(pred, target)


# ---------------------------------------------------------------- network


class DoubleConv(nn.Sequential):
    def __init__(self, cin, cout):
        super().__init__(
            nn.Conv2d(cin, cout, 3, padding=1, bias=False),
            nn.BatchNorm2d(cout),
            nn.ReLU(inplace=True),
            nn.Conv2d(cout, cout, 3, padding=1, bias=False),
            nn.BatchNorm2d(cout),
            nn.ReLU(inplace=True),
        )


class Up(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.up = nn.ConvTranspose2d(cin, cin // 2, kernel_size=2, stride=2)
        self.conv = DoubleConv(cin, cout)

    def forward(self, x, skip):
        return self.conv(torch.cat([skip, self.up(x)], dim=1))


class UNet(nn.Module):
    def __init__(self, n_channels, n_classes, base=8):
        super().__init__()
        self.n_channels, self.n_classes = n_channels, n_classes
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


# ---------------------------------------------------------------- training


@torch.inference_mode()
def evaluate(net, dataloader, device):
    net.eval()
    score = 0
    for batch in dataloader:
        image, mask_true = batch["image"].to(device), batch["mask"].to(device)
        mask_pred = net(image).argmax(dim=1)
        true = F.one_hot(mask_true, net.n_classes).permute(0, 3, 1, 2).float()
        pred = F.one_hot(mask_pred, net.n_classes).permute(0, 3, 1, 2).float()
        # the background is left out of the score
        score += multiclass_dice_coeff(pred[:, 1:], true[:, 1:])
    net.train()
    return score / max(len(dataloader), 1)


def train_model(model, device, data_dir, epochs, batch_size, learning_rate, val_percent, scale, clipping=1.0):
    full = BasicDataset(data_dir / "imgs", data_dir / "masks", scale, augment=True)
    plain = BasicDataset(data_dir / "imgs", data_dir / "masks", scale, augment=False)
    n_val = int(len(full) * val_percent)
    n_train = len(full) - n_val
    train_set, val_part = random_split(full, [n_train, n_val], generator=torch.Generator().manual_seed(0))
    val_set = torch.utils.data.Subset(plain, val_part.indices)
    train_loader = DataLoader(train_set, shuffle=True, batch_size=batch_size)
    val_loader = DataLoader(val_set, shuffle=False, drop_last=False, batch_size=40)

    optimizer = optim.RMSprop(model.parameters(), lr=learning_rate, weight_decay=1e-8, momentum=0.9)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=3, factor=0.3)  # maximize Dice
    criterion = nn.CrossEntropyLoss()
    checkpoints = Path(tempfile.mkdtemp(prefix="unet_"))
    global_step, best = 0, 0.0

    for epoch in range(1, epochs + 1):
        model.train()
        epoch_loss = 0
        for batch in train_loader:
            images, true_masks = batch["image"].to(device), batch["mask"].to(device)
            assert images.shape[1] == model.n_channels
            masks_pred = model(images)
            loss = criterion(masks_pred, true_masks)
            loss += dice_loss(
                F.softmax(masks_pred, dim=1),
                F.one_hot(true_masks, model.n_classes).permute(0, 3, 1, 2).float(),
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), clipping)
            optimizer.step()
            global_step += 1
            epoch_loss += loss.item()
        val_score = evaluate(model, val_loader, device).item()
        scheduler.step(val_score)
        lr = optimizer.param_groups[0]["lr"]
        logging.info(
            f"epoch {epoch} step {global_step} loss {epoch_loss / len(train_loader):.4f} "
            f"dice {val_score:.4f} lr {lr:.1e}"
        )
        if val_score > best:
            best = val_score
            torch.save(model.state_dict(), checkpoints / "checkpoint_best.pth")
    return val_score, best


def get_args():
    parser = argparse.ArgumentParser(description="Train the UNet on images and target masks")
    parser.add_argument("--epochs", "-e", type=int, default=12)
    parser.add_argument("--batch-size", "-b", dest="batch_size", type=int, default=16)
    parser.add_argument("--learning-rate", "-l", dest="lr", type=float, default=5e-4)
    parser.add_argument("--scale", "-s", type=float, default=0.75)
    parser.add_argument("--validation", "-v", dest="val", type=float, default=20.0)
    parser.add_argument("--classes", "-c", type=int, default=4)
    return parser.parse_args()


if __name__ == "__main__":
    args = get_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    root = Path(tempfile.mkdtemp(prefix="shapes_"))
    write_folders(root, count=500, size=32)
    model = UNet(n_channels=3, n_classes=args.classes).to(device)
    last, best = train_model(model, device, root, args.epochs, args.batch_size, args.lr, args.val / 100, args.scale)
    logging.info(f"validation Dice score: last {last:.4f}, best {best:.4f}")
