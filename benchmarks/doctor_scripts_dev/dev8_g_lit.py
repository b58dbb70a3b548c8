"""Remaining-life regression from variable-length sensor windows with a LightningModule."""
import argparse
import logging
import tempfile
import warnings

import lightning as L
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


def simulate_engine(rng, n_windows):
    """One engine: long series of 5 sensors; windows of it with the hours left at the end of each."""
    life, gain = rng.uniform(150, 400), rng.normal(1, .15, 5)
    bias = rng.normal(0, .8, 5)
    windows = []
    for _ in range(n_windows):
        used = rng.uniform(0.05, .95) * life
        n = int(rng.integers(8, 33))
        wear = (used - np.arange(n)[::-1]) / life
        noise = rng.normal(0, .25, (n, 5))
        load = np.sin(np.arange(n) * .6 + rng.uniform(0, 6))
        x = np.stack([gain[0] * wear * 2, np.exp(wear) * gain[1], load * (1 + 2 * wear), gain[3] * load, life / 150 + 0 * wear], 1)
        windows.append((torch.tensor(x + noise + bias * [.2, .2, 0, 1, 0], dtype=torch.float32), float(life - used)))
    return windows


class WindowDataset(Dataset):
    def __init__(self, windows, mean, std, y_mean, y_std):
        self.windows, self.mean, self.std, self.y_mean, self.y_std = windows, mean, std, y_mean, y_std

    def __len__(self):
        return len(self.windows)

    def __getitem__(self, i):
        x, y = self.windows[i]
        return (x - self.mean) / self.std, (y - self.y_mean) / self.y_std


def collate(batch):
    xs, ys = zip(*batch)
    lengths = torch.tensor([len(x) for x in xs])
    return pad_sequence(xs, batch_first=True), lengths, torch.tensor(ys, dtype=torch.float32)


class EngineData(L.LightningDataModule):
    def __init__(self, n_engines=80, n_windows=22, batch_size=64, seed=5):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        hp = self.hparams
        rng = np.random.default_rng(hp.seed)
        engines = [simulate_engine(rng, hp.n_windows) for _ in range(hp.n_engines)]
        rng.shuffle(engines)
        a, b = int(.7 * len(engines)), int(.85 * len(engines))
        groups = [sum(part, []) for part in (engines[:a], engines[a:b], engines[b:])]
        frames = torch.cat([x for x, _ in groups[0]])
        hours = torch.tensor([y for _, y in groups[0]])
        stats = (frames.mean(0), frames.std(0), hours.mean().item(), hours.std().item())
        self.y_mean, self.y_std = stats[2], stats[3]
        self.train_set, self.val_set, self.test_set = [WindowDataset(g, *stats) for g in groups]

    def train_dataloader(self):
        return DataLoader(self.train_set, self.hparams.batch_size, shuffle=True, collate_fn=collate)

    def val_dataloader(self):
        return DataLoader(self.val_set, self.hparams.batch_size, collate_fn=collate)

    def test_dataloader(self):
        return DataLoader(self.test_set, self.hparams.batch_size, collate_fn=collate)


class MeanAbsError:
    """What torchmetrics.MeanAbsoluteError does, without the dependency."""

    def __init__(self, scale=1.0):
        self.scale = scale
        self.reset()

    def reset(self):
        self.total, self.n = 0.0, 0

    def update(self, preds, target):
        self.total += (preds - target).abs().sum().item() * self.scale
        self.n += target.numel()

    def compute(self):
        return self.total / max(self.n, 1)


class LifeRegressor(L.LightningModule):
    def __init__(self, n_in=5, d_model=32, layers=2, lr=3e-3, weight_decay=1e-2, y_std=1.0, warmup=0.2):
        super().__init__()
        self.save_hyperparameters()
        self.proj = nn.Linear(n_in, d_model)
        self.pos = nn.Parameter(torch.randn(1, 64, d_model) * .02)
        block = nn.TransformerEncoderLayer(d_model, 4, 64, dropout=.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(d_model), nn.Linear(d_model, 32), nn.GELU(), nn.Linear(32, 1))
        self.val_mae, self.test_mae = MeanAbsError(y_std), MeanAbsError(y_std)

    def forward(self, x, lengths):
        pad = torch.arange(x.size(1), device=x.device)[None] >= lengths[:, None]
        h = self.proj(x) + self.pos[:, :x.size(1)]
        h = self.encoder(h, src_key_padding_mask=pad)
        keep = (~pad).unsqueeze(-1)
        pooled = (h * keep).sum(1) / keep.sum(1)
        return self.head(pooled).squeeze(-1)

    def training_step(self, batch, batch_idx):
        x, lengths, y = batch
        y_hat = self(x, lengths)
        loss = F.smooth_l1_loss(y_hat, y)
        self.log("train_loss", loss, on_epoch=True, on_step=False, batch_size=len(y))
        return loss

    def on_validation_epoch_start(self):
        self.val_mae.reset()

    def validation_step(self, batch, batch_idx):
        x, lengths, y = batch
        y_hat = self(x, lengths)
        self.val_mae.update(y_hat, y)
        self.log("val_loss", F.smooth_l1_loss(y_hat, y), batch_size=len(y))

    def on_validation_epoch_end(self):
        self.log("val_mae", self.val_mae.compute())
        print(f"epoch {self.current_epoch}: val_mae {self.val_mae.compute():.2f} hours")

    def test_step(self, batch, batch_idx):
        x, lengths, y = batch
        self.test_mae.update(self(x, lengths), y)

    def on_test_epoch_end(self):
        self.log("test_mae", self.test_mae.compute())

    def configure_optimizers(self):
        opt = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
        sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=self.hparams.lr, pct_start=self.hparams.warmup,
                                                    total_steps=self.trainer.estimated_stepping_batches)
        return {"optimizer": opt, "lr_scheduler": {"scheduler": sched, "interval": "step"}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--max_epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()

    L.seed_everything(args.seed, verbose=False)
    dm = EngineData()
    dm.setup()
    model = LifeRegressor(lr=args.lr, y_std=dm.y_std)
    out = tempfile.mkdtemp()
    ckpt = ModelCheckpoint(dirpath=out, monitor="val_mae", mode="min", save_top_k=1, filename="{epoch}-{val_mae:.2f}")
    stop = EarlyStopping(monitor="val_mae", mode="min", patience=args.patience)
    trainer = L.Trainer(max_epochs=args.max_epochs, accelerator="cpu", devices=1, gradient_clip_val=1.0,
                        logger=CSVLogger(out), callbacks=[ckpt, stop, LearningRateMonitor("step")],
                        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, log_every_n_steps=10)
    trainer.fit(model, datamodule=dm)

    best = LifeRegressor.load_from_checkpoint(ckpt.best_model_path)
    result = trainer.test(best, datamodule=dm, verbose=False)[0]
    naive = np.mean([abs(y - dm.y_mean) for _, y in dm.test_set.windows])
    print(f"best val_mae {float(ckpt.best_model_score):.2f}  test_mae {result['test_mae']:.2f}  mean predictor {naive:.2f}")


if __name__ == "__main__":
    main()
