"""Four kinds of waves, told apart by a 1-D CNN in Lightning, trained on blends of two signals (mixup)."""
import logging

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

from toydata import waves

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


class WaveDataModule(L.LightningDataModule):
    def __init__(self, count: int = 750, batch_size: int = 32, seed: int = 5):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        signals, labels = waves(count=self.hparams.count)
        held_out = self.hparams.count // 5
        self.train_set, self.val_set = random_split(
            TensorDataset(signals, labels),
            [self.hparams.count - held_out, held_out],
            generator=torch.Generator().manual_seed(self.hparams.seed),
        )

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=50)


def conv_block(c_in, c_out, kernel):
    return nn.Sequential(
        nn.Conv1d(c_in, c_out, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm1d(c_out),
        nn.ReLU(),
        nn.MaxPool1d(2),
    )


class WaveClassifier(L.LightningModule):
    def __init__(self, lr: float = 5e-3, alpha: float = 0.3, dropout: float = 0.1, num_classes: int = 4):
        super().__init__()
        self.save_hyperparameters()
        self.features = nn.Sequential(conv_block(1, 16, 7), conv_block(16, 32, 5), conv_block(32, 48, 5))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(48, num_classes)

    def forward(self, x):
        return self.classifier(self.dropout(self.features(x).mean(dim=2)))

    def training_step(self, batch, batch_idx):
        x, y = batch
        lam = torch.distributions.Beta(self.hparams.alpha, self.hparams.alpha).sample()
        perm = torch.randperm(len(x), device=x.device)
        logits = self(lam * x + (1 - lam) * x[perm])
        loss = lam * F.cross_entropy(logits, y) + (1 - lam) * F.cross_entropy(logits, y[perm])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log("val_loss", F.cross_entropy(logits, y), batch_size=len(y))
        self.log("val_acc", (logits.argmax(dim=1) == y).float().mean(), batch_size=len(y))

    def on_train_epoch_end(self):
        metrics = self.trainer.callback_metrics
        print(f"epoch {self.current_epoch}: val_loss {metrics['val_loss']:.3f}, val_acc {metrics['val_acc']:.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def cli_main():
    L.seed_everything(7)
    datamodule = WaveDataModule()
    model = WaveClassifier()
    trainer = L.Trainer(
        max_epochs=14,
        accelerator="cpu",
        devices=1,
        gradient_clip_val=2.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=datamodule)
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    cli_main()
