"""LightningModule + LightningDataModule: small U-Net with dice + cross entropy."""
import tempfile

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

class SegDataset(Dataset):
    def __init__(self, base, augment=False):
        self.base, self.augment = base, augment

    def __len__(self):
        return len(self.base)

    def __getitem__(self, i):
        image, mask = self.base.images[i], self.base.masks[i]
        if self.augment and torch.rand(()) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        return {"image": (image - 0.5) / 0.25, "mask": mask, "name": self.base.names[i]}

class ShapesDM(L.LightningDataModule):
    def __init__(self, batch_size=20):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        self.train_ds = SegDataset(Shapes(True, count=720), augment=True)
        self.val_ds = SegDataset(Shapes(False))

    def train_dataloader(self):
        return DataLoader(self.train_ds, self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_ds, 60)

def double(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.SiLU(), nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o), nn.SiLU())

class UNet(nn.Module):
    def __init__(self, c=8, classes=4):
        super().__init__()
        self.d1, self.d2, self.mid = double(3, c), double(c, 2 * c), double(2 * c, 4 * c)
        self.up2, self.up1 = nn.ConvTranspose2d(4 * c, 2 * c, 2, 2), nn.ConvTranspose2d(2 * c, c, 2, 2)
        self.u2, self.u1, self.out = double(4 * c, 2 * c), double(2 * c, c), nn.Conv2d(c, classes, 1)

    def forward(self, x):
        a = self.d1(x)
        b = self.d2(F.max_pool2d(a, 2))
        m = self.mid(F.max_pool2d(b, 2))
        b = self.u2(torch.cat([self.up2(m), b], 1))
        return self.out(self.u1(torch.cat([self.up1(b), a], 1)))

class LitSeg(L.LightningModule):
    def __init__(self, lr=1e-2):
        super().__init__()
        self.save_hyperparameters()
        self.net = UNet()
        self.inter, self.union = [], []

    def forward(self, x):
        return self.net(x)

    def dice(self, logits, mask):
        p, t = logits.softmax(1)[:, 1:], F.one_hot(mask, 4).permute(0, 3, 1, 2)[:, 1:].float()
        return 1 - ((2 * (p * t).sum((0, 2, 3)) + 1) / (p.sum((0, 2, 3)) + t.sum((0, 2, 3)) + 1)).mean()

    def training_step(self, batch, batch_idx):
        logits = self(batch["image"])
        losses = {"ce": F.cross_entropy(logits, batch["mask"]), "dice": self.dice(logits, batch["mask"])}
        self.log_dict({f"train/{k}": v.detach() for k, v in losses.items()}, prog_bar=False)
        return {"loss": losses["ce"] + 0.5 * losses["dice"]}

    def validation_step(self, batch, batch_idx):
        pred = self(batch["image"]).argmax(1)
        for c in (1, 2, 3):
            p, t = pred == c, batch["mask"] == c
            self.inter.append((p & t).sum())
            self.union.append((p | t).sum())

    def on_validation_epoch_end(self):
        i, u = torch.stack(self.inter).view(-1, 3).sum(0), torch.stack(self.union).view(-1, 3).sum(0)
        iou = (i / u.clamp(min=1)).mean()
        self.log("val/miou", iou)
        if not self.trainer.sanity_checking:
            print(f"epoch {self.current_epoch} val mIoU {iou:.3f}")
        self.inter.clear()
        self.union.clear()

    def configure_optimizers(self):
        opt = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-4)
        sch = torch.optim.lr_scheduler.OneCycleLR(opt, self.hparams.lr, total_steps=self.trainer.estimated_stepping_batches)
        return {"optimizer": opt, "lr_scheduler": {"scheduler": sch, "interval": "step"}}

if __name__ == "__main__":
    L.seed_everything(42)
    with tempfile.TemporaryDirectory() as tmp:
        cb = ModelCheckpoint(tmp, monitor="val/miou", mode="max")
        trainer = L.Trainer(max_epochs=7, accelerator="cpu", devices=1, logger=False, gradient_clip_val=1.0,
                            enable_progress_bar=False, enable_model_summary=False,
                            callbacks=[cb, EarlyStopping("val/miou", mode="max", patience=4)], default_root_dir=tmp)
        trainer.fit(LitSeg(), datamodule=ShapesDM())
        print("best", cb.best_model_score)
