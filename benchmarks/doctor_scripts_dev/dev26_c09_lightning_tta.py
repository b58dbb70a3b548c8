"""Lightning: OneCycleLR, early stopping, the best checkpoint, and flips averaged at test time."""

import tempfile
import warnings

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, random_split

from toydata import Shapes

warnings.filterwarnings("ignore", ".*does not have many workers.*")


def normalize(image):
    return (image - 0.5) / 0.2


class ShapesData(L.LightningDataModule):
    def __init__(self, batch_size=64, seed=1):
        super().__init__()
        self.batch_size, self.seed = batch_size, seed

    def setup(self, stage=None):
        full = Shapes(train=True, count=2200, transform=normalize)
        generator = torch.Generator().manual_seed(self.seed)
        self.train_set, self.val_set = random_split(full, [1900, 300], generator=generator)
        self.test_set = Shapes(train=False, count=300, transform=normalize)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=150)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=150)


class LitShapes(L.LightningModule):
    def __init__(self, lr=4e-3, width=24, classes=6):
        super().__init__()
        self.save_hyperparameters()
        self.model = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.GELU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.GELU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.GELU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(2 * width * 16, classes),
        )
        self.right = self.seen = 0

    def forward(self, x):
        return self.model(x)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        x, y = batch
        if self.trainer.training:
            for axis in (-1, -2):
                chosen = (torch.rand(len(x), device=x.device) < 0.5)[:, None, None, None]
                x = torch.where(chosen, x.flip(axis), x)
        return x, y

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(x))
        return loss

    def on_validation_epoch_start(self):
        self.right = self.seen = 0

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        right = (logits.argmax(dim=1) == y).sum().item()
        self.right += right
        self.seen += len(y)
        self.log("val_loss", F.cross_entropy(logits, y), batch_size=len(y))
        self.log("val_acc", right / len(y), batch_size=len(y))

    def on_validation_epoch_end(self):
        print(f"epoch {self.current_epoch}: validation accuracy {self.right / self.seen:.4f}", flush=True)

    def on_test_epoch_start(self):
        self.right = self.seen = 0

    def test_step(self, batch, batch_idx):
        x, y = batch
        views = [x, x.flip(-1), x.flip(-2), x.flip(-1, -2)]
        probabilities = torch.stack([self(view).softmax(dim=1) for view in views]).mean(dim=0)
        self.right += (probabilities.argmax(dim=1) == y).sum().item()
        self.seen += len(y)

    def on_test_epoch_end(self):
        print(f"test accuracy over four flips: {self.right / self.seen:.4f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(17)
    data, model = ShapesData(), LitShapes()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_acc", mode="max")
        stopping = EarlyStopping(monitor="val_loss", mode="min", patience=10)
        trainer = L.Trainer(
            max_epochs=20,
            accelerator="cpu",
            devices=1,
            callbacks=[checkpoint, stopping],
            gradient_clip_val=1.0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=folder,
        )
        trainer.fit(model, datamodule=data)
        best = torch.load(checkpoint.best_model_path, map_location="cpu", weights_only=False)
        model.load_state_dict(best["state_dict"])
        print(f"best validation accuracy {float(checkpoint.best_model_score):.4f}")
        trainer.test(model, datamodule=data, verbose=False)


if __name__ == "__main__":
    main()
