import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, random_split

from toydata import NAMES, Shapes


def normalize(image):
    return (image - 0.5) / 0.2


class ShapesDataModule(L.LightningDataModule):
    def __init__(self, batch_size: int = 48):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        self.full = Shapes(train=True, count=1500, transform=normalize)

    def _split(self):
        return random_split(self.full, [1200, 300], generator=torch.Generator().manual_seed(42))

    def train_dataloader(self):
        train_set, _ = self._split()
        return DataLoader(train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        _, val_set = self._split()
        return DataLoader(val_set, batch_size=100)


class ConvBlock(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(cin, cout, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(cout),
            nn.ReLU(),
            nn.Conv2d(cout, cout, 3, padding=1, bias=False),
            nn.BatchNorm2d(cout),
            nn.ReLU(),
        )

    def forward(self, x):
        return self.layers(x)


class LitClassifier(L.LightningModule):
    def __init__(self, width: int = 20, max_lr: float = 3e-3):
        super().__init__()
        self.save_hyperparameters()
        self.blocks = nn.ModuleList([
            ConvBlock(3, width, 1),
            ConvBlock(width, 2 * width, 2),
            ConvBlock(2 * width, 4 * width, 2),
        ])
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(4 * width, len(NAMES))
        self.val_correct, self.val_total, self.val_loss = 0, 0, 0.0

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(self.dropout(x.mean(dim=(2, 3))))

    def training_step(self, batch, batch_idx):
        images, targets = batch
        loss = F.cross_entropy(self(images), targets)
        self.log("train_loss", loss)
        return loss

    def on_validation_epoch_start(self):
        self.val_correct, self.val_total, self.val_loss = 0, 0, 0.0

    def validation_step(self, batch, batch_idx):
        images, targets = batch
        logits = self(images)
        self.val_loss += F.cross_entropy(logits, targets, reduction="sum").item()
        self.val_correct += (logits.argmax(dim=1) == targets).sum().item()
        self.val_total += len(targets)

    def on_validation_epoch_end(self):
        acc = self.val_correct / self.val_total
        self.log("val_acc", acc)
        print(f"epoch {self.current_epoch:2d}  val_loss {self.val_loss / self.val_total:.4f}  val_acc {acc:.4f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.max_lr, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.hparams.max_lr,
            total_steps=int(self.trainer.estimated_stepping_batches),
            div_factor=100,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def main():
    L.seed_everything(7)
    data = ShapesDataModule()
    model = LitClassifier()
    trainer = L.Trainer(
        max_epochs=20,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=data)


if __name__ == "__main__":
    main()
