"""Masks and names of shapes with one network; the two losses are weighed by learned uncertainties."""
import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


class MaskedShapes(Dataset):
    def __init__(self, train, size):
        self.shapes = Shapes(train=train, size=size)

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, name = self.shapes[index]
        return {"image": (image - 0.5) * 4, "mask": self.shapes.masks[index], "name": name}


class ShapesData(L.LightningDataModule):
    def __init__(self, size=24, batch_size=30):
        super().__init__()
        self.size, self.batch_size = size, batch_size

    def setup(self, stage=None):
        self.train_set = MaskedShapes(True, self.size)
        self.val_set = MaskedShapes(False, self.size)

    def train_dataloader(self):
        return DataLoader(self.train_set, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, self.batch_size)


class DoubleConv(nn.Sequential):
    def __init__(self, inp, out):
        layers = []
        for a in (inp, out):
            layers += [nn.Conv2d(a, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        super().__init__(*layers)


class SmallUNet(nn.Module):
    def __init__(self, classes=4, names=len(NAMES), width=12):
        super().__init__()
        self.enc1 = DoubleConv(3, width)
        self.enc2 = DoubleConv(width, 2 * width)
        self.middle = DoubleConv(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.dec2 = DoubleConv(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dec1 = DoubleConv(2 * width, width)
        self.to_mask = nn.Conv2d(width, classes, 1)
        self.to_name = nn.Linear(4 * width, names)

    def forward(self, x):
        a = self.enc1(x)
        b = self.enc2(F.max_pool2d(a, 2))
        m = self.middle(F.max_pool2d(b, 2))
        d = self.dec2(torch.cat([self.up2(m), b], 1))
        d = self.dec1(torch.cat([self.up1(d), a], 1))
        return self.to_mask(d), self.to_name(m.mean((2, 3)))


class MultiTask(L.LightningModule):
    def __init__(self, lr=3e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = SmallUNet()
        self.log_vars = nn.Parameter(torch.zeros(2))
        self.register_buffer("confusion", torch.zeros(4, 4, dtype=torch.long), persistent=False)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        images, masks = batch["image"], batch["mask"]
        mask_logits, name_logits = self(images)
        losses = torch.stack([
            F.cross_entropy(mask_logits, masks),
            F.cross_entropy(name_logits, batch["name"]),
        ])
        total = (torch.exp(-self.log_vars) * losses + 0.5 * self.log_vars).sum()
        self.log("train_loss", total, on_step=False, on_epoch=True)
        return total

    def on_validation_epoch_start(self):
        self.confusion.zero_()

    def validation_step(self, batch, batch_idx):
        mask_logits, name_logits = self(batch["image"])
        pairs = batch["mask"] * 4 + mask_logits.argmax(1)
        self.confusion += torch.bincount(pairs.flatten(), minlength=16).view(4, 4)
        correct = (name_logits.argmax(1) == batch["name"]).float().mean()
        self.log("val_acc", correct, batch_size=len(batch["name"]))

    def on_validation_epoch_end(self):
        hits = self.confusion.diag().float()
        union = self.confusion.sum(0) + self.confusion.sum(1) - self.confusion.diag()
        self.log("val_miou", (hits / union.clamp(min=1)).mean())
        values = {key: round(float(value), 4) for key, value in self.trainer.callback_metrics.items()}
        print(self.current_epoch, values, "weights", torch.exp(-self.log_vars.detach()).tolist())

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        total = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=total, power=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(3)
    trainer = L.Trainer(
        max_epochs=9,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(MultiTask(), datamodule=ShapesData())


if __name__ == "__main__":
    main()
