import logging
import tempfile
import warnings

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MultilabelF1Score

from toydata import draw_digits

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class DigitSets(Dataset):
    """Four cells with a digit or nothing each; which digits are there?"""

    def __init__(self, count, seed):
        g = torch.Generator().manual_seed(seed)
        glyphs, digits = draw_digits(count * 4, size=12, seed=seed, noise=0.05, shift=1)
        shown = torch.rand(count, 4, generator=g) < 0.55
        glyphs = glyphs.view(count, 4, 12, 12) * shown[..., None, None]
        top, bottom = torch.cat([glyphs[:, 0], glyphs[:, 1]], 2), torch.cat([glyphs[:, 2], glyphs[:, 3]], 2)
        self.images = torch.cat([top, bottom], 1).unsqueeze(1)
        onehot = nn.functional.one_hot(digits.view(count, 4), 10) * shown[..., None]
        self.tags = onehot.amax(1).float()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return {"pixels": self.images[i].float() / 127.5 - 1, "tags": self.tags[i]}


class DigitSetsModule(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        self.train, self.val = DigitSets(1500, 21), DigitSets(300, 22)
        positives = self.train.tags.sum(0)
        self.pos_weight = (len(self.train) - positives) / positives

    def train_dataloader(self):
        return DataLoader(self.train, self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, 100)


class Tagger(L.LightningModule):
    def __init__(self, lr=3e-3, width=24):
        super().__init__()
        self.save_hyperparameters()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.GELU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 5, padding=2), nn.BatchNorm2d(2 * width), nn.GELU(),
            nn.AdaptiveMaxPool2d(2), nn.Flatten(),
        )
        self.head = nn.Linear(8 * width, 10)
        self.f1 = MultilabelF1Score(10, average="macro")

    def forward(self, pixels):
        return self.head(self.backbone(pixels))

    def shared_step(self, batch):
        logits = self(batch["pixels"])
        weight = self.trainer.datamodule.pos_weight.to(self.device)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, batch["tags"], pos_weight=weight.clamp(max=10))
        return {"loss": loss, "logits": logits.detach()}

    def training_step(self, batch, batch_idx):
        return self.shared_step(batch)

    def validation_step(self, batch, batch_idx):
        out = self.shared_step(batch)
        scores = torch.sigmoid(out["logits"])
        predicted = scores > 0.5
        self.f1.update(predicted.int(), batch["tags"].int())
        self.log("val_loss", out["loss"], batch_size=len(scores))

    def on_validation_epoch_end(self):
        self.log("val_f1", self.f1.compute())
        if not self.trainer.sanity_checking:
            print(f"epoch {self.current_epoch}: val_f1 {self.f1.compute():.4f}")
        self.f1.reset()

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=0.01)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


if __name__ == "__main__":
    L.seed_everything(11, verbose=False)
    trainer = L.Trainer(
        max_epochs=8, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, gradient_clip_val=5.0, default_root_dir=tempfile.mkdtemp())
    model = Tagger()
    trainer.fit(model, datamodule=DigitSetsModule())
    print("final", {k: round(v.item(), 4) for k, v in trainer.callback_metrics.items()})
