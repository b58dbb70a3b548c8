"""Handwritten digits with PyTorch Lightning."""
import argparse
import math
import tempfile

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy


class DigitsDataset(Dataset):
    def __init__(self, images, targets, train=False):
        self.images = torch.tensor(images, dtype=torch.float32).unsqueeze(1)
        self.targets = torch.tensor(targets, dtype=torch.long)
        self.train = train

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, idx):
        img = self.images[idx].clone()
        if self.train:
            img = self.random_erasing(img)
            img = self.random_shift(img)
        return img, self.targets[idx]

    @staticmethod
    def random_erasing(img, p=0.7, size=3):
        if torch.rand(1).item() < p:
            top, left = torch.randint(0, img.shape[-1] - size + 1, (2,)).tolist()
            img[:, top:top + size, left:left + size] = 0.0
        return img

    @staticmethod
    def random_shift(img, pad=1):
        h, w = img.shape[-2:]
        img = F.pad(img, (pad, pad, pad, pad), mode="replicate")
        top, left = torch.randint(0, 2 * pad + 1, (2,)).tolist()
        return img[:, top:top + h, left:left + w]


class DigitsDataModule(L.LightningDataModule):
    def __init__(self, batch_size=32, seed=42):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        digits = load_digits()
        images, targets = digits.images / 16.0, digits.target
        rest_x, test_x, rest_y, test_y = train_test_split(
            images, targets, test_size=0.3, stratify=targets, random_state=self.hparams.seed)
        train_x, val_x, train_y, val_y = train_test_split(
            rest_x, rest_y, test_size=0.2, stratify=rest_y, random_state=0)

        mean, std = train_x.mean(), train_x.std()
        if stage == "fit" or stage is None:
            self.train_set = DigitsDataset((train_x - mean) / std, train_y, train=True)
            self.val_set = DigitsDataset((val_x - mean) / std, val_y)
        if stage == "test" or stage is None:
            self.test_set = DigitsDataset((test_x - mean) / std, test_y)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=256)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=256)


def conv_block(in_ch, out_ch):
    return nn.Sequential(
        nn.Conv2d(in_ch, out_ch, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_ch),
        nn.ReLU(inplace=True),
    )


class ConvNet(nn.Module):
    def __init__(self, width=24, num_classes=10, dropout=0.2):
        super().__init__()
        self.features = nn.Sequential(
            conv_block(1, width),
            conv_block(width, width),
            nn.MaxPool2d(2),
            conv_block(width, 2 * width),
            nn.AdaptiveAvgPool2d(2),
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * width * 4, num_classes),
        )

    def forward(self, x):
        return self.head(self.features(x))


def focal_loss(logits, target, gamma=2.0):
    ce = F.cross_entropy(logits, target, reduction="none")
    pt = torch.exp(-ce)
    return ((1.0 - pt) ** gamma * ce).mean()


class LitDigits(L.LightningModule):
    def __init__(self, lr=3e-3, weight_decay=1e-2, gamma=1.0, ema_decay=0.98):
        super().__init__()
        self.save_hyperparameters()
        self.net = ConvNet()
        self.ema = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(ema_decay), use_buffers=True)
        self.ema.requires_grad_(False)
        self.val_acc = MulticlassAccuracy(num_classes=10, average="micro")
        self.test_acc = MulticlassAccuracy(num_classes=10, average="micro")

    def forward(self, x):
        return self.ema(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self.net(x)
        loss = focal_loss(logits, y, self.hparams.gamma)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.ema.update_parameters(self.net)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.val_acc(logits, y)
        self.log("val_loss", F.cross_entropy(logits, y), batch_size=len(y))
        self.log("val_acc", self.val_acc, on_step=False, on_epoch=True)

    def on_train_epoch_end(self):
        m = self.trainer.callback_metrics
        print(f"epoch {self.current_epoch:02d} val_loss {m['val_loss']:.4f} val_acc {m['val_acc']:.4f}")

    def test_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.test_acc(logits, y)
        self.log("test_acc", self.test_acc)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
        total_steps = self.trainer.estimated_stepping_batches
        warmup_steps = max(1, int(0.1 * total_steps))

        def lr_lambda(step):
            if step < warmup_steps:
                return (step + 1) / warmup_steps
            progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
            return 0.5 * (1.0 + math.cos(math.pi * progress))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--max_epochs", type=int, default=18)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()

    L.seed_everything(args.seed, workers=True)
    root = tempfile.mkdtemp(prefix="lit_digits_")
    dm = DigitsDataModule(batch_size=args.batch_size, seed=args.seed)
    model = LitDigits(lr=args.lr)
    checkpoint = ModelCheckpoint(dirpath=root, monitor="val_acc", mode="max", save_top_k=1)
    trainer = L.Trainer(
        max_epochs=args.max_epochs,
        accelerator="cpu",
        devices=1,
        gradient_clip_val=1.0,
        callbacks=[checkpoint],
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=dm)
    result = trainer.test(ckpt_path="best", datamodule=dm, verbose=False)
    print(f"best val_acc {checkpoint.best_model_score:.4f}  test_acc {result[0]['test_acc']:.4f}")


if __name__ == "__main__":
    main()
