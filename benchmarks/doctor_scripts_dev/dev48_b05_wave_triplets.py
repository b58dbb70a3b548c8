"""Metric learning on one-dimensional signals with Lightning: a triplet loss, judged by nearest neighbors."""
import warnings

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier
from torch.utils.data import DataLoader, Dataset

import toydata

warnings.filterwarnings("ignore", ".*does not have many workers.*")


class TripletDataset(Dataset):
    """Yields an anchor, another signal of its class, and one of another class."""

    def __init__(self, signals, labels, fixed=False):
        self.signals = signals
        self.labels = labels
        self.fixed = [self.draw(i) for i in range(len(labels))] if fixed else None

    def draw(self, index):
        same = self.labels == self.labels[index]
        other = ~same
        same[index] = False
        positive = torch.multinomial(same.float(), 1).item()
        negative = torch.multinomial(other.float(), 1).item()
        return positive, negative

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        positive, negative = self.fixed[index] if self.fixed else self.draw(index)
        return self.signals[index], self.signals[positive], self.signals[negative]


class WaveDataModule(L.LightningDataModule):
    def __init__(self, count=800, held_out=200, batch_size=64):
        super().__init__()
        self.count, self.held_out, self.batch_size = count, held_out, batch_size

    def setup(self, stage=None):
        signals, labels = toydata.waves(self.count, seed=5)
        signals = signals - signals.mean(dim=-1, keepdim=True)
        signals = signals / signals.abs().amax(dim=-1, keepdim=True).clamp(min=1e-6)
        cut = self.count - self.held_out
        self.train_signals, self.train_labels = signals[:cut], labels[:cut]
        self.val_signals, self.val_labels = signals[cut:], labels[cut:]
        self.train_set = TripletDataset(self.train_signals, self.train_labels)
        self.val_set = TripletDataset(self.val_signals, self.val_labels, fixed=True)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)


class WaveEncoder(nn.Module):
    def __init__(self, width=24, dim=16):
        super().__init__()
        blocks, channels = [], 1
        for out in (width, 2 * width, 2 * width):
            blocks.append(
                nn.Sequential(
                    nn.Conv1d(channels, out, kernel_size=7, padding=3, bias=False),
                    nn.BatchNorm1d(out),
                    nn.ReLU(),
                    nn.MaxPool1d(2),
                )
            )
            channels = out
        self.blocks = nn.ModuleList(blocks)
        self.embed = nn.Linear(channels, dim)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return F.normalize(self.embed(x.mean(dim=-1)), dim=-1)


class LitTriplet(L.LightningModule):
    def __init__(self, lr=2e-3, margin=0.5):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = WaveEncoder()
        self.criterion = nn.TripletMarginLoss(margin=margin)

    def forward(self, x):
        return self.encoder(x)

    def shared_step(self, batch):
        a, p, n = batch
        za, zp, zn = self(a), self(p), self(n)
        loss = self.criterion(za, zp, zn)
        ordered = (F.pairwise_distance(za, zp) < F.pairwise_distance(za, zn)).float().mean()
        return loss, ordered

    def training_step(self, batch, batch_idx):
        loss, _ = self.shared_step(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        val_loss, ordered = self.shared_step(batch)
        self.log_dict({"val_loss": val_loss, "val_ordered": ordered})

    def on_train_epoch_end(self):
        metrics = self.trainer.callback_metrics
        print(
            f"epoch {self.current_epoch}: train {metrics['train_loss']:.4f} "
            f"val {metrics['val_loss']:.4f} ordered {metrics['val_ordered']:.3f}"
        )

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


@torch.no_grad()
def neighbor_accuracy(model, data):
    model.eval()
    gallery, queries = model(data.train_signals), model(data.val_signals)
    knn = KNeighborsClassifier(n_neighbors=5)
    knn.fit(gallery.numpy(), data.train_labels.numpy())
    return knn.score(queries.numpy(), data.val_labels.numpy())


def main():
    L.seed_everything(7)
    data = WaveDataModule()
    model = LitTriplet()
    trainer = L.Trainer(
        max_epochs=12,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    trainer.fit(model, datamodule=data)
    print(f"5-nearest-neighbor accuracy: {neighbor_accuracy(model, data):.3f}")


if __name__ == "__main__":
    main()
