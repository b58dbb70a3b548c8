"""Dates as people write them to ISO dates: GRU encoder and decoder with attention, teacher forcing, in Lightning."""

import random
from datetime import date, timedelta

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

MONTHS = "january february march april may june july august september october november december".split()
SOURCE = {char: i + 1 for i, char in enumerate("abcdefghijklmnopqrstuvwxyz0123456789 ,/")}  # 0 pads
TARGET = {char: i for i, char in enumerate("0123456789-")}
START = len(TARGET)


def written(day, rng):
    month = MONTHS[day.month - 1]
    styles = (
        f"{day.day} {month} {day.year}",
        f"{month} {day.day}, {day.year}",
        f"{day.day:02d}/{day.month:02d}/{day.year}",
    )
    return rng.choice(styles)


def make_pairs(train_count, valid_count, seed=0):
    rng = random.Random(seed)
    days = [date(1950, 1, 1) + timedelta(days=i) for i in range(36500)]
    rng.shuffle(days)  # every day is in one of the two sets at most
    pairs = []
    for day in days[: train_count + valid_count]:
        source = torch.tensor([SOURCE[char] for char in written(day, rng)])
        target = torch.tensor([TARGET[char] for char in day.isoformat()])
        pairs.append((source, target))
    return pairs[:train_count], pairs[train_count:]


def collate(pairs):
    sources, targets = zip(*pairs)
    return pad_sequence(sources, batch_first=True), torch.stack(targets)


class DateReader(L.LightningModule):
    def __init__(self, hidden=64, width=48, lr=4e-3):
        super().__init__()
        self.lr = lr
        self.source_embedding = nn.Embedding(len(SOURCE) + 1, width, padding_idx=0)
        self.encoder = nn.GRU(width, hidden, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * hidden, 2 * hidden)
        self.target_embedding = nn.Embedding(len(TARGET) + 1, width)
        self.decoder = nn.GRU(width, 2 * hidden, batch_first=True)
        self.key = nn.Linear(2 * hidden, 2 * hidden, bias=False)
        self.combine = nn.Linear(4 * hidden, width)
        self.out = nn.Linear(width, len(TARGET) + 1)
        self.dropout = nn.Dropout(0.1)

    def encode(self, source):
        mask = source != 0
        embedded = self.dropout(self.source_embedding(source))
        packed = pack_padded_sequence(embedded, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        states, last = self.encoder(packed)
        states, _ = pad_packed_sequence(states, batch_first=True, total_length=source.shape[1])
        first = torch.tanh(self.bridge(torch.cat([last[0], last[1]], 1)))
        return states, mask, first.unsqueeze(0)

    def decode(self, tokens, state, states, mask):
        output, state = self.decoder(self.target_embedding(tokens), state)
        scores = output @ self.key(states).transpose(1, 2) / output.shape[-1] ** 0.5
        attention = scores.masked_fill(~mask[:, None], -1e9).softmax(-1)
        combined = torch.tanh(self.combine(torch.cat([output, attention @ states], -1)))
        return self.out(combined), state

    def training_step(self, batch, batch_idx):
        source, target = batch
        states, mask, state = self.encode(source)
        start = torch.full_like(target[:, :1], START)
        given = torch.cat([start, target[:, :-1]], 1)  # the characters before, as they should be
        logits, _ = self.decode(given, state, states, mask)
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten())
        self.train_loss += loss.detach()
        return loss

    def on_train_epoch_start(self):
        self.train_loss = torch.zeros(())

    def on_validation_epoch_start(self):
        self.chars, self.dates, self.count = 0, 0, 0

    def validation_step(self, batch, batch_idx):
        source, target = batch
        states, mask, state = self.encode(source)
        token, written_so_far = torch.full_like(target[:, :1], START), []
        for _ in range(target.shape[1]):  # from its own characters
            logits, state = self.decode(token, state, states, mask)
            token = logits.argmax(-1)
            written_so_far.append(token)
        right = torch.cat(written_so_far, 1) == target
        self.chars += right.float().mean(1).sum().item()
        self.dates += right.all(1).sum().item()
        self.count += len(target)

    def on_validation_epoch_end(self):
        loss = self.train_loss.item() / self.trainer.num_training_batches
        chars, dates = self.chars / self.count, self.dates / self.count
        print(f"epoch {self.current_epoch + 1:2d}  loss {loss:.4f}  characters {chars:.3f}  whole dates {dates:.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        steps = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.lr, total_steps=int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


if __name__ == "__main__":
    torch.set_num_threads(1)
    L.seed_everything(3)
    train_pairs, valid_pairs = make_pairs(5000, 500)
    train_loader = DataLoader(train_pairs, batch_size=64, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid_pairs, batch_size=250, collate_fn=collate)
    trainer = L.Trainer(
        max_epochs=20,
        accelerator="cpu",
        devices=1,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(DateReader(), train_loader, valid_loader)
