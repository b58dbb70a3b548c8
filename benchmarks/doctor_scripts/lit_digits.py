import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader
from toydata import Digits


class LitDigits(L.LightningModule):
    def __init__(self, hidden_size=64, learning_rate=2e-3):
        super().__init__()
        self.learning_rate = learning_rate
        self.model = nn.Sequential(
            nn.Flatten(), nn.Linear(256, hidden_size), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden_size, 10)
        )
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = self.criterion(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log("val_loss", self.criterion(logits, y))
        self.log("val_acc", (logits.argmax(dim=1) == y).float().mean(), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


class DigitsModule(L.LightningDataModule):
    def setup(self, stage=None):
        self.train_set = Digits(train=True, transform=lambda image: image.float() / 255)
        self.val_set = Digits(train=False, transform=lambda image: image.float() / 255)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=32, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)


if __name__ == "__main__":
    L.seed_everything(0)
    trainer = L.Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(LitDigits(), datamodule=DigitsModule())
    print(trainer.callback_metrics)
