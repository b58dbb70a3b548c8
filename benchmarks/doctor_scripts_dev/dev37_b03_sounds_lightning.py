"""Short sounds of four kinds, recorded as 16-bit numbers: a small 1-D CNN with Lightning."""

import tempfile

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import toydata

SOUNDS = ["hum", "whistle", "buzzer", "sweep"]
PCM = 9000.0


def record(count, seed):
    """The recordings lie in one folder for each sound, and are listed folder by folder."""
    signals, labels = toydata.waves(count, length=64, seed=seed)
    order = torch.argsort(labels)
    return (signals[order] * PCM).round(), labels[order]


class Clips(Dataset):
    def __init__(self, clips, labels, mean, std, augment=False, hiss=800.0):
        self.clips, self.labels = clips, labels
        self.mean, self.std = mean, std
        self.augment, self.hiss = augment, hiss

    def __len__(self):
        return len(self.clips)

    def distort(self, clip):
        gain = 0.8 + 0.4 * torch.rand(1)
        shift = int(torch.randint(-6, 7, (1,)))
        clip = torch.roll(gain * clip, shift, dims=-1)
        return clip + self.hiss * torch.randn_like(clip)

    def __getitem__(self, index):
        clip = self.clips[index]
        if self.augment:
            clip = self.distort(clip)
        clip = (clip - self.mean) / self.std
        return clip, int(self.labels[index])


class SoundData(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        clips, labels = record(900, seed=0)
        mean, std = clips.mean(), clips.std()
        self.train_set = Clips(clips, labels, mean, std, augment=True)
        self.val_set = Clips(*record(240, seed=1), mean, std)
        self.test_set = Clips(*record(240, seed=2), mean, std)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=120)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=120)


def conv_block(cin, cout, kernel):
    return nn.Sequential(
        nn.Conv1d(cin, cout, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm1d(cout),
        nn.ReLU(inplace=True),
        nn.MaxPool1d(2),
    )


class SoundNet(L.LightningModule):
    def __init__(self, width=24, lr=4e-3):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(
            conv_block(1, width, 7),
            conv_block(width, 2 * width, 5),
            conv_block(2 * width, 2 * width, 5),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(2 * width, len(SOUNDS))
        )

    def forward(self, x):
        return self.head(self.encoder(x))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(y))
        return loss

    def _evaluate(self, batch, stage):
        x, y = batch
        scores = self(x)
        accuracy = (scores.argmax(dim=1) == y).float().mean()
        self.log(f"{stage}_loss", F.cross_entropy(scores, y), batch_size=len(y))
        self.log(f"{stage}_acc", accuracy, batch_size=len(y))

    def validation_step(self, batch, batch_idx):
        self._evaluate(batch, "val")

    def test_step(self, batch, batch_idx):
        self._evaluate(batch, "test")

    def on_train_epoch_end(self):
        metrics = self.trainer.callback_metrics
        print(f"epoch {self.current_epoch}: val_loss {metrics['val_loss']:.3f} val_acc {metrics['val_acc']:.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(7)
    data = SoundData()
    model = SoundNet()
    checkpoint = ModelCheckpoint(dirpath=tempfile.mkdtemp(), monitor="val_acc", mode="max", save_top_k=1)
    trainer = L.Trainer(
        max_epochs=10,
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=[checkpoint],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=data)

    best = torch.load(checkpoint.best_model_path, map_location="cpu", weights_only=False)
    model.load_state_dict(best["state_dict"])
    result = trainer.test(model, datamodule=data, verbose=False)[0]
    print(f"best val_acc {float(checkpoint.best_model_score):.3f}, test_acc {result['test_acc']:.3f}")


if __name__ == "__main__":
    main()
