"""One box and the size of one shape an image, with Lightning."""

import random
import tempfile

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset

import toydata


def normalize(image):
    return (image - 0.5) / 0.2


def flip(image, box):
    left, top, right, bottom = box.unbind()
    return image.flip(-1), torch.stack([1 - right, top, 1 - left, bottom])


class BoxDataset(Dataset):
    def __init__(self, shapes, indices, transform=None, augment=False):
        self.shapes, self.indices = shapes, indices
        self.transform, self.augment = transform, augment

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, item):
        index = self.indices[item]
        image, box = self.shapes.images[index], self.shapes.boxes[index]
        tenths = 10 * (self.shapes.masks[index] > 0).float().mean()
        if self.augment and random.random() < 0.5:
            image, box = flip(image, box)
        if self.transform is not None:
            image = self.transform(image)
        return {"image": image, "box": box, "size": tenths}


class ShapesDataModule(L.LightningDataModule):
    def __init__(self, batch_size: int = 32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        known = toydata.Shapes(train=True, count=1000, size=20)
        unseen = toydata.Shapes(train=False, count=240, size=20)
        self.train_set = BoxDataset(known, range(800), normalize, augment=True)
        self.val_set = BoxDataset(known, range(800, 1000), normalize)
        self.test_set = BoxDataset(unseen, range(240), normalize)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=120)


def box_area(box):
    return (box[:, 2:] - box[:, :2]).clamp(min=0).prod(dim=1)


def box_iou(a, b):
    corner = torch.max(a[:, :2], b[:, :2])
    opposite = torch.min(a[:, 2:], b[:, 2:])
    overlap = box_area(torch.cat([corner, opposite], dim=1))
    return overlap / (box_area(a) + box_area(b) - overlap + 1e-6)


class Locator(L.LightningModule):
    def __init__(self, lr: float = 1e-3, weight_decay: float = 1e-4, width: int = 16):
        super().__init__()
        self.save_hyperparameters()
        layers, channels = [], 3
        for planes in (width, 2 * width, 4 * width):
            layers += [nn.Conv2d(channels, planes, 3, padding=1, bias=False), nn.BatchNorm2d(planes), nn.ReLU()]
            if planes < 4 * width:
                layers.append(nn.MaxPool2d(2))
            channels = planes
        self.backbone = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 5 * 5, 128), nn.ReLU())
        self.box_head = nn.Linear(128, 4)
        self.size_head = nn.Linear(128, 1)

    def forward(self, image):
        features = self.backbone(image)
        return self.box_head(features).sigmoid(), self.size_head(features).squeeze(1)

    def shared_step(self, batch, stage):
        box, size = self(batch["image"])
        iou = box_iou(box, batch["box"])
        corner_loss = F.smooth_l1_loss(box, batch["box"], beta=0.05)
        size_loss = F.mse_loss(size, batch["size"])
        loss = 5 * corner_loss + (1 - iou).mean() + size_loss
        count = len(batch["image"])
        self.log(f"{stage}_loss", loss, on_step=False, on_epoch=True, batch_size=count)
        self.log(f"{stage}_iou", iou.mean(), on_step=False, on_epoch=True, batch_size=count)
        error = (size - batch["size"]).abs().mean()
        self.log(f"{stage}_size_error", error, on_step=False, on_epoch=True, batch_size=count)
        return loss

    def training_step(self, batch, batch_idx):
        return self.shared_step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.shared_step(batch, "val")

    def test_step(self, batch, batch_idx):
        self.shared_step(batch, "test")

    def on_validation_epoch_end(self):
        if not self.trainer.sanity_checking:
            metrics = self.trainer.callback_metrics
            shown = {name: round(float(metrics[name]), 4) for name in ("val_loss", "val_iou") if name in metrics}
            print(f"epoch {self.current_epoch}: {shown}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    L.seed_everything(42)
    checkpoint = ModelCheckpoint(dirpath=tempfile.mkdtemp(), monitor="val_loss", mode="min", save_top_k=1)
    trainer = L.Trainer(
        max_epochs=12,
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=[checkpoint],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data, model = ShapesDataModule(), Locator()
    trainer.fit(model, datamodule=data)
    print("best:", checkpoint.best_model_path, float(checkpoint.best_model_score))
    trainer.test(model, datamodule=data, ckpt_path="best")


if __name__ == "__main__":
    main()
