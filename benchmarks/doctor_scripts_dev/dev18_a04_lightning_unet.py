import warnings

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

warnings.filterwarnings("ignore")
CLASSES = ["background", "square", "disc", "cross"]


class ShapeSegmentation(Dataset):
    def __init__(self, train, count, size=24):
        self.base = Shapes(train=train, count=count, size=size)
        self.augment = train

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image = (self.base.images[index] - 0.5) / 0.2
        mask = self.base.masks[index]
        if self.augment:
            if torch.rand(1) < 0.5:
                image = image.flip(-1)
                mask = mask.flip(-1)
            if torch.rand(1) < 0.5:
                image = image.flip(-2)
                mask = mask.flip(-2)
        return image, mask


class ShapesDataModule(L.LightningDataModule):
    def __init__(self, batch_size=16):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        self.train_set = ShapeSegmentation(train=True, count=640)
        self.val_set = ShapeSegmentation(train=False, count=200)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=50)


def double_conv(cin, cout):
    layers = []
    for channels in (cin, cout):
        layers += [nn.Conv2d(channels, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    def __init__(self, n_classes, base=8):
        super().__init__()
        self.down1 = double_conv(3, base)
        self.down2 = double_conv(base, 2 * base)
        self.bottleneck = double_conv(2 * base, 4 * base)
        self.up2 = nn.ConvTranspose2d(4 * base, 2 * base, 2, stride=2)
        self.dec2 = double_conv(4 * base, 2 * base)
        self.up1 = nn.ConvTranspose2d(2 * base, base, 2, stride=2)
        self.dec1 = double_conv(2 * base, base)
        self.out = nn.Conv2d(base, n_classes, 1)

    def forward(self, x):
        skip1 = self.down1(x)
        skip2 = self.down2(F.max_pool2d(skip1, 2))
        x = self.bottleneck(F.max_pool2d(skip2, 2))
        x = self.dec2(torch.cat([self.up2(x), skip2], dim=1))
        x = self.dec1(torch.cat([self.up1(x), skip1], dim=1))
        return self.out(x)


class SegmentationModule(L.LightningModule):
    def __init__(self, n_classes=len(CLASSES), max_lr=1e-2, weight_decay=1e-2):
        super().__init__()
        self.save_hyperparameters()
        self.net = UNet(n_classes)
        self.register_buffer("confusion", torch.zeros(n_classes, n_classes), persistent=False)

    def forward(self, x):
        return self.net(x)

    def compute_loss(self, logits, masks):
        n_classes = self.hparams.n_classes
        return F.cross_entropy(logits.permute(0, 2, 3, 1).reshape(-1, n_classes), masks.reshape(-1))

    def training_step(self, batch, batch_idx):
        images, masks = batch
        loss = self.compute_loss(self(images), masks)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self):
        self.confusion.zero_()

    def validation_step(self, batch, batch_idx):
        images, masks = batch
        logits = self(images)
        self.log("val_loss", self.compute_loss(logits, masks))
        preds = logits.argmax(dim=1)
        n_classes = self.hparams.n_classes
        pairs = torch.bincount((masks * n_classes + preds).flatten(), minlength=n_classes ** 2)
        self.confusion += pairs.view(n_classes, n_classes)

    def on_validation_epoch_end(self):
        inter = self.confusion.diag()
        union = self.confusion.sum(0) + self.confusion.sum(1) - inter
        iou = inter / union.clamp(min=1)
        self.log("val_miou", iou.mean())
        self.log("val_pixel_acc", inter.sum() / self.confusion.sum())
        if not self.trainer.sanity_checking:
            metrics = self.trainer.callback_metrics
            print(f"epoch {self.current_epoch}: val_loss {metrics['val_loss']:.4f} mIoU {iou.mean():.4f} "
                  + " ".join(f"{name} {value:.3f}" for name, value in zip(CLASSES, iou.tolist())))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.max_lr,
                                      weight_decay=self.hparams.weight_decay)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.max_lr, total_steps=self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(7)
    data = ShapesDataModule()
    model = SegmentationModule()
    trainer = L.Trainer(max_epochs=8, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(model, datamodule=data)
    results = trainer.validate(model, datamodule=data, verbose=False)[0]
    print("final", {name: round(value, 4) for name, value in results.items()})


if __name__ == "__main__":
    main()
