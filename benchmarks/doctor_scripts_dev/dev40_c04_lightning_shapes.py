import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

from toydata import Shapes


class ShapesDataModule(L.LightningDataModule):
    def __init__(self, batch_size: int = 50, seed: int = 3):
        super().__init__()
        self.batch_size = batch_size
        self.seed = seed

    def setup(self, stage=None):
        full, test = Shapes(train=True), Shapes(train=False)
        images, labels = torch.stack(full.images), torch.tensor(full.targets)
        generator = torch.Generator().manual_seed(self.seed)
        train, val = random_split(range(len(images)), [750, 150], generator=generator)
        train, val = torch.tensor(list(train)), torch.tensor(list(val))
        mean = images[train].mean((0, 2, 3), keepdim=True)
        std = images[train].std((0, 2, 3), keepdim=True)
        images = (images - mean) / std
        self.train_set = TensorDataset(images[train], labels[train])
        self.val_set = TensorDataset(images[val], labels[val])
        self.test_set = TensorDataset((torch.stack(test.images) - mean) / std, torch.tensor(test.targets))

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=75)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=80)


def conv_block(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class LitClassifier(L.LightningModule):
    def __init__(self, classes: int = 6, width: int = 16, lr: float = 2e-3, epochs: int = 12):
        super().__init__()
        self.save_hyperparameters()
        self.body = nn.Sequential(
            conv_block(3, width),
            conv_block(width, width),
            nn.MaxPool2d(2),
            conv_block(width, 2 * width),
            conv_block(2 * width, 2 * width),
            nn.MaxPool2d(2),
            conv_block(2 * width, 3 * width),
            nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Dropout(0.25), nn.Linear(3 * width * 16, classes))

    def forward(self, x):
        return self.head(self.body(x))

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = F.cross_entropy(self(images), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def shared_eval(self, batch, prefix):
        images, labels = batch
        logits = self(images)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        self.log(f"{prefix}_loss", F.cross_entropy(logits, labels), batch_size=len(labels))
        self.log(f"{prefix}_acc", accuracy, batch_size=len(labels))

    def validation_step(self, batch, batch_idx):
        self.shared_eval(batch, "val")

    def test_step(self, batch, batch_idx):
        self.shared_eval(batch, "test")

    def on_validation_end(self):
        metrics = self.trainer.callback_metrics
        print(f"epoch {self.current_epoch}: val_acc {float(metrics['val_acc']):.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.hparams.epochs)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def main():
    L.seed_everything(3)
    datamodule = ShapesDataModule()
    model = LitClassifier()
    trainer = L.Trainer(
        max_epochs=model.hparams.epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=datamodule)
    results = trainer.test(model, datamodule=datamodule, verbose=False)[0]
    print(f"test_loss {results['test_loss']:.4f}  test_acc {results['test_acc']:.3f}")


if __name__ == "__main__":
    main()
