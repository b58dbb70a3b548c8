"""Long-tailed digits with Lightning: LightningModule + LightningDataModule + own metrics."""
import argparse
import copy
import logging
import warnings

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
NUM_CLASSES = 10


class Metric:
    """Tiny stand-in for torchmetrics.Metric: update(), compute(), reset()."""

    def __init__(self):
        self.reset()


class MeanMetric(Metric):
    def reset(self):
        self.total, self.weight = 0.0, 0

    def update(self, value, n):
        self.total += float(value) * n
        self.weight += n

    def compute(self):
        return self.total / max(self.weight, 1)


class ConfusionMatrix(Metric):
    """Rows are the true classes, columns the predicted ones."""

    def reset(self):
        self.mat = torch.zeros(NUM_CLASSES, NUM_CLASSES, dtype=torch.long)

    def update(self, preds, target):
        idx = target * NUM_CLASSES + preds
        self.mat += torch.bincount(idx, minlength=NUM_CLASSES ** 2).view(NUM_CLASSES, NUM_CLASSES).cpu()

    def accuracy(self):
        return (self.mat.diag().sum() / self.mat.sum().clamp(min=1)).item()

    def recall_per_class(self):
        return self.mat.diag().float() / self.mat.sum(dim=1).clamp(min=1)

    def compute(self):
        return {"acc": self.accuracy(), "macro_recall": self.recall_per_class().mean().item()}


class LongTailDigits(L.LightningDataModule):
    def __init__(self, batch_size=32, imbalance=0.1, max_shift=1, seed=0):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        if hasattr(self, "train_set"):
            return
        hp = self.hparams
        data = load_digits()
        x = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16.0
        y = torch.tensor(data.target, dtype=torch.long)
        idx = list(range(len(y)))
        trainval, test = train_test_split(idx, test_size=0.25, stratify=y, random_state=hp.seed)
        train, val = train_test_split(trainval, test_size=0.2, stratify=y[trainval], random_state=hp.seed)
        train, val, test = self._long_tail(torch.tensor(train), y), torch.tensor(val), torch.tensor(test)
        self.mean, self.std = x[train].mean(), x[train].std()
        x = (x - self.mean) / self.std
        self.class_counts = torch.bincount(y[train], minlength=NUM_CLASSES)
        self.train_set = TensorDataset(x[train], y[train])
        self.val_set = TensorDataset(x[val], y[val])
        self.test_set = TensorDataset(x[test], y[test])

    def _long_tail(self, train, y):
        keep = []
        for c in range(NUM_CLASSES):
            members = train[y[train] == c]
            frac = self.hparams.imbalance ** (c / (NUM_CLASSES - 1))
            keep.append(members[: max(4, int(frac * len(members)))])
        return torch.cat(keep)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        x, y = batch
        if self.trainer.training and self.hparams.max_shift > 0:
            m = self.hparams.max_shift
            dy, dx = torch.randint(-m, m + 1, (2,)).tolist()
            x = torch.roll(x, shifts=(dy, dx), dims=(2, 3))
            x = x + 0.1 * torch.randn_like(x)
        return x, y

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=256)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=256)


class LitConvNet(L.LightningModule):
    def __init__(self, class_counts, width=24, lr=5e-3, weight_decay=1e-2, dropout=0.2):
        super().__init__()
        self.save_hyperparameters(ignore=["class_counts"])
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(8 * width, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, 10))
        nn.init.zeros_(self.head[-1].weight)
        nn.init.zeros_(self.head[-1].bias)
        counts = class_counts.float()
        weights = counts.sum() / (NUM_CLASSES * counts)
        self.register_buffer("class_weights", weights.sqrt())
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()
        self.val_cm, self.test_cm = ConfusionMatrix(), ConfusionMatrix()

    def forward(self, x):
        return self.head(self.features(x))

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y, weight=self.class_weights)
        self.train_loss.update(loss.detach(), len(y))
        return loss

    def on_train_epoch_end(self):
        if self.current_epoch % 5 == 4:
            print(f"epoch {self.current_epoch + 1:3d}  train loss {self.train_loss.compute():.4f}")
        self.train_loss.reset()

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.val_loss.update(F.cross_entropy(logits, y), len(y))
        self.val_cm.update(logits.argmax(dim=1), y)

    def on_validation_epoch_end(self):
        scores = self.val_cm.compute()
        self.log_dict({"val/loss": self.val_loss.compute(), "val/acc": scores["acc"],
                       "val/macro_recall": scores["macro_recall"]})
        if self.current_epoch % 5 == 4:
            print(f"epoch {self.current_epoch + 1:3d}  val loss {self.val_loss.compute():.4f}  "
                  f"acc {scores['acc']:.4f}  macro recall {scores['macro_recall']:.4f}")
        self.val_loss.reset()
        self.val_cm.reset()

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.test_cm.update(self(x).argmax(dim=1), y)

    def on_test_epoch_end(self):
        scores = self.test_cm.compute()
        self.log_dict({f"test/{k}": v for k, v in scores.items()})
        print("test recall per class:", [round(v, 3) for v in self.test_cm.recall_per_class().tolist()])
        self.test_cm.reset()

    def configure_optimizers(self):
        decay = [p for p in self.parameters() if p.ndim > 1]
        no_decay = [p for p in self.parameters() if p.ndim == 1]
        groups = [{"params": decay, "weight_decay": self.hparams.weight_decay},
                  {"params": no_decay, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=self.trainer.estimated_stepping_batches, pct_start=0.2)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class KeepBest(Callback):
    """Keeps the best weights in memory and puts them back when the fit ends."""

    def __init__(self, monitor="val/macro_recall", mode="max"):
        self.monitor, self.sign = monitor, 1.0 if mode == "max" else -1.0
        self.best, self.state, self.epoch = float("-inf"), None, -1

    def on_validation_end(self, trainer, module):
        value = self.sign * float(trainer.callback_metrics[self.monitor])
        if value > self.best:
            self.best, self.epoch = value, trainer.current_epoch
            self.state = copy.deepcopy(module.state_dict())

    def on_fit_end(self, trainer, module):
        module.load_state_dict(self.state)
        print(f"best {self.monitor} {self.sign * self.best:.4f} in epoch {self.epoch + 1}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()

    L.seed_everything(args.seed, verbose=False)
    dm = LongTailDigits(seed=args.seed)
    dm.setup()
    print("train class counts:", dm.class_counts.tolist())
    model = LitConvNet(dm.class_counts, lr=args.lr)
    trainer = L.Trainer(max_epochs=args.epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
                        gradient_clip_val=1.0, callbacks=[KeepBest()])
    trainer.fit(model, datamodule=dm)
    result = trainer.test(model, datamodule=dm, verbose=False)[0]
    print("FINAL " + "  ".join(f"{k} {v:.4f}" for k, v in result.items()))


if __name__ == "__main__":
    main()
