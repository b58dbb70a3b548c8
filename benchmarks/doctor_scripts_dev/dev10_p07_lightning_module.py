"""LightningModule, DataModule and Trainer for colored shapes."""

import logging
import tempfile
import warnings

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch.utils.data import DataLoader, Dataset, Subset

from toydata import Shapes

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Transformed(Dataset):
    def __init__(self, base, augment):
        self.base, self.augment = base, augment

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image, target = self.base[index]
        image = (image - 0.49) / 0.17
        if self.augment:
            image = image.flip(2) if torch.rand(()) < 0.5 else image
            image = image.roll(tuple(torch.randint(-1, 2, (2,)).tolist()), (1, 2))
            image = image + 0.2 * torch.randn_like(image)
        return image, target


class ShapesDataModule(L.LightningDataModule):
    def __init__(self, batch_size=32, seed=7):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        full = Shapes(train=True, count=1100, size=24)
        generator = torch.Generator().manual_seed(self.hparams.seed)
        order = torch.randperm(len(full), generator=generator).tolist()
        train, val, test = order[:500], order[500:800], order[800:1100]
        self.train_set = Transformed(Subset(full, train), augment=True)
        self.val_set = Transformed(Subset(full, val), augment=False)
        self.test_set = Transformed(Subset(full, test), augment=False)

    def train_dataloader(self):
        return DataLoader(self.train_set, self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, 100)

    def test_dataloader(self):
        return DataLoader(self.test_set, 100)


class Stage(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(depth)])
        self.norms = nn.ModuleList([nn.GroupNorm(4, width) for _ in range(depth)])

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms):
            x = x + F.silu(norm(conv(x)))
        return x


class LitShapes(L.LightningModule):
    def __init__(self, width=24, lr=6e-3, weight_decay=1e-2, num_classes=6):
        super().__init__()
        self.save_hyperparameters()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.stage1 = Stage(width, 2)
        self.pool = nn.MaxPool2d(2)
        self.stage2 = Stage(width, 1)
        self.head = nn.Linear(width, num_classes)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

    def forward(self, x):
        x = self.stage1(self.stem(x))
        x = self.stage2(self.pool(x))
        return self.head(x.amax((2, 3)))

    def shared_step(self, batch, stage):
        x, y = batch
        logits = self(x)
        loss = self.criterion(logits, y)
        acc = (logits.argmax(1) == y).float().mean()
        self.log(f"{stage}_loss", loss, on_epoch=True, on_step=False, batch_size=len(x))
        self.log(f"{stage}_acc", acc, on_epoch=True, on_step=False, batch_size=len(x))
        return loss

    def training_step(self, batch, batch_idx):
        return self.shared_step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.shared_step(batch, "val")

    def test_step(self, batch, batch_idx):
        self.shared_step(batch, "test")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class PrintMetrics(Callback):
    def on_validation_epoch_end(self, trainer, module):
        if not trainer.sanity_checking:
            metrics = {key: round(float(value), 4) for key, value in trainer.callback_metrics.items()}
            print(f"epoch {trainer.current_epoch}: {metrics}")


def main():
    L.seed_everything(11, verbose=False)
    data = ShapesDataModule(batch_size=32)
    model = LitShapes()
    checkpoint = ModelCheckpoint(dirpath=tempfile.mkdtemp(), monitor="val_acc", mode="max", save_top_k=1)
    trainer = L.Trainer(
        max_epochs=9,
        accelerator="cpu",
        devices=1,
        callbacks=[checkpoint, PrintMetrics()],
        logger=False,
        gradient_clip_val=1.0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    print("best", checkpoint.best_model_path.rsplit("/", 1)[-1], float(checkpoint.best_model_score))
    results = trainer.test(model, datamodule=data, ckpt_path="best", verbose=False)
    print("test", results)


if __name__ == "__main__":
    main()
