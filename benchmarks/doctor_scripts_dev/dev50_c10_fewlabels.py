import copy

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

import toydata

UNLABELED = -100


class PartlyLabeledWaves(Dataset):
    """Two views of each signal; most labels are withheld."""

    def __init__(self, count=600, labeled=150):
        self.signals, labels = toydata.waves(count, seed=0)
        self.labels = labels.clone()
        self.labels[labeled:] = UNLABELED

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        signal = self.signals[i]
        weak = signal + 0.05 * torch.randn_like(signal)
        strong = signal * (0.7 + 0.6 * torch.rand(())) + 0.25 * torch.randn_like(signal)
        return weak, strong, self.labels[i]


class WaveData(L.LightningDataModule):
    def setup(self, stage=None):
        self.train_set = PartlyLabeledWaves()
        self.val_set = TensorDataset(*toydata.waves(300, seed=1))

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=60, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)


def make_network():
    def stage(c_in, c_out):
        return [nn.Conv1d(c_in, c_out, 7, padding=3), nn.GroupNorm(4, c_out), nn.ReLU()]

    return nn.Sequential(
        *stage(1, 16),
        nn.MaxPool1d(2),
        *stage(16, 32),
        nn.MaxPool1d(2),
        *stage(32, 32),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(32, 4),
    )


class MeanTeacher(L.LightningModule):
    def __init__(self, lr=4e-3, decay=0.95, confidence=0.9, ramp_epochs=8):
        super().__init__()
        self.save_hyperparameters()
        self.student = make_network()
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def forward(self, x):
        return self.teacher(x)

    def training_step(self, batch, batch_idx):
        weak, strong, labels = batch
        with torch.no_grad():
            sureness, pseudo = self.teacher(weak).softmax(dim=1).max(dim=1)
        weak_logits, strong_logits = self.student(torch.cat([weak, strong])).chunk(2)
        known = (labels != UNLABELED).sum().clamp(min=1)
        supervised = F.cross_entropy(weak_logits, labels, ignore_index=UNLABELED, reduction="sum") / known
        each = F.cross_entropy(strong_logits, pseudo, reduction="none")
        consistency = (each * (sureness > self.hparams.confidence)).mean()
        weight = min(1.0, self.current_epoch / self.hparams.ramp_epochs)
        self.log("supervised", supervised, on_step=False, on_epoch=True)
        return supervised + weight * consistency

    @torch.no_grad()
    def on_train_batch_end(self, outputs, batch, batch_idx):
        decay = min(self.hparams.decay, (1 + self.global_step) / (10 + self.global_step))
        for slow, fast in zip(self.teacher.parameters(), self.student.parameters()):
            slow.lerp_(fast, 1 - decay)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log("val_loss", F.cross_entropy(logits, y), batch_size=len(y))
        self.log("val_acc", (logits.argmax(dim=1) == y).float().mean(), batch_size=len(y))

    def on_train_epoch_end(self):
        metrics = self.trainer.callback_metrics
        if self.current_epoch % 7 == 6:
            print(f"epoch {self.current_epoch}: val_acc {float(metrics['val_acc']):.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.student.parameters(), lr=self.hparams.lr, weight_decay=1e-3)
        total = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.hparams.lr, total_steps=total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(8)
    torch.set_num_threads(1)
    trainer = L.Trainer(
        max_epochs=28,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(MeanTeacher(), datamodule=WaveData())
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
