"""Lightning: a small U-Net with manual optimization, one optimizer for each half, one-vs-all losses."""
import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ("ground", "square", "disc", "cross")


class MaskedShapes(Dataset):
    def __init__(self, train, size=24):
        self.base = Shapes(train=train, size=size)

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        return (self.base.images[index] - 0.5) / 0.2, self.base.masks[index]


class ShapesDataModule(L.LightningDataModule):
    def __init__(self, batch_size=30):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        self.train_set, self.val_set = MaskedShapes(True), MaskedShapes(False)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=60)


def double_conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(),
    )


class Encoder(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.stages = nn.ModuleList([double_conv(3, w), double_conv(w, 2 * w), double_conv(2 * w, 3 * w)])

    def forward(self, x):
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage(F.max_pool2d(x, 2) if i else x)
            maps.append(x)
        return maps


class Decoder(nn.Module):
    def __init__(self, w, classes):
        super().__init__()
        self.mid = double_conv(5 * w, 2 * w)
        self.top = double_conv(3 * w, w)
        self.head = nn.Conv2d(w, classes, 1)

    def forward(self, maps):
        fine, middle, coarse = maps
        x = self.mid(torch.cat([F.interpolate(coarse, scale_factor=2), middle], 1))
        x = self.top(torch.cat([F.interpolate(x, scale_factor=2), fine], 1))
        return self.head(x)


class LitSegmenter(L.LightningModule):
    def __init__(self, width=12, encoder_lr=0.05, decoder_lr=3e-3, epochs=8):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.encoder = Encoder(width)
        self.decoder = Decoder(width, len(CLASSES))
        self.register_buffer("confusion", torch.zeros(4, 4, dtype=torch.long), persistent=False)

    def forward(self, x):
        return self.decoder(self.encoder(x))

    def criterion(self, logits, masks):
        # each class against all others; the highest logit is the prediction
        wanted = F.one_hot(masks, len(CLASSES)).permute(0, 3, 1, 2).float()
        bce = F.binary_cross_entropy_with_logits(logits, wanted)
        probs = logits.sigmoid()
        overlap = (probs * wanted).sum((0, 2, 3))
        dice = 1 - (2 * overlap + 1) / (probs.sum((0, 2, 3)) + wanted.sum((0, 2, 3)) + 1)
        return bce + dice.mean()

    def training_step(self, batch, batch_idx):
        images, masks = batch
        for axis in (-1, -2):
            if torch.rand(()) < 0.5:
                images, masks = images.flip(axis), masks.flip(axis)
        loss = self.criterion(self(images), masks)
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(images))

    def on_train_epoch_end(self):
        for scheduler in self.lr_schedulers():
            scheduler.step()

    def on_validation_epoch_start(self):
        self.confusion.zero_()

    def validation_step(self, batch, batch_idx):
        images, masks = batch
        predicted = self(images).argmax(1)
        self.confusion += torch.bincount(4 * masks.flatten() + predicted.flatten(), minlength=16).view(4, 4)

    def on_validation_epoch_end(self):
        hit = self.confusion.diagonal().float()
        iou = hit / (self.confusion.sum(0) + self.confusion.sum(1) - hit).clamp(min=1)
        print(f"epoch {self.current_epoch}: " + "  ".join(f"{n} {v:.3f}" for n, v in zip(CLASSES, iou.tolist())))
        self.log("val_miou", iou.mean())

    def configure_optimizers(self):
        encoder = torch.optim.SGD(
            self.encoder.parameters(), lr=self.hparams.encoder_lr, momentum=0.9, weight_decay=1e-4, nesterov=True
        )
        decoder = torch.optim.AdamW(self.decoder.parameters(), lr=self.hparams.decoder_lr)
        schedulers = [
            torch.optim.lr_scheduler.CosineAnnealingLR(o, self.hparams.epochs) for o in (encoder, decoder)
        ]
        return [encoder, decoder], schedulers


if __name__ == "__main__":
    L.seed_everything(5)
    module = LitSegmenter()
    trainer = L.Trainer(
        max_epochs=module.hparams.epochs, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=ShapesDataModule())
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})
