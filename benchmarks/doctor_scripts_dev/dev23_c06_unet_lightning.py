"""Segmentation of shapes with a small U-Net in Lightning: Dice and cross entropy, deep supervision, mirrored tests."""
import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ["ground", "square", "disc", "cross"]


class ShapeMasks(Dataset):
    def __init__(self, train, count):
        self.shapes = Shapes(train=train, count=count)
        self.train = train

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, mask = (self.shapes.images[index] - 0.5) / 0.2, self.shapes.masks[index]
        if self.train:
            for dim in (1, 2):
                if torch.rand(()) < 0.5:  # the mask is turned with its image
                    image, mask = image.flip(dim), mask.flip(dim - 1)
        return image, mask


def double_conv(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.down1, self.down2 = double_conv(3, width), double_conv(width, 2 * width)
        self.bottom = double_conv(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.merge2 = double_conv(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.merge1 = double_conv(2 * width, width)
        self.head = nn.Conv2d(width, len(CLASSES), 1)
        self.aux_head = nn.Conv2d(2 * width, len(CLASSES), 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        b = self.merge2(torch.cat([self.up2(c), b], dim=1))
        a = self.merge1(torch.cat([self.up1(b), a], dim=1))
        if self.training:
            return self.head(a), self.aux_head(b)
        return self.head(a)


def dice_loss(logits, masks):
    probs = logits.softmax(dim=1)
    truth = F.one_hot(masks, len(CLASSES)).permute(0, 3, 1, 2).float()
    overlap = (probs * truth).sum(dim=(0, 2, 3))
    total = (probs + truth).sum(dim=(0, 2, 3))
    return 1 - ((2 * overlap + 1) / (total + 1)).mean()


def segmentation_loss(logits, masks):
    return F.cross_entropy(logits, masks) + dice_loss(logits, masks)


class Segmenter(L.LightningModule):
    def __init__(self, lr=4e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = UNet()
        self.register_buffer("confusion", torch.zeros(len(CLASSES), len(CLASSES)), persistent=False)
        self.train_losses = []

    def training_step(self, batch, batch_idx):
        images, masks = batch
        logits, aux = self.net(images)
        small = masks[:, ::2, ::2]
        loss = segmentation_loss(logits, masks) + 0.3 * segmentation_loss(aux, small)
        self.train_losses.append(loss.detach())
        return loss

    def on_validation_epoch_start(self):
        self.confusion.zero_()

    def validation_step(self, batch, batch_idx):
        images, masks = batch
        predicted = self.net(images).argmax(dim=1)
        self.confusion += torch.bincount(
            (masks * len(CLASSES) + predicted).flatten(), minlength=len(CLASSES) ** 2
        ).view_as(self.confusion)

    def ious(self):
        hits = self.confusion.diag()
        return hits / (self.confusion.sum(0) + self.confusion.sum(1) - hits).clamp(min=1)

    def on_validation_epoch_end(self):
        loss = torch.stack(self.train_losses).mean() if self.train_losses else float("nan")
        self.train_losses.clear()
        parts = " ".join(f"{name} {iou:.3f}" for name, iou in zip(CLASSES, self.ious()))
        print(f"epoch {self.current_epoch}: loss {loss:.4f} mIoU {self.ious().mean():.4f} ({parts})", flush=True)

    def on_test_epoch_start(self):
        self.confusion.zero_()

    def test_step(self, batch, batch_idx):
        images, masks = batch
        probs = self.net(images).softmax(1) + self.net(images.flip(3)).softmax(1).flip(3)
        self.confusion += torch.bincount(
            (masks * len(CLASSES) + probs.argmax(1)).flatten(), minlength=len(CLASSES) ** 2
        ).view_as(self.confusion)

    def on_test_epoch_end(self):
        print(f"with mirrored images averaged: mIoU {self.ious().mean():.4f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-3)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


if __name__ == "__main__":
    L.seed_everything(5)
    train_loader = DataLoader(ShapeMasks(True, 1000), batch_size=32, shuffle=True, drop_last=True)
    valid_loader = DataLoader(ShapeMasks(False, 240), batch_size=60)
    trainer = L.Trainer(
        max_epochs=14, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, gradient_clip_val=5.0,
    )
    model = Segmenter()
    trainer.fit(model, train_loader, valid_loader)
    trainer.test(model, valid_loader, verbose=False)
