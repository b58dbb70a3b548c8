import logging
import warnings

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, random_split

from toydata import Digits

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", ".*does not have many workers.*")


def to_input(img):
    return img.float().div(127.5).sub(1.0)


class DigitsData(L.LightningDataModule):
    def __init__(self, batch_size=64, n_train=1600, n_val=400):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        hp = self.hparams
        self.full = Digits(train=True, count=hp.n_train + hp.n_val, noise=0.35, transform=to_input)
        self.train_set, self.val_set = random_split(
            self.full, [hp.n_train, hp.n_val], generator=torch.Generator().manual_seed(42)
        )
        self.test_set = Digits(train=False, count=400, noise=0.35, transform=to_input)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=200)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=200)


class PreActBlock(nn.Module):
    def __init__(self, ch):
        super().__init__()
        self.bn = nn.BatchNorm2d(ch)
        self.conv = nn.Conv2d(ch, ch, 3, padding=1, bias=False)

    def forward(self, x):
        return x + self.conv(F.relu(self.bn(x)))


class LitDigits(L.LightningModule):
    def __init__(self, ch=24, depth=3, max_lr=0.03, n_classes=10):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(nn.Conv2d(1, ch, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(ch, ch, 3, padding=1))
        self.blocks = nn.ModuleList([PreActBlock(ch) for _ in range(depth)])
        self.pool = nn.AdaptiveMaxPool2d(2)
        self.head = nn.Linear(ch * 4, n_classes)

    def forward(self, x):
        x = self.encoder(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.pool(F.relu(x)).flatten(1))

    def _shared_step(self, batch, stage):
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        acc = (logits.argmax(dim=1) == y).float().mean()
        self.log_dict({f"{stage}_loss": loss, f"{stage}_acc": acc}, on_step=False, on_epoch=True, batch_size=len(y))
        return loss

    def training_step(self, batch, batch_idx):
        return self._shared_step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self._shared_step(batch, "val")

    def test_step(self, batch, batch_idx):
        self._shared_step(batch, "test")

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.max_lr, momentum=0.9, nesterov=True)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.max_lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class PrintMetrics(L.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        m = trainer.callback_metrics
        print(f"epoch {trainer.current_epoch}: " + ", ".join(f"{k} {v.item():.4f}" for k, v in sorted(m.items())))


def main():
    L.seed_everything(11, verbose=False)
    dm = DigitsData()
    model = LitDigits()
    trainer = L.Trainer(
        max_epochs=6,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[PrintMetrics()],
    )
    trainer.fit(model, datamodule=dm)
    val_acc = trainer.callback_metrics["val_acc"].item()
    result = trainer.test(model, datamodule=dm, verbose=False)[0]
    print(f"val_acc {val_acc:.4f}  test_acc {result['test_acc']:.4f}")


if __name__ == "__main__":
    main()
