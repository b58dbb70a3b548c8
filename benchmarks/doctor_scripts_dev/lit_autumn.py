import lightning as L
import torch
from toydata import waves
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class WaveDataModule(L.LightningDataModule):
    def setup(self, stage=None):
        signals, labels = waves(900, seed=3)
        full = TensorDataset(signals, labels)
        self.train_set, self.val_set = random_split(full, [700, 200], generator=torch.Generator().manual_seed(0))

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=35, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=50)


class WaveClassifier(L.LightningModule):
    def __init__(self, lr=2e-3):
        super().__init__()
        self.save_hyperparameters()
        self.backbone = nn.Sequential(nn.Conv1d(1, 16, 7, 2, 3), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 32, 5, 2, 2),
                                      nn.BatchNorm1d(32), nn.ReLU(), nn.AdaptiveAvgPool1d(4), nn.Flatten())  # fmt: skip
        self.head = nn.Linear(128, 4)
        self.loss_fn = nn.CrossEntropyLoss()

    def forward(self, x):
        return self.head(self.backbone(x))

    def _shared_step(self, batch, stage):
        x, y = batch
        logits = self(x)
        loss = self.loss_fn(logits, y)
        acc = (logits.argmax(dim=-1) == y).float().mean()
        self.log_dict({f"{stage}_loss": loss, f"{stage}_acc": acc})
        return loss

    def training_step(self, batch, batch_idx):
        return self._shared_step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self._shared_step(batch, "val")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


if __name__ == "__main__":
    L.seed_everything(0)
    trainer = L.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0)  # fmt: skip
    trainer.fit(WaveClassifier(), datamodule=WaveDataModule())
