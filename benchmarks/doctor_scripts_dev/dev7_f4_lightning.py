"""LightningModule + Trainer: classify short vibration recordings of a machine (5 states)."""
import argparse
import tempfile
import warnings

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings('ignore')
STATES = ['normal', 'imbalance', 'bearing', 'looseness', 'off']


def record(rng, state, n=128):
    """Two accelerometer channels; what differs between states is the content, not the level."""
    t = np.arange(n) / n
    f, ph = rng.uniform(9, 13), rng.uniform(0, 2 * np.pi)
    base = np.sin(2 * np.pi * f * t + ph)
    if state == 0:
        x = base + 0.3 * np.sin(4 * np.pi * f * t)
    elif state == 1:
        x = 1.6 * base
    elif state == 2:
        x = base + 1.3 * (np.sin(2 * np.pi * 4.7 * f * t) * (np.sin(2 * np.pi * f / 2 * t) > 0.6))
    elif state == 3:
        x = base + 0.9 * np.sign(np.sin(np.pi * f * t + ph))
    else:
        x = 0.4 * rng.normal(size=n)
    x = np.stack([x, np.roll(x, 5) * 0.7]) * rng.uniform(0.6, 1.4)
    return x + rng.normal(0, 0.5, (2, n))


class VibrationData(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        rng = np.random.default_rng(3)
        y = rng.integers(0, len(STATES), 1500)
        x = np.stack([record(rng, s) for s in y]).astype('float32')
        train, val, test = x[:1000], x[1000:1250], x[1250:]
        mean, std = train.mean((0, 2), keepdims=True), train.std((0, 2), keepdims=True)
        y = torch.from_numpy(y)

        def scaled(part):
            return torch.from_numpy((part - mean) / std)

        self.train_set = TensorDataset(scaled(train), y[:1000])
        self.val_set = TensorDataset(scaled(val), y[1000:1250])
        self.test_set = TensorDataset(scaled(test), y[1250:])

    def train_dataloader(self):
        return DataLoader(self.train_set, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, self.batch_size)

    def test_dataloader(self):
        return DataLoader(self.test_set, self.batch_size)


class LitClassifier(L.LightningModule):
    def __init__(self, lr=0.05, width=24, epochs=8):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv1d(2, width, 9, padding=4), nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(width, 2 * width, 5, padding=2), nn.BatchNorm1d(2 * width), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(2 * width, 2 * width, 5, padding=2), nn.BatchNorm1d(2 * width), nn.ReLU(),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(2 * width, len(STATES)))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log('train_loss', loss, on_step=False, on_epoch=True)
        return loss

    def evaluate(self, batch, stage):
        x, y = batch
        logits = self(x)
        self.log(f'{stage}_loss', F.cross_entropy(logits, y), batch_size=len(y))
        self.log(f'{stage}_acc', (logits.argmax(dim=1) == y).float().mean(), batch_size=len(y))

    def validation_step(self, batch, batch_idx):
        self.evaluate(batch, 'val')

    def test_step(self, batch, batch_idx):
        self.evaluate(batch, 'test')

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9, weight_decay=5e-4)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.hparams.epochs)
        return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': scheduler, 'interval': 'epoch'}}


class PrintMetrics(Callback):
    """A line per epoch instead of the progress bar."""

    def on_train_epoch_end(self, trainer, pl_module):
        m = trainer.callback_metrics
        print(f"epoch {trainer.current_epoch}: " + '  '.join(f'{k} {float(v):.4f}' for k, v in sorted(m.items())))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--epochs', type=int, default=8)
    parser.add_argument('--lr', type=float, default=0.05)
    parser.add_argument('--batch_size', type=int, default=32)
    args = parser.parse_args()

    L.seed_everything(11)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor='val_acc', mode='max', save_top_k=1)
        trainer = L.Trainer(
            max_epochs=args.epochs,
            accelerator='cpu',
            devices=1,
            logger=False,
            gradient_clip_val=1.0,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[checkpoint, PrintMetrics()],
        )
        data = VibrationData(args.batch_size)
        trainer.fit(LitClassifier(args.lr, epochs=args.epochs), datamodule=data)

        best = LitClassifier.load_from_checkpoint(checkpoint.best_model_path)
        result = trainer.test(best, datamodule=data, verbose=False)[0]
        print('test:', {k: round(v, 4) for k, v in result.items()})


if __name__ == '__main__':
    main()
