"""Several attributes of one picture (red, square, disc, cross, large), as a LightningModule."""

import tempfile

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from toydata import Shapes

ATTRIBUTES = ["red", "square", "disc", "cross", "large"]


class AttributeData(Dataset):
    """Pictures as height x width x color arrays of bytes, as image libraries read them."""

    def __init__(self, train):
        shapes = Shapes(train=train)
        self.arrays = [
            np.ascontiguousarray((image.permute(1, 2, 0) * 255).byte().numpy()) for image in shapes.images
        ]
        self.targets = torch.zeros(len(shapes), len(ATTRIBUTES))
        for i, (name, box) in enumerate(zip(shapes.names, shapes.boxes)):
            for j, attribute in enumerate(ATTRIBUTES[:4]):
                self.targets[i, j] = float(attribute in name.split())
            self.targets[i, 4] = float(box[2] - box[0] > 0.45)

    def __len__(self):
        return len(self.arrays)

    def __getitem__(self, index):
        image = torch.from_numpy(self.arrays[index]).permute(2, 0, 1)
        image = (image.float() / 255 - 0.5) / 0.2
        return image, self.targets[index]


class AttributeTagger(L.LightningModule):
    def __init__(self, num_attributes=5, width=16, lr=5e-3, weight_decay=1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * width * 16, 64),
            nn.ReLU(),
            nn.Linear(64, num_attributes),
        )

    def forward(self, images):
        return self.head(self.backbone(images))

    def training_step(self, batch, batch_idx):
        images, targets = batch
        logits = self(images)
        loss = F.binary_cross_entropy_with_logits(logits, targets)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def reset_counts(self):
        self.hits = torch.zeros(self.hparams.num_attributes)
        self.predicted = torch.zeros(self.hparams.num_attributes)
        self.actual = torch.zeros(self.hparams.num_attributes)

    def count(self, logits, targets):
        positive = torch.sigmoid(logits) > 0.5
        self.hits += (positive & (targets == 1)).sum(0)
        self.predicted += positive.sum(0)
        self.actual += targets.sum(0)

    def macro_f1(self):
        return (2 * self.hits / (self.predicted + self.actual).clamp(min=1)).mean()

    def on_validation_epoch_start(self):
        self.reset_counts()

    def validation_step(self, batch, batch_idx):
        images, targets = batch
        logits = self(images)
        self.log("val_loss", F.binary_cross_entropy_with_logits(logits, targets), batch_size=len(images))
        self.count(logits, targets)

    def on_validation_epoch_end(self):
        f1 = self.macro_f1()
        self.log("val_f1", f1)
        print(f"epoch {self.current_epoch}: validation F1 {f1:.3f}")

    def on_test_epoch_start(self):
        self.reset_counts()

    def test_step(self, batch, batch_idx):
        images, targets = batch
        self.count(self(images), targets)

    def on_test_epoch_end(self):
        self.log("test_f1", self.macro_f1())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.hparams.lr,
            total_steps=self.trainer.estimated_stepping_batches,
            div_factor=100,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(3)
    data, test_data = AttributeData(train=True), AttributeData(train=False)
    order = np.random.default_rng(3).permutation(len(data))
    train_set, val_set = Subset(data, order[150:].tolist()), Subset(data, order[:150].tolist())
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=50)
    test_loader = DataLoader(test_data, batch_size=60)

    folder = tempfile.mkdtemp()
    checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_f1", mode="max", save_top_k=1)
    trainer = L.Trainer(
        max_epochs=12,
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=[checkpoint],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )
    model = AttributeTagger(num_attributes=len(ATTRIBUTES))
    trainer.fit(model, train_loader, val_loader)

    best = torch.load(checkpoint.best_model_path, map_location="cpu", weights_only=False)
    model.load_state_dict(best["state_dict"])
    trainer.test(model, test_loader)


if __name__ == "__main__":
    main()
