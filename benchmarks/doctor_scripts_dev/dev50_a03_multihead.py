"""Two heads on one encoder, with Lightning: the color of a shape and its kind."""

import tempfile

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

COLORS = ["red", "blue"]
KINDS = ["square", "disc", "cross"]
MIN_SIDE, MAX_SIDE = 13, 16


def random_resized_crop(image):
    size = image.shape[-1]
    side = int(torch.randint(MIN_SIDE, MAX_SIDE + 1, (1,)))
    top, left = torch.randint(0, size - side + 1, (2,)).tolist()
    crop = image[:, top : top + side, left : left + side]
    return F.interpolate(crop[None], size=(size, size), mode="bilinear", align_corners=False)[0]


class ShapeAttributes(Dataset):
    def __init__(self, base, kinds, augment=False):
        self.base, self.augment = base, augment
        self.colors = [COLORS.index(name.split()[0]) for name in base.names]
        self.kinds = [kinds.index(name.split()[1]) for name in base.names]

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image = self.base.images[index]
        if self.augment:
            image = random_resized_crop(image)
            if torch.rand(()) < 0.5:
                image = image.flip(-1)
        return (image - 0.5) / 0.25, self.colors[index], self.kinds[index]


class ShapeData(L.LightningDataModule):
    def __init__(self, batch_size=64):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        self.train_set = ShapeAttributes(Shapes(train=True, count=1200), KINDS, augment=True)
        self.val_set = ShapeAttributes(Shapes(train=False), KINDS)

    def train_dataloader(self):
        return DataLoader(self.train_set, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, 80)


def block(cin, cout, stride):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(cout),
        nn.ReLU(),
    )


class MultiHead(L.LightningModule):
    def __init__(self, lr=4e-3, kind_weight=1.0):
        super().__init__()
        self.save_hyperparameters()
        widths = [(3, 32, 1), (32, 48, 2), (48, 64, 2), (64, 64, 1)]
        self.blocks = nn.ModuleList([block(*w) for w in widths])
        self.color_head = nn.Linear(64, len(COLORS))
        self.kind_head = nn.Linear(64, len(KINDS))

    def forward(self, x):
        for layer in self.blocks:
            x = layer(x)
        x = x.mean(dim=(2, 3))
        return self.color_head(x), self.kind_head(x)

    def shared_loss(self, batch):
        x, color, kind = batch
        color_logits, kind_logits = self(x)
        color_loss = F.cross_entropy(color_logits, color)
        kind_loss = F.cross_entropy(kind_logits, kind)
        return color_loss + self.hparams.kind_weight * kind_loss, color_logits, kind_logits

    def training_step(self, batch, batch_idx):
        loss, _, _ = self.shared_loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        loss, color_logits, kind_logits = self.shared_loss(batch)
        _, color, kind = batch
        color_right = color_logits.argmax(1) == color
        kind_right = kind_logits.argmax(1) == kind
        scores = {
            "val_loss": loss,
            "val_color": color_right.float().mean(),
            "val_kind": kind_right.float().mean(),
            "val_both": (color_right & kind_right).float().mean(),
        }
        self.log_dict(scores, batch_size=len(color))

    def on_validation_epoch_end(self):
        metrics = self.trainer.callback_metrics
        if "val_both" in metrics and not self.trainer.sanity_checking:
            print(f"epoch {self.current_epoch}: val_loss {metrics['val_loss']:.3f}, both {metrics['val_both']:.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-2)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.hparams.lr, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(7)
    data = ShapeData()
    model = MultiHead()
    trainer = L.Trainer(
        max_epochs=12,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tempfile.mkdtemp(),
    )
    trainer.fit(model, datamodule=data)
    print(trainer.validate(model, datamodule=data, verbose=False))


if __name__ == "__main__":
    main()
