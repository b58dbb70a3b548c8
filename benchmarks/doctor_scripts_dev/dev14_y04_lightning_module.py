"""Classify short sensor signals with a LightningModule and a LightningDataModule."""
import logging
import warnings

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from toydata import waves

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class SignalDataModule(L.LightningDataModule):
    def __init__(self, n_signals=700, batch_size=32, noise=0.5):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        signals, labels = waves(self.hparams.n_signals, seed=4)
        signals = signals + self.hparams.noise * torch.randn(signals.shape, generator=torch.Generator().manual_seed(5))
        full = TensorDataset(signals, labels)
        n_val = len(full) // 5
        self.train_set, self.val_set = random_split(
            full, [len(full) - n_val, n_val], generator=torch.Generator().manual_seed(7)
        )

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=128)


class ConvStage(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = nn.Conv1d(c_in, c_out, 7, padding=3)
        self.norm = nn.GroupNorm(4, c_out)

    def forward(self, x):
        return F.max_pool1d(F.relu(self.norm(self.conv(x))), 2)


class Encoder(nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.stages = nn.ModuleList([ConvStage(a, b) for a, b in zip(widths[:-1], widths[1:])])

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return x.flatten(1)


class SignalClassifier(L.LightningModule):
    def __init__(self, n_classes=4, width=16, lr=3e-3, weight_decay=1e-2):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = Encoder((1, width, width, width))
        self.head = nn.Sequential(nn.Linear(8 * width, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, n_classes))
        self._val_hits, self._val_seen = 0, 0

    def forward(self, x):
        return self.head(self.encoder(x))

    def predict_step(self, batch, batch_idx):
        x, _ = batch
        return self(x).softmax(dim=-1)

    def _shared_step(self, batch, stage):
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        self.log(f"{stage}_loss", loss, on_step=False, on_epoch=True)
        return loss, logits

    def training_step(self, batch, batch_idx):
        loss, _ = self._shared_step(batch, "train")
        return loss

    def on_validation_epoch_start(self):
        self._val_hits, self._val_seen = 0, 0

    def validation_step(self, batch, batch_idx):
        loss, logits = self._shared_step(batch, "val")
        self._val_hits += (logits.argmax(-1) == batch[1]).sum().item()
        self._val_seen += len(batch[1])
        return loss

    def on_validation_epoch_end(self):
        self.log("val_acc", self._val_hits / self._val_seen)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


class PrintMetrics(L.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        m = trainer.callback_metrics
        print(f"epoch {trainer.current_epoch}: train {m['train_loss']:.4f}  val {m['val_loss']:.4f}  acc {m['val_acc']:.4f}")


def main():
    L.seed_everything(11, verbose=False)
    dm = SignalDataModule()
    model = SignalClassifier()
    trainer = L.Trainer(
        max_epochs=12,
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
    result = trainer.validate(model, datamodule=dm, verbose=False)[0]
    print(f"final val_acc {result['val_acc']:.4f}")


if __name__ == "__main__":
    main()
