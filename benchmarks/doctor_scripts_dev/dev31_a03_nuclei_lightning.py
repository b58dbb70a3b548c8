"""U-Net for cell nuclei in fluorescence microscopy, with Lightning."""
import warnings

import lightning as L
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

warnings.filterwarnings("ignore")
SIZE = 40


def draw_field(rng):
    """A dim field with some bright nuclei, and the mask of them (0 or 255)."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    slope = rng.uniform(-0.15, 0.15, 2)
    image = 0.25 + slope[0] * (y / SIZE - 0.5) + slope[1] * (x / SIZE - 0.5)
    mask = np.zeros((SIZE, SIZE), bool)
    for _ in range(rng.integers(3, 8)):
        cy, cx = rng.uniform(3, SIZE - 3, 2)
        a, b = rng.uniform(3, 6.5, 2)
        turn = rng.uniform(0, np.pi)
        u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        v = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        distance = np.sqrt((u / a) ** 2 + (v / b) ** 2)
        image = image + rng.uniform(0.2, 0.45) / (1 + np.exp(8 * (distance - 1))) * ~mask
        mask |= distance < 1
    image = image + rng.normal(0, 0.07, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8), mask.astype(np.uint8) * 255


class Nuclei(Dataset):
    def __init__(self, count, seed, augment=False):
        rng = np.random.default_rng(seed)
        fields = [draw_field(rng) for _ in range(count)]
        self.images = np.stack([image for image, _ in fields])
        self.masks = np.stack([mask for _, mask in fields])
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = torch.from_numpy(self.images[index]).float()[None] / 255
        mask = torch.from_numpy(self.masks[index]).float()[None] / 255
        image = (image - 0.35) / 0.18
        if self.augment:
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
        return image, mask


class NucleiData(L.LightningDataModule):
    def __init__(self, batch_size=8):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        self.train_set = Nuclei(400, seed=0, augment=True)
        self.val_set = Nuclei(100, seed=1)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=25)


def double_conv(in_channels, out_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.down1 = double_conv(1, width)
        self.down2 = double_conv(width, 2 * width)
        self.bottom = double_conv(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.merge2 = double_conv(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.merge1 = double_conv(2 * width, width)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x):
        fine = self.down1(x)
        middle = self.down2(F.max_pool2d(fine, 2))
        coarse = self.bottom(F.max_pool2d(middle, 2))
        x = self.merge2(torch.cat([self.up2(coarse), middle], dim=1))
        x = self.merge1(torch.cat([self.up1(x), fine], dim=1))
        return self.head(x)


def dice_loss(logits, masks, smooth=1.0):
    probs = torch.sigmoid(logits).flatten(1)
    masks = masks.flatten(1)
    overlap = (probs * masks).sum(1)
    return (1 - (2 * overlap + smooth) / (probs.sum(1) + masks.sum(1) + smooth)).mean()


class Segmenter(L.LightningModule):
    def __init__(self, lr=4e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = UNet()

    def forward(self, images):
        return self.net(images)

    def criterion(self, logits, masks):
        return F.binary_cross_entropy_with_logits(logits, masks) + dice_loss(logits, masks)

    def training_step(self, batch, batch_idx):
        images, masks = batch
        logits = self(images)
        loss = self.criterion(logits, masks)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self):
        self.overlap, self.union = 0.0, 0.0

    def validation_step(self, batch, batch_idx):
        images, masks = batch
        logits = self(images)
        self.log("val_loss", self.criterion(logits, masks))
        predicted, wanted = logits > 0, masks > 0.5
        self.overlap += (predicted & wanted).sum().item()
        self.union += (predicted | wanted).sum().item()

    def on_validation_epoch_end(self):
        iou = self.overlap / max(self.union, 1)
        self.log("val_iou", iou)
        print(f"epoch {self.current_epoch}: val IoU {iou:.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=self.trainer.estimated_stepping_batches, div_factor=100
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


if __name__ == "__main__":
    torch.set_num_threads(1)
    L.seed_everything(7)
    trainer = L.Trainer(
        max_epochs=12,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(Segmenter(), NucleiData())
