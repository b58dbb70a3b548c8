"""LightningModule and DataModule with squeeze-and-excitation blocks."""
import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, random_split

from toydata import Shapes


class ShapesDataModule(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size

    @staticmethod
    def preprocess(image):
        return (image - 0.48) / 0.18

    def setup(self, stage=None):
        full = Shapes(True, count=1200, transform=self.preprocess)
        generator = torch.Generator().manual_seed(42)
        self.train_set, self.val_set = random_split(full, [960, 240], generator=generator)
        self.test_set = Shapes(False, transform=self.preprocess)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=120)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=120)


class SqueezeExcite(nn.Module):
    def __init__(self, channels, reduction=4):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)

    def forward(self, x):
        s = x.mean((2, 3))
        s = torch.sigmoid(self.fc2(F.relu(self.fc1(s))))
        return x * s[:, :, None, None]


class SEBlock(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(),
            nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o), SqueezeExcite(o))
        self.skip = nn.Identity() if i == o and stride == 1 else nn.Conv2d(i, o, 1, stride, bias=False)

    def forward(self, x):
        return F.relu(self.main(x) + self.skip(x))


class LitSENet(L.LightningModule):
    def __init__(self, lr=3e-3, num_classes=6, epochs=20):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            SEBlock(16, 16, 1), SEBlock(16, 32, 2), SEBlock(32, 48, 2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, num_classes))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def _shared_eval(self, batch, prefix):
        x, y = batch
        logits = self(x)
        self.log(f"{prefix}_loss", F.cross_entropy(logits, y))
        self.log(f"{prefix}_acc", (logits.argmax(-1) == y).float().mean())

    def validation_step(self, batch, batch_idx):
        self._shared_eval(batch, "val")

    def test_step(self, batch, batch_idx):
        self._shared_eval(batch, "test")

    def on_validation_epoch_end(self):
        metrics = self.trainer.callback_metrics
        if "val_acc" in metrics:
            print(f"epoch {self.current_epoch} val_loss {metrics['val_loss']:.4f} val_acc {metrics['val_acc']:.4f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-3)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.hparams.epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def cli_main():
    L.seed_everything(1234)
    data = ShapesDataModule()
    model = LitSENet()
    trainer = L.Trainer(max_epochs=model.hparams.epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0)
    trainer.fit(model, data)
    print(trainer.test(model, data, verbose=False))


if __name__ == "__main__":
    cli_main()
