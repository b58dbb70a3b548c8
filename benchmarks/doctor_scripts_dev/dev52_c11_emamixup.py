import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves


class WaveData(L.LightningDataModule):
    def __init__(self, batch_size: int = 32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        x_train, y_train = waves(count=960, seed=0)
        x_val, y_val = waves(count=320, seed=1)
        self.mean, self.std = x_train.mean(), x_train.std()
        self.train_set = TensorDataset((x_train - self.mean) / self.std, y_train)
        self.val_set = TensorDataset((x_val - self.mean) / self.std, y_val)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=80)


class ResidualBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv1d(width, width, 5, padding=2)
        self.norm1 = nn.GroupNorm(4, width)
        self.conv2 = nn.Conv1d(width, width, 5, padding=2)
        self.norm2 = nn.GroupNorm(4, width)

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(y)))


def wave_net(width: int = 24, n_classes: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(1, width, 7, stride=2, padding=3),
        nn.ReLU(),
        ResidualBlock(width),
        nn.MaxPool1d(2),
        ResidualBlock(width),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(width, n_classes),
    )


class WaveClassifier(L.LightningModule):
    """Mixup in training; an exponential average of the weights is what is validated."""

    def __init__(self, lr: float = 3e-3, alpha: float = 0.2, decay: float = 0.97):
        super().__init__()
        self.save_hyperparameters()
        self.net = wave_net()
        self.ema = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.ema.requires_grad_(False)
        self.mixing = torch.distributions.Beta(alpha, alpha)
        self.correct, self.total = 0, 0

    def forward(self, x):
        return self.ema(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        lam = self.mixing.sample()
        partner = torch.randperm(len(x), device=x.device)
        logits = self.net(lam * x + (1 - lam) * x[partner])
        loss = lam * F.cross_entropy(logits, y) + (1 - lam) * F.cross_entropy(logits, y[partner])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.ema.update_parameters(self.net)

    def on_validation_epoch_start(self):
        self.correct, self.total = 0, 0

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log("val_loss", F.cross_entropy(logits, y), batch_size=len(y))
        self.correct += (logits.argmax(dim=1) == y).sum()
        self.total += len(y)

    def on_validation_epoch_end(self):
        accuracy = self.correct / self.total
        self.log("val_acc", accuracy)
        print(f"epoch {self.current_epoch}: val_acc {float(accuracy):.4f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=self.hparams.lr, weight_decay=0.01)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(11)
    trainer = L.Trainer(
        max_epochs=14,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=5.0,
    )
    trainer.fit(WaveClassifier(), datamodule=WaveData())
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
