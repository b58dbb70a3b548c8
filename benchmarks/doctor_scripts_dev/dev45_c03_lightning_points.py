"""Name a shape and find three points of it: corners and center. The weights of the two tasks are learned."""
import logging
import warnings

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import toydata

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=UserWarning)


class PointSet(Dataset):
    def __init__(self, train: bool):
        self.shapes = toydata.Shapes(train=train, size=16)
        self.augment = train

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, label = self.shapes[index]
        x0, y0, x1, y1 = self.shapes.boxes[index].tolist()
        image = (image - 0.5) / 0.2
        if self.augment and torch.rand(1).item() < 0.5:
            image = torch.flip(image, dims=[-1])
            x0, x1 = 1 - x1, 1 - x0
        points = torch.tensor([x0, y0, x1, y1, (x0 + x1) / 2, (y0 + y1) / 2])
        return image, label, points


class PointModule(L.LightningModule):
    def __init__(self, lr: float = 4e-3):
        super().__init__()
        self.save_hyperparameters()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48 * 16, 96), nn.ReLU(),
        )
        self.classifier = nn.Linear(96, 6)
        self.locator = nn.Linear(96, 6)
        self.log_variances = nn.Parameter(torch.zeros(2))
        self.seen = []

    def forward(self, x):
        features = self.trunk(x)
        return self.classifier(features), self.locator(features)

    def encode(self, points):
        return points - 0.5

    def decode(self, values):
        return values + 0.5

    def training_step(self, batch, batch_idx):
        images, labels, points = batch
        logits, located = self(images)
        class_loss = F.cross_entropy(logits, labels)
        point_loss = F.mse_loss(located, self.encode(points))
        losses = torch.stack([class_loss, point_loss])
        loss = (torch.exp(-self.log_variances) * losses + self.log_variances).sum()
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        images, labels, points = batch
        logits, located = self(images)
        right = logits.argmax(dim=1) == labels
        distance = (self.decode(located) - points).view(-1, 3, 2).norm(dim=2).mean(dim=1)
        self.seen.append(torch.stack([right.float(), distance], dim=1))

    def on_validation_epoch_end(self):
        accuracy, distance = torch.cat(self.seen).mean(dim=0).tolist()
        self.seen.clear()
        self.log("val_acc", accuracy)
        self.log("val_distance", distance)
        weights = torch.exp(-self.log_variances.detach()).tolist()
        print(f"epoch {self.current_epoch}: accuracy {accuracy:.3f}, points off by {distance * 16:.2f} pixels, "
              f"weights {weights[0]:.1f} {weights[1]:.1f}")

    def configure_optimizers(self):
        names = [p for n, p in self.named_parameters() if n != "log_variances"]
        optimizer = torch.optim.AdamW(
            [{"params": names, "weight_decay": 1e-3}, {"params": [self.log_variances], "weight_decay": 0.0}],
            lr=self.hparams.lr,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[self.hparams.lr, 0.02],
            total_steps=int(self.trainer.estimated_stepping_batches),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main():
    L.seed_everything(3)
    train_loader = DataLoader(PointSet(True), batch_size=50, shuffle=True)
    val_loader = DataLoader(PointSet(False), batch_size=80)
    trainer = L.Trainer(
        max_epochs=12,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(PointModule(), train_loader, val_loader)


if __name__ == "__main__":
    main()
