"""Embeddings of shapes with a triplet loss: the nearest training image names the shape (Lightning)."""

import lightning as L
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from toydata import Shapes


class ShapeImages(Dataset):
    def __init__(self, train, augment=False):
        source = Shapes(train=train)
        self.images = torch.stack(source.images)
        self.labels = torch.tensor(pd.Categorical(source.names).codes.astype("int64"))
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        if self.augment and torch.rand(()) < 0.5:
            image = image.flip(-1)
        return (image - 0.5) / 0.2, self.labels[index]


class BalancedBatches(Sampler):
    """Batches with the same number of images of each class, so that each anchor finds its positives."""

    def __init__(self, labels, per_class, batches):
        self.pools = [torch.where(labels == number)[0] for number in labels.unique()]
        self.per_class = per_class
        self.batches = batches

    def __iter__(self):
        for _ in range(self.batches):
            picks = [pool[torch.randperm(len(pool))[: self.per_class]] for pool in self.pools]
            yield torch.cat(picks).tolist()

    def __len__(self):
        return self.batches


def stage(n_in, n_out):
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(), nn.MaxPool2d(2)
    )


class TripletEmbedder(L.LightningModule):
    def __init__(self, size=16, margin=0.4, max_lr=4e-3):
        super().__init__()
        self.save_hyperparameters()
        self.stages = nn.ModuleList([stage(3, 16), stage(16, 32), stage(32, 64)])
        self.head = nn.Linear(64, size)
        self.bank = {}

    def forward(self, x):
        for block in self.stages:
            x = block(x)
        return F.normalize(self.head(x.mean(dim=(2, 3))), dim=1)

    def triplet_loss(self, embeddings, labels):
        distance = 2 - 2 * embeddings @ embeddings.t()
        same = labels[:, None] == labels[None, :]
        positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        negative = ~same
        # [anchor, positive, negative]
        violation = distance[:, :, None] - distance[:, None, :] + self.hparams.margin
        triplets = positive[:, :, None] & negative[:, None, :]
        return F.relu(violation[triplets]).mean()

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = self.triplet_loss(self(images), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(images))
        return loss

    def on_validation_epoch_start(self):
        self.bank = {0: [], 1: []}

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        images, labels = batch
        self.bank[dataloader_idx].append((self(images), labels))

    def on_validation_epoch_end(self):
        gallery, gallery_labels = (torch.cat(part) for part in zip(*self.bank[0]))
        queries, query_labels = (torch.cat(part) for part in zip(*self.bank[1]))
        nearest = (queries @ gallery.t()).argmax(dim=1)
        recall = (gallery_labels[nearest] == query_labels).float().mean()
        self.log("val_recall", recall)
        print(f"epoch {self.current_epoch}: recall@1 {recall:.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.max_lr)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.max_lr, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(7)
    train = ShapeImages(train=True, augment=True)
    train_loader = DataLoader(train, batch_sampler=BalancedBatches(train.labels, per_class=8, batches=20))
    gallery_loader = DataLoader(ShapeImages(train=True), batch_size=150)
    query_loader = DataLoader(ShapeImages(train=False), batch_size=120)

    model = TripletEmbedder()
    trainer = L.Trainer(
        max_epochs=8,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, train_loader, [gallery_loader, query_loader])
    print(f"loss {trainer.callback_metrics['train_loss']:.4f}, recall@1 {trainer.callback_metrics['val_recall']:.3f}")


if __name__ == "__main__":
    main()
