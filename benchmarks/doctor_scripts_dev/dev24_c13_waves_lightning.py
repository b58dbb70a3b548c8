"""Signals of four kinds, some of them rare: 1D CNN in Lightning, weighted loss, macro F1."""

import tempfile

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from toydata import waves

NUM_CLASSES = 4
SHARES = [1.0, 0.6, 0.35, 0.2]  # the last kinds are seen less often


class WavesDataModule(L.LightningDataModule):
    def __init__(self, batch_size=64, seed=0):
        super().__init__()
        self.batch_size = batch_size
        signals, labels = waves(count=8000, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        kept = torch.rand(len(labels), generator=generator) < torch.tensor(SHARES)[labels]
        signals, labels = signals[kept], labels[kept]

        indices = np.arange(len(labels))
        train_idx, rest_idx = train_test_split(indices, test_size=0.3, stratify=labels.numpy(), random_state=seed)
        val_idx, test_idx = train_test_split(
            rest_idx, test_size=0.5, stratify=labels[rest_idx].numpy(), random_state=seed
        )
        mean, std = signals[train_idx].mean(), signals[train_idx].std()
        signals = (signals - mean) / std
        self.train_set = TensorDataset(signals[train_idx], labels[train_idx])
        self.val_set = TensorDataset(signals[val_idx], labels[val_idx])
        self.test_set = TensorDataset(signals[test_idx], labels[test_idx])
        self.train_labels = labels[train_idx].numpy()

    def class_weights(self):
        weights = compute_class_weight("balanced", classes=np.arange(NUM_CLASSES), y=self.train_labels)
        return torch.tensor(weights, dtype=torch.float32)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=256)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=256)


class WaveClassifier(L.LightningModule):
    def __init__(self, class_weights, lr=1e-3, epochs=28):
        super().__init__()
        self.lr, self.epochs = lr, epochs
        self.register_buffer("class_weights", class_weights)
        self.features = nn.Sequential(
            self.block(1, 32, 7), nn.MaxPool1d(2),
            self.block(32, 64, 5), nn.MaxPool1d(2),
            self.block(64, 64, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(64, NUM_CLASSES))
        self.val_f1 = MulticlassF1Score(num_classes=NUM_CLASSES, average="macro")
        self.test_f1 = MulticlassF1Score(num_classes=NUM_CLASSES, average="macro")
        self.test_acc = MulticlassAccuracy(num_classes=NUM_CLASSES, average="micro")

    @staticmethod
    def block(inputs, outputs, kernel):
        return nn.Sequential(
            nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2), nn.BatchNorm1d(outputs), nn.ReLU()
        )

    def forward(self, x):
        return self.classifier(self.features(x))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y, weight=self.class_weights)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(y))
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.val_f1.update(logits, y)
        self.log("val_loss", F.cross_entropy(logits, y), batch_size=len(y))

    def on_validation_epoch_end(self):
        f1 = self.val_f1.compute()
        self.val_f1.reset()
        self.log("val_f1", f1)
        print(f"epoch {self.current_epoch}: val macro F1 {f1.item():.4f}")

    def test_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.test_f1.update(logits, y)
        self.test_acc.update(logits, y)

    def on_test_epoch_end(self):
        print(f"test macro F1 {self.test_f1.compute().item():.4f}, accuracy {self.test_acc.compute().item():.4f}")
        self.test_f1.reset()
        self.test_acc.reset()

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    L.seed_everything(0)
    data = WavesDataModule()
    weights = data.class_weights()
    print("samples of each class:", np.bincount(data.train_labels), "weights:", weights.tolist())
    model = WaveClassifier(weights)
    checkpoint = ModelCheckpoint(dirpath=tempfile.mkdtemp(), monitor="val_f1", mode="max", save_top_k=1)
    trainer = L.Trainer(
        max_epochs=model.epochs,
        accelerator="auto",
        devices=1,
        callbacks=[checkpoint],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=data)
    print(f"best val macro F1 {checkpoint.best_model_score.item():.4f}")

    best = torch.load(checkpoint.best_model_path, map_location="cpu", weights_only=False)
    model.load_state_dict(best["state_dict"])
    trainer.test(model, datamodule=data, verbose=False)


if __name__ == "__main__":
    main()
