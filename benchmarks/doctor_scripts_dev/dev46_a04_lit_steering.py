"""PilotNet in small, with Lightning: the camera sees an object, the wheel is to be turned toward it."""

import tempfile

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from toydata import Shapes

DEGREES = 12.5  # one unit of the network's output


class SteeringDataset(Dataset):
    """Image and steering value: 0 where the object is in the middle, negative to the left."""

    def __init__(self, train=True, augment=False):
        self.shapes = Shapes(train=train)
        self.augment = augment

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image = self.shapes.images[index]
        left, _, right, _ = self.shapes.boxes[index]
        angle = ((left + right) / 2 - 0.5) * 4
        if self.augment:
            if torch.rand(()) < 0.5:
                image = image.flip(-1)
                angle = -angle
            image = (image + 0.1 * (torch.rand(()) - 0.5)).clamp(0, 1)
        return (image - 0.5) / 0.25, angle


class SteeringData(L.LightningDataModule):
    def __init__(self, batch_size=32, val_share=0.2):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        order = torch.randperm(len(SteeringDataset()), generator=torch.Generator().manual_seed(3)).tolist()
        n_val = int(len(order) * self.hparams.val_share)
        self.train_set = Subset(SteeringDataset(augment=True), order[n_val:])
        self.val_set = Subset(SteeringDataset(), order[:n_val])
        self.test_set = SteeringDataset(train=False)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=90)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=80)


class PilotNet(L.LightningModule):
    def __init__(self, lr=2e-3, weight_decay=1e-4, epochs=12):
        super().__init__()
        self.save_hyperparameters()
        self.convs = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ELU(),
            nn.Conv2d(16, 24, 3, stride=2, padding=1),
            nn.ELU(),
            nn.Conv2d(24, 32, 3, stride=2, padding=1),
            nn.ELU(),
        )
        self.regressor = nn.Sequential(
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 64),
            nn.ELU(),
            nn.Linear(64, 1),
        )

    def forward(self, image):
        return self.regressor(self.convs(image))

    def shared_step(self, batch, stage):
        image, angle = batch
        prediction = self(image).squeeze(1)
        loss = F.mse_loss(prediction, angle)
        mae = DEGREES * (prediction - angle).abs().mean()
        self.log(f"{stage}_loss", loss, on_step=False, on_epoch=True, batch_size=len(image))
        self.log(f"{stage}_mae", mae, on_step=False, on_epoch=True, batch_size=len(image))
        return loss

    def training_step(self, batch, batch_idx):
        return self.shared_step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.shared_step(batch, "val")

    def test_step(self, batch, batch_idx):
        self.shared_step(batch, "test")

    def on_train_epoch_end(self):
        metrics = self.trainer.callback_metrics
        print(f"epoch {self.current_epoch}: val_loss {metrics['val_loss']:.4f} val_mae {metrics['val_mae']:.2f} deg")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.hparams.epochs, eta_min=1e-5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    L.seed_everything(11)
    data = SteeringData()
    model = PilotNet()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, filename="best", monitor="val_loss", mode="min", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=model.hparams.epochs,
            accelerator="cpu",
            devices=1,
            callbacks=[checkpoint],
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(model, datamodule=data)
        best = PilotNet.load_from_checkpoint(checkpoint.best_model_path)
        trainer.test(best, datamodule=data)


if __name__ == "__main__":
    main()
