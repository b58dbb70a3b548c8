# Multi-label classification with Lightning: which of six kinds of shapes are in the picture?
import warnings

import lightning as L
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

from toydata import COLORS, NAMES, shape_mask

warnings.filterwarnings("ignore")
torch.set_num_threads(1)

SIZE, CELL = 24, 12


class Scenes(Dataset):
    """Pictures of one to three shapes, each in a quarter of its own, annotated with lists of names."""

    def __init__(self, count, seed, augment=False):
        generator = torch.Generator().manual_seed(seed)
        self.augment = augment
        self.images, self.annotations = [], []
        for _ in range(count):
            number = int(torch.randint(1, 4, (1,), generator=generator))
            names = [NAMES[i] for i in torch.randperm(len(NAMES), generator=generator)[:number].tolist()]
            cells = torch.randperm(4, generator=generator)[:number].tolist()
            image = torch.full((3, SIZE, SIZE), 0.5)
            for name, cell in zip(names, cells):
                color, kind = name.split()
                width = int(torch.randint(7, 11, (1,), generator=generator))
                top, left = torch.randint(0, CELL - width + 1, (2,), generator=generator).tolist()
                mask = shape_mask(kind, SIZE, CELL * (cell // 2) + top, CELL * (cell % 2) + left, width)
                image[:, mask] = torch.tensor(COLORS[color])[:, None]
            image = image + 0.06 * torch.randn(image.shape, generator=generator)
            self.images.append(image.clamp(0, 1))
            self.annotations.append(names)
        self.classes = sorted({name for names in self.annotations for name in names})

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        if self.augment:
            if torch.rand(()) < 0.5:
                image = image.flip(-1)
            if torch.rand(()) < 0.5:
                image = image.flip(-2)
        target = torch.zeros(len(self.classes))
        for name in self.annotations[index]:
            target[self.classes.index(name)] = 1.0
        return (image - 0.5) / 0.2, target


class ScenesData(L.LightningDataModule):
    def __init__(self, batch_size=60):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        self.train_set = Scenes(1500, seed=100, augment=True)
        self.valid_set = Scenes(400, seed=200)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.valid_set, batch_size=100)


def conv_block(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


class MultiLabelNet(L.LightningModule):
    def __init__(self, classes=6, lr=4e-3):
        super().__init__()
        self.save_hyperparameters()
        self.backbone = nn.Sequential(conv_block(3, 16), conv_block(16, 32), conv_block(32, 64))
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.head = nn.Linear(64, classes)
        self.loss = nn.BCEWithLogitsLoss()
        self.predicted, self.wanted = [], []

    def forward(self, images):
        features = self.pool(self.backbone(images)).flatten(1)
        return self.head(features)

    def training_step(self, batch, batch_idx):
        images, targets = batch
        loss = self.loss(self(images), targets)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        images, targets = batch
        logits = self(images)
        self.log("val_loss", self.loss(logits, targets))
        probabilities = logits.sigmoid()
        self.predicted.append(probabilities >= 0.5)
        self.wanted.append(targets.bool())

    def on_validation_epoch_end(self):
        predicted, wanted = torch.cat(self.predicted), torch.cat(self.wanted)
        hits = (predicted & wanted).sum(0).float()
        f1 = 2 * hits / (predicted.sum(0) + wanted.sum(0)).clamp(min=1)
        exact = (predicted == wanted).all(1).float().mean()
        self.log("val_f1", f1.mean())
        print(f"epoch {self.current_epoch:2d}  macro F1 {f1.mean():.3f}  all six right {exact:.3f}")
        self.predicted.clear()
        self.wanted.clear()

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


if __name__ == "__main__":
    L.seed_everything(7)
    trainer = L.Trainer(
        max_epochs=24,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(MultiLabelNet(), datamodule=ScenesData())
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})
