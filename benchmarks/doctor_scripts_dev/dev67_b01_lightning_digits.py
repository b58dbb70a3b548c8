"""Digits classification with PyTorch Lightning."""
import argparse
import math
import random
import tempfile

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from sklearn.datasets import load_digits
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, random_split
from torchmetrics.classification import MulticlassAccuracy


class RandomAffine:
    """Small random rotation and translation of a (C, H, W) tensor."""

    def __init__(self, degrees=10.0, translate=0.1):
        self.degrees = degrees
        self.translate = translate

    def __call__(self, x):
        a = math.radians(random.uniform(-self.degrees, self.degrees))
        tx = random.uniform(-self.translate, self.translate) * 2
        ty = random.uniform(-self.translate, self.translate) * 2
        theta = torch.tensor([[math.cos(a), -math.sin(a), tx], [math.sin(a), math.cos(a), ty]])
        grid = F.affine_grid(theta[None], [1, *x.shape], align_corners=False)
        return F.grid_sample(x[None], grid, padding_mode="border", align_corners=False)[0]


class DigitsDataset(Dataset):
    def __init__(self, images, labels, transform=None):
        self.images = images
        self.labels = labels
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        x = self.images[idx]
        if self.transform is not None:
            x = self.transform(x)
        return x, self.labels[idx]


class DigitsDataModule(L.LightningDataModule):
    def __init__(self, batch_size=64, seed=42):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        digits = load_digits()
        images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1)
        labels = torch.tensor(digits.target, dtype=torch.long)

        generator = torch.Generator().manual_seed(self.hparams.seed)
        splits = random_split(range(len(labels)), [0.5, 0.25, 0.25], generator=generator)
        train_idx, val_idx, test_idx = (list(s) for s in splits)

        mean, std = images[train_idx].mean(), images[train_idx].std()
        images = (images - mean) / std

        self.train_set = DigitsDataset(images[train_idx], labels[train_idx], RandomAffine())
        self.val_set = DigitsDataset(images[val_idx], labels[val_idx])
        self.test_set = DigitsDataset(images[test_idx], labels[test_idx])

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=self.hparams.batch_size)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=self.hparams.batch_size)


class ResBlock(nn.Module):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, width=24, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.blocks = nn.Sequential(
            ResBlock(width, width), ResBlock(width, 2 * width, stride=2), ResBlock(2 * width, 2 * width)
        )
        self.fc = nn.Linear(2 * width, num_classes)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        return self.fc(x.mean(dim=(2, 3)))


class LitDigits(L.LightningModule):
    def __init__(self, lr=0.1, weight_decay=5e-4, ema_decay=0.95):
        super().__init__()
        self.save_hyperparameters()
        self.net = ResNet()
        self.ema = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(ema_decay), use_buffers=True)
        self.test_acc = MulticlassAccuracy(num_classes=10, average="micro")

    def forward(self, x):
        return self.ema(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.net(x), y, label_smoothing=0.05)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.ema.update_parameters(self.net)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        acc = (logits.argmax(dim=1) == y).float().mean()
        self.log("val_loss", F.cross_entropy(logits, y), batch_size=len(y))
        self.log("val_acc", acc, batch_size=len(y))

    def on_train_epoch_end(self):
        m = self.trainer.callback_metrics
        print(f"epoch {self.current_epoch:2d}  train_loss {m['train_loss']:.4f}  "
              f"val_loss {m['val_loss']:.4f}  val_acc {m['val_acc']:.4f}")

    def test_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.test_acc.update(logits, y)
        self.log("test_loss", F.cross_entropy(logits, y), batch_size=len(y))
        self.log("test_acc", self.test_acc)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(
            self.net.parameters(), lr=self.hparams.lr, momentum=0.9, weight_decay=self.hparams.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main(args):
    L.seed_everything(args.seed)
    dm = DigitsDataModule(batch_size=args.batch_size)
    model = LitDigits(lr=args.lr)
    with tempfile.TemporaryDirectory() as tmp:
        checkpoint = ModelCheckpoint(dirpath=tmp, monitor="val_acc", mode="max", save_top_k=1)
        early_stop = EarlyStopping(monitor="val_acc", mode="max", patience=5)
        trainer = L.Trainer(
            max_epochs=args.max_epochs,
            accelerator="cpu",
            precision="32-true",
            gradient_clip_val=1.0,
            callbacks=[checkpoint, early_stop],
            default_root_dir=tmp,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(model, datamodule=dm)
        print(f"best val_acc: {checkpoint.best_model_score:.4f}")
        results = trainer.test(datamodule=dm, ckpt_path="best", verbose=False)[0]
        print(f"test_loss {results['test_loss']:.4f}  test_acc {results['test_acc']:.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--max_epochs", type=int, default=15)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=7)
    main(parser.parse_args())
