"""Which digits are on the plate?  Multi-label classification with Lightning."""

import tempfile

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.metrics import average_precision_score
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

from toydata import draw_digits

NUM_CLASSES = 10


def make_plates(count, seed):
    glyphs, digits = draw_digits(2 * count, seed=seed)
    images = torch.cat([glyphs[:count], glyphs[count:]], dim=3).float().div(255)
    left, right = F.one_hot(digits[:count], NUM_CLASSES), F.one_hot(digits[count:], NUM_CLASSES)
    return images, (left | right).float()


class PlateDataModule(L.LightningDataModule):
    def __init__(self, count=1600, batch_size=40, seed=7):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        images, labels = make_plates(self.hparams.count, self.hparams.seed)
        images = (images - 0.17) / 0.30
        generator = torch.Generator().manual_seed(self.hparams.seed)
        self.train_set, self.val_set, self.test_set = random_split(
            TensorDataset(images, labels), [0.75, 0.125, 0.125], generator=generator
        )

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=100)


class PlateTagger(L.LightningModule):
    def __init__(self, width=24, lr=3e-3, weight_decay=1e-4, max_epochs=10):
        super().__init__()
        self.save_hyperparameters()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            nn.BatchNorm2d(4 * width),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(4 * width, NUM_CLASSES)
        self.loss_fn = nn.BCEWithLogitsLoss()
        self.outputs = []

    def forward(self, x):
        h = self.features(x)
        return self.head(h)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = self.loss_fn(self(x), y)
        self.log("train_loss", loss)
        return loss

    def _collect(self, batch, stage):
        x, y = batch
        logits = self(x)
        self.log(f"{stage}_loss", self.loss_fn(logits, y), batch_size=len(x))
        self.outputs.append((logits, y))

    def _summarize(self, stage):
        logits = torch.cat([o[0] for o in self.outputs])
        targets = torch.cat([o[1] for o in self.outputs]).bool()
        self.outputs.clear()
        preds = torch.sigmoid(logits) > 0.5
        tp = (preds & targets).sum()
        f1 = 2 * tp / (preds.sum() + targets.sum()).clamp(min=1)
        exact = (preds == targets).all(dim=1).float().mean()
        ap = average_precision_score(targets.int().numpy(), logits.float().numpy(), average="macro")
        self.log_dict({f"{stage}_f1": f1.float(), f"{stage}_exact": exact, f"{stage}_map": float(ap)})
        print(f"[{stage}] epoch {self.current_epoch}: f1 {f1:.3f} exact {exact:.3f} mAP {ap:.3f}")

    def validation_step(self, batch, batch_idx):
        self._collect(batch, "val")

    def on_validation_epoch_end(self):
        self._summarize("val")

    def test_step(self, batch, batch_idx):
        self._collect(batch, "test")

    def on_test_epoch_end(self):
        self._summarize("test")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.hparams.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def cli_main():
    L.seed_everything(42)
    datamodule = PlateDataModule()
    tagger = PlateTagger()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_f1", mode="max")
        trainer = L.Trainer(
            max_epochs=tagger.hparams.max_epochs,
            accelerator="cpu",
            devices=1,
            logger=False,
            callbacks=[checkpoint],
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(tagger, datamodule=datamodule)
        trainer.test(tagger, datamodule=datamodule, ckpt_path="best")


if __name__ == "__main__":
    cli_main()
