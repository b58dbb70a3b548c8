"""Pulsar candidates with Lightning: folded profiles, one in ten is a pulsar, average precision."""
import warnings

import lightning as L
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
BINS = 64


def profiles(count, seed):
    g = torch.Generator().manual_seed(seed)
    phase = torch.arange(BINS) / BINS

    def rand(low, high):
        return low + (high - low) * torch.rand(count, 1, generator=g)

    def peak(center, width):
        distance = (phase - center + 0.5).remainder(1.0) - 0.5
        return torch.exp(-0.5 * (distance / width) ** 2)

    is_pulsar = torch.rand(count, generator=g) < 0.1
    center = rand(0, 1)
    pulse = rand(1.8, 4) * peak(center, rand(0.02, 0.05))
    pulse = pulse + (rand(0, 1) < 0.3) * rand(0.5, 1.5) * peak(center + 0.5, rand(0.02, 0.05))
    hum = rand(0.5, 2.5) * torch.sin(6.2832 * (rand(1, 4).round() * phase + rand(0, 1)))
    burst = rand(1, 4) * peak(rand(0, 1), rand(0.1, 0.2))
    interference = torch.where(rand(0, 1) < 0.5, hum, burst)
    x = torch.where(is_pulsar[:, None], pulse, interference) + 0.6 * torch.randn(count, BINS, generator=g)
    x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
    return TensorDataset(x.unsqueeze(1), is_pulsar.float())


class PulsarModule(L.LightningModule):
    def __init__(self, lr=1e-3, pos_weight=3.0):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv1d(1, 16, 5, padding=2, padding_mode="circular"), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(16, 32, 5, padding=2, padding_mode="circular"), nn.BatchNorm1d(32), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(32, 32, 3, padding=1, padding_mode="circular"), nn.ReLU(),
            nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(32, 1),
        )
        self.criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(pos_weight))
        self.collected = []

    def forward(self, x):
        return self.net(x).squeeze(-1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = self.criterion(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log("val_loss", self.criterion(logits, y), batch_size=len(y))
        self.collected.append((logits, y))

    def on_validation_epoch_end(self):
        logits, y = (torch.cat(parts).cpu().numpy() for parts in zip(*self.collected))
        self.collected.clear()
        ap, auc = average_precision_score(y, logits), roc_auc_score(y, logits)
        self.log("val_ap", float(ap))
        print(f"epoch {self.current_epoch}: average precision {ap:.4f}, ROC AUC {auc:.4f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    L.seed_everything(9)
    train_loader = DataLoader(profiles(5000, seed=1), batch_size=64, shuffle=True)
    val_loader = DataLoader(profiles(2000, seed=2), batch_size=250)
    trainer = L.Trainer(
        max_epochs=10, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )
    trainer.fit(PulsarModule(lr=2e-3), train_loader, val_loader)


if __name__ == "__main__":
    main()
