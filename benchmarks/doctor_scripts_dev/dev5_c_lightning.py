"""Order-of-events classifier: LightningModule + LightningDataModule."""
import itertools
import logging
import os
import tempfile
import warnings

import lightning as L
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", ".*does not have many workers.*")

PAD, VOCAB, MAX_LEN = 0, 16, 16
CLASSES = list(itertools.permutations((1, 2, 3)))  # order in which the three events occur


def synthesize(label, rng):
    length = rng.integers(8, MAX_LEN + 1)
    tokens = rng.integers(4, VOCAB, length)
    tokens[np.sort(rng.choice(length, 3, replace=False))] = CLASSES[label]
    return np.pad(tokens, (0, MAX_LEN - length)), length


class EventDataModule(L.LightningDataModule):
    def __init__(self, batch_size: int = 64, counts=(800, 600, 500, 400, 300, 200), seed: int = 0):
        super().__init__()
        self.save_hyperparameters()

    def _make(self, counts, rng):
        labels = np.repeat(np.arange(len(CLASSES)), counts)
        tokens, lengths = zip(*(synthesize(y, rng) for y in labels))
        return TensorDataset(torch.tensor(np.stack(tokens)), torch.tensor(np.array(lengths)), torch.tensor(labels))

    def setup(self, stage=None):
        rng = np.random.default_rng(self.hparams.seed)
        self.train_set = self._make(self.hparams.counts, rng)
        self.val_set = self._make([80] * len(CLASSES), rng)

    def train_dataloader(self):
        labels = self.train_set.tensors[2]
        class_weights = 1.0 / torch.bincount(labels).double()
        sampler = WeightedRandomSampler(class_weights[labels], num_samples=len(labels))
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, sampler=sampler)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=self.hparams.batch_size)

    def test_dataloader(self):
        return self.val_dataloader()


class EventClassifier(L.LightningModule):
    def __init__(self, dim: int = 32, hidden: int = 48, layers: int = 2, dropout: float = 0.1, lr: float = 4e-3):
        super().__init__()
        self.save_hyperparameters()
        self.embed = nn.Embedding(VOCAB, dim, padding_idx=PAD)
        self.rnns = nn.ModuleList(
            [nn.GRU(dim if i == 0 else hidden, hidden, batch_first=True) for i in range(layers)]
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, len(CLASSES))

    def forward(self, tokens, lengths):
        x = self.embed(tokens)
        for rnn in self.rnns:
            x, _ = rnn(x)
            x = self.dropout(x)
        last = x[torch.arange(len(x), device=x.device), lengths - 1]
        return self.head(last)

    def training_step(self, batch, batch_idx):
        tokens, lengths, labels = batch
        logits = self(tokens, lengths)
        loss = F.cross_entropy(logits, labels)
        self.log("train_loss", loss)
        return loss

    def _shared_eval(self, batch, prefix):
        tokens, lengths, labels = batch
        logits = self(tokens, lengths)
        loss = F.cross_entropy(logits, labels)
        acc = (logits.argmax(dim=-1) == labels).float().mean()
        self.log_dict({f"{prefix}_loss": loss, f"{prefix}_acc": acc}, batch_size=len(labels))

    def validation_step(self, batch, batch_idx):
        self._shared_eval(batch, "val")

    def test_step(self, batch, batch_idx):
        self._shared_eval(batch, "test")

    def on_validation_epoch_end(self):
        metrics = self.trainer.callback_metrics
        print(f"epoch {self.current_epoch}: val_loss={metrics['val_loss']:.4f} val_acc={metrics['val_acc']:.4f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-4)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    L.seed_everything(3, verbose=False)
    datamodule = EventDataModule()
    model = EventClassifier()
    trainer_args = dict(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False)
    trainer = L.Trainer(max_epochs=10, gradient_clip_val=1.0, num_sanity_val_steps=0, **trainer_args)
    trainer.fit(model, datamodule=datamodule)

    # evaluate what would be shipped: the weights as they come back from the checkpoint
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "final.ckpt")
        trainer.save_checkpoint(path)
        shipped = EventClassifier.load_from_checkpoint(path)
    results = L.Trainer(**trainer_args).test(shipped, datamodule=datamodule, verbose=False)[0]
    print(f"shipped model: loss={results['test_loss']:.4f} acc={results['test_acc']:.4f}")


if __name__ == "__main__":
    main()
