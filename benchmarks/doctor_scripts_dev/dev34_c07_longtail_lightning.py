"""Long-tailed shapes with Lightning: weighted sampler, mixup, stochastic depth, flips at test time, balanced accuracy."""
import os
import sys
import warnings

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from toydata import Shapes

warnings.filterwarnings("ignore", ".*num_workers.*")
SHARES = torch.tensor([1.0, 0.7, 0.5, 0.35, 0.25, 0.15])  # how much of each class is kept


def load(train, count, long_tailed):
    shapes = Shapes(train=train, count=count)
    images, labels = (torch.stack(shapes.images) - 0.5) / 0.2, torch.tensor(shapes.targets)
    if long_tailed:
        keep = torch.rand(len(labels), generator=torch.Generator().manual_seed(7)) < SHARES[labels]
        images, labels = images[keep], labels[keep]
    return TensorDataset(images, labels)


class ResidualBlock(nn.Module):
    """The branch is left out for some samples of a training batch, and scaled up for the others."""

    def __init__(self, channels, drop):
        super().__init__()
        self.drop = drop
        self.branch = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )

    def forward(self, x):
        h = self.branch(x)
        if self.training and self.drop > 0:
            keep = 1 - self.drop
            h = h * (torch.rand(len(x), 1, 1, 1) < keep).float() / keep
        return x + h


class ShapeModule(L.LightningModule):
    def __init__(self, max_lr=4e-3, alpha=0.2, class_weights=None):
        super().__init__()
        self.max_lr, self.alpha = max_lr, alpha
        self.register_buffer("class_weights", class_weights)
        self.net = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
            ResidualBlock(24, 0.0), ResidualBlock(24, 0.1), ResidualBlock(24, 0.1),
            nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24 * 16, 6),
        )
        self.train_losses = []

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_index):
        x, y = batch
        share = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        other = torch.randperm(len(x))
        logits = self(share * x + (1 - share) * x[other])
        first = F.cross_entropy(logits, y, weight=self.class_weights, reduction="none")
        second = F.cross_entropy(logits, y[other], weight=self.class_weights, reduction="none")
        loss = (share * first + (1 - share) * second).mean()
        self.train_losses.append(loss.detach())
        return loss

    def on_validation_epoch_start(self):
        self.right, self.seen = torch.zeros(6), torch.zeros(6)

    def validation_step(self, batch, batch_index):
        x, y = batch
        probabilities = (self(x).softmax(1) + self(x.flip(-1)).softmax(1)) / 2
        hits = (probabilities.argmax(1) == y).float()
        self.right.index_add_(0, y, hits)
        self.seen.index_add_(0, y, torch.ones_like(hits))

    def on_validation_epoch_end(self):
        recalls = self.right / self.seen.clamp(min=1)
        loss = torch.stack(self.train_losses).mean().item() if self.train_losses else float("nan")
        self.train_losses.clear()
        print(
            f"epoch {self.current_epoch:2d} train loss {loss:.4f} val balanced acc {recalls.mean():.3f} "
            f"rarest class {recalls[-1]:.3f}"
        )

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.max_lr, weight_decay=0.01)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.max_lr, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(0)
    torch.set_num_threads(1)
    train_set, val_set = load(True, 3000, True), load(False, 360, False)
    labels = train_set.tensors[1]
    counts = torch.bincount(labels, minlength=6).float()
    print("training samples of each class:", counts.int().tolist())
    sampler = WeightedRandomSampler((1 / counts)[labels], num_samples=len(labels), replacement=True)
    train_loader = DataLoader(train_set, batch_size=32, sampler=sampler)
    val_loader = DataLoader(val_set, batch_size=120)
    module = ShapeModule()
    trainer = L.Trainer(
        max_epochs=16,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=5.0,
    )
    trainer.fit(module, train_loader, val_loader)


if __name__ == "__main__":
    main()
