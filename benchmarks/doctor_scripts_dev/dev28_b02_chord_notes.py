"""Which notes sound in a chord? Polyphonic transcription of synthetic chords with Lightning."""

import random

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

RATE, LENGTH = 6000, 3072  # about half a second
NOTES, LOWEST = 24, 130.81  # two octaves up from c
PER_NOTE, BELOW, BINS = 2, 8, 112  # bins a semitone, bins below the lowest note, all bins


def synthesize(count, seed):
    """Chords of one to four notes with overtones, dying away, and some noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(LENGTH) / RATE
    waves = np.zeros((count, LENGTH), np.float32)
    notes = np.zeros((count, NOTES), np.float32)
    for i in range(count):
        for note in rng.choice(NOTES, rng.integers(1, 5), replace=False):
            notes[i, note] = 1
            envelope = rng.uniform(0.4, 1.0) * np.exp(-rng.uniform(1, 4) * time)
            for partial, strength in enumerate((1.0, 0.5, 0.25), start=1):
                hertz = partial * LOWEST * 2 ** (note / 12)
                tone = np.sin(2 * np.pi * (hertz * time + rng.random()))
                waves[i] += strength * rng.uniform(0.7, 1.2) * envelope * tone
        waves[i] += 0.05 * rng.standard_normal(LENGTH)
    return waves, notes


def constant_q(waves):
    """Log magnitudes at frequencies a quarter tone apart."""
    hertz = LOWEST * 2 ** ((np.arange(BINS) - BELOW) / (12 * PER_NOTE))
    time = np.arange(LENGTH) / RATE
    kernels = np.hanning(LENGTH) * np.exp(-2j * np.pi * hertz[:, None] * time)
    magnitudes = np.abs(waves @ kernels.T.astype(np.complex64)) * 4 / LENGTH
    return np.log(magnitudes + 0.01).astype(np.float32)


def transpose(spectrum, notes, most=5):
    """Play the chord some semitones higher or lower, so far as all its notes stay in range."""
    sounding = notes.nonzero().flatten()
    lowest, highest = int(sounding.min()), int(sounding.max())
    shift = random.randint(max(-most, -lowest), min(most, NOTES - 1 - highest))
    return spectrum.roll(shift * PER_NOTE), notes.roll(shift)


class ChordSet(Dataset):
    def __init__(self, spectra, notes, augment=None):
        self.spectra, self.notes, self.augment = torch.as_tensor(spectra), torch.as_tensor(notes), augment

    def __len__(self):
        return len(self.spectra)

    def __getitem__(self, index):
        spectrum, notes = self.spectra[index], self.notes[index]
        if self.augment is not None:
            spectrum, notes = self.augment(spectrum, notes)
        return spectrum, notes


class Chords(L.LightningDataModule):
    def __init__(self, batch_size=64):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        train_waves, train_notes = synthesize(2400, seed=1)
        valid_waves, valid_notes = synthesize(600, seed=2)
        train_spectra, valid_spectra = constant_q(train_waves), constant_q(valid_waves)
        mean, std = train_spectra.mean(), train_spectra.std()
        self.train_set = ChordSet((train_spectra - mean) / std, train_notes, augment=transpose)
        self.valid_set = ChordSet((valid_spectra - mean) / std, valid_notes)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.valid_set, batch_size=200)


class NoteFinder(L.LightningModule):
    """Convolutions along pitch; dilated ones reach the octaves, where overtones are."""

    def __init__(self, width=32, max_lr=4e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv1d(1, width, 5, padding=2),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, width, 5, padding=24, dilation=12),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, width, 5, padding=24, dilation=12),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, 1, 1),
        )
        self.register_buffer("note_bins", BELOW + PER_NOTE * torch.arange(NOTES))

    def forward(self, spectra):
        return self.net(spectra.unsqueeze(1))[:, 0, self.note_bins]

    def training_step(self, batch, batch_idx):
        spectra, notes = batch
        loss = F.binary_cross_entropy_with_logits(self(spectra), notes)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self):
        self.right = self.wrong = self.missed = 0

    def validation_step(self, batch, batch_idx):
        spectra, notes = batch
        found, there = self(spectra) > 0, notes.bool()
        self.right += int((found & there).sum())
        self.wrong += int((found & ~there).sum())
        self.missed += int((~found & there).sum())

    def on_validation_epoch_end(self):
        f1 = 2 * self.right / max(1, 2 * self.right + self.wrong + self.missed)
        self.log("val_f1", f1)
        print(f"epoch {self.current_epoch + 1:2d}  valid F1 {f1:.4f}", flush=True)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.max_lr, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.hparams.max_lr,
            total_steps=int(self.trainer.estimated_stepping_batches),
            div_factor=100,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


if __name__ == "__main__":
    torch.set_num_threads(1)
    L.seed_everything(7)
    trainer = L.Trainer(
        max_epochs=30,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
    )
    trainer.fit(NoteFinder(), datamodule=Chords())
    print(f"final F1 {float(trainer.callback_metrics['val_f1']):.4f}")
