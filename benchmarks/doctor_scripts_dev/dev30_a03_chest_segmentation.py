"""Lungs and nodules in x-ray like pictures: a small U-Net with Lightning."""

import logging
import warnings

import lightning as L
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
NAMES = ["background", "lung", "nodule"]


def ellipse(yy, xx, cy, cx, height, width):
    return ((yy - cy) / height) ** 2 + ((xx - cx) / width) ** 2 < 1


def draw_chest(rng, size=32):
    yy, xx = np.mgrid[0:size, 0:size].astype(np.float32)
    shift = rng.uniform(-3, 3)
    cy, cx = size / 2 + rng.uniform(-1.5, 1.5), size / 2 + shift
    image = np.full((size, size), rng.uniform(0.05, 0.15))
    mask = np.zeros((size, size), dtype=np.int64)
    image[ellipse(yy, xx, cy, cx, 15, 13)] = rng.uniform(0.5, 0.6)
    for side in (-1, 1):
        ly, lx = cy + rng.uniform(-1.5, 1.5), cx + side * rng.uniform(5.2, 6.2)
        height, width = rng.uniform(7, 10.5), rng.uniform(3.2, 4.6)
        lung = ellipse(yy, xx, ly, lx, height, width)
        image[lung] = rng.uniform(0.2, 0.28)
        mask[lung] = 1
        if rng.random() < 0.7:
            ny, nx = ly + rng.uniform(-0.5, 0.5) * height, lx + rng.uniform(-0.3, 0.3) * width
            nodule = ellipse(yy, xx, ny, nx, *rng.uniform(1.5, 2.6, 2))
            image[nodule] = rng.uniform(0.42, 0.55)
            mask[nodule] = 2
    heart = ellipse(yy, xx, cy + 3, cx + 1.5, 4, 2.5) & (mask == 0)
    image[heart] = 0.75
    image += 0.03 * np.sin(yy * 1.6 + 0.1 * (xx - cx) ** 2 / 4)
    image += rng.normal(0, 0.04, image.shape)
    return image.astype(np.float32), mask


class ChestDataset(Dataset):
    def __init__(self, count, seed, augment=False):
        rng = np.random.default_rng(seed)
        pairs = [draw_chest(rng) for _ in range(count)]
        images = np.stack([image for image, _ in pairs])
        self.images = torch.from_numpy((images - 0.33) / 0.21).unsqueeze(1)
        self.masks = torch.from_numpy(np.stack([mask for _, mask in pairs]))
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, mask = self.images[index], self.masks[index]
        if self.augment and torch.rand(()) < 0.5:
            image = torch.flip(image, dims=[-1])
            mask = torch.flip(mask, dims=[-1])
        if self.augment:
            image = image * (0.9 + 0.2 * torch.rand(())) + 0.1 * torch.randn(())
        return image, mask


class DoubleConv(nn.Sequential):
    def __init__(self, inputs, outputs):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    def __init__(self, classes, widths=(8, 16, 32)):
        super().__init__()
        pairs = list(zip((1, *widths[:-1]), widths))
        self.downs = nn.ModuleList([DoubleConv(a, b) for a, b in pairs])
        self.ups = nn.ModuleList([DoubleConv(b + a, a) for a, b in zip(widths[-2::-1], widths[:0:-1])])
        self.pool = nn.MaxPool2d(2)
        self.grow = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x):
        skips = []
        for level, down in enumerate(self.downs):
            x = down(x if level == 0 else self.pool(x))
            skips.append(x)
        skips.pop()
        for up in self.ups:
            x = up(torch.cat([self.grow(x), skips.pop()], dim=1))
        return self.head(x)


class ChestModule(L.LightningModule):
    def __init__(self, lr=3e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = UNet(len(NAMES))
        self.criterion = nn.CrossEntropyLoss()
        self.losses = []

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        images, masks = batch
        loss = self.criterion(self(images), masks)
        self.losses.append(loss.item())
        return loss

    def on_validation_epoch_start(self):
        self.overlap = torch.zeros(len(NAMES))
        self.union = torch.zeros(len(NAMES))

    def validation_step(self, batch, batch_idx):
        images, masks = batch
        logits = self(images)
        self.log("val_loss", self.criterion(logits, masks), on_epoch=True, batch_size=len(images))
        predicted = logits.argmax(dim=1)
        for index in range(len(NAMES)):
            ours, theirs = predicted == index, masks == index
            self.overlap[index] += (ours & theirs).sum()
            self.union[index] += (ours | theirs).sum()

    def on_validation_epoch_end(self):
        iou = self.overlap / self.union.clamp(min=1)
        self.log("val_iou", iou.mean())
        parts = "  ".join(f"{name} {value:.3f}" for name, value in zip(NAMES, iou.tolist()))
        train_loss = sum(self.losses) / max(len(self.losses), 1)
        print(f"epoch {self.current_epoch + 1:2d}  train loss {train_loss:.4f}  mIoU {iou.mean():.3f}  {parts}")
        self.losses.clear()

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.3, patience=1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}


def main():
    torch.set_num_threads(1)
    L.seed_everything(5)
    train_loader = DataLoader(ChestDataset(640, seed=0, augment=True), batch_size=16, shuffle=True)
    val_loader = DataLoader(ChestDataset(160, seed=1), batch_size=40)
    trainer = L.Trainer(
        max_epochs=14,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(ChestModule(), train_loader, val_loader)


if __name__ == "__main__":
    main()
