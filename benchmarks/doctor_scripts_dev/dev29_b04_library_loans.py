"""Bayesian personalized ranking of library loans (implicit feedback), with Lightning."""

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

READERS, BOOKS, SHELVES = 2000, 300, 15


def loans(seed=5):
    """What each reader borrowed: mostly from one shelf, some from a second, famous books more often."""
    rng = np.random.default_rng(seed)
    shelf = rng.permutation(np.arange(BOOKS) % SHELVES)
    fame = rng.gamma(4.0, size=BOOKS)
    histories = []
    for _ in range(READERS):
        taste = np.full(SHELVES, 0.05 / SHELVES)
        first, second = rng.choice(SHELVES, size=2, replace=False)
        taste[first] += 0.75
        taste[second] += 0.20
        chance = taste[shelf] * fame
        chance = chance / chance.sum()
        books = rng.choice(BOOKS, size=int(rng.integers(10, 17)), replace=False, p=chance)
        histories.append(rng.permutation(books).tolist())
    return histories


def leave_one_out(histories):
    """Everything but the last loan is for training; the last one is to be foretold."""
    seen = torch.zeros(READERS, BOOKS, dtype=torch.bool)
    train_pairs, held_out = [], []
    for reader, history in enumerate(histories):
        past, last = history[:-1], history[-1]
        seen[reader, past] = True
        train_pairs += [(reader, book) for book in past]
        held_out.append((reader, last))
    return seen, torch.tensor(train_pairs), torch.tensor(held_out)


class BPR(L.LightningModule):
    def __init__(self, seen, dim=16, lr=3e-3):
        super().__init__()
        self.lr = lr
        self.register_buffer("seen", seen)
        self.reader_table = nn.Embedding(READERS, dim)
        self.book_table = nn.Embedding(BOOKS, dim)
        self.book_bias = nn.Embedding(BOOKS, 1)
        for table in (self.reader_table, self.book_table):
            nn.init.normal_(table.weight, std=0.1)
        nn.init.zeros_(self.book_bias.weight)
        self.losses, self.ranks = [], []

    def score(self, reader, book):
        match = (self.reader_table(reader) * self.book_table(book)).sum(dim=-1)
        return match + self.book_bias(book).squeeze(-1)

    def sample_negatives(self, reader):
        """Books that the reader did not borrow."""
        negative = torch.randint(0, BOOKS, reader.shape)
        clash = self.seen[reader, negative]
        while clash.any():
            negative[clash] = torch.randint(0, BOOKS, (int(clash.sum()),))
            clash = self.seen[reader, negative]
        return negative

    def training_step(self, batch, batch_idx):
        reader, book = batch
        negative = self.sample_negatives(reader)
        margin = self.score(reader, book) - self.score(reader, negative)
        loss = -F.logsigmoid(margin).mean()
        self.losses.append(loss.detach())
        return loss

    def validation_step(self, batch, batch_idx):
        reader, book = batch
        scores = self.reader_table(reader) @ self.book_table.weight.T + self.book_bias.weight.squeeze(-1)
        scores = scores.masked_fill(self.seen[reader], float("-inf"))  # nobody borrows a book twice
        own = scores.gather(1, book.unsqueeze(1))
        self.ranks.append((scores > own).sum(dim=1) + 1)

    def on_validation_epoch_end(self):
        rank = torch.cat(self.ranks).float()
        train_loss = torch.stack(self.losses).mean().item()
        hit, mrr = (rank <= 10).float().mean().item(), (1 / rank).mean().item()
        print(f"epoch {self.current_epoch:2d}  loss {train_loss:.4f}  hit@10 {hit:.3f}  mrr {mrr:.3f}", flush=True)
        self.ranks.clear()
        self.losses.clear()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr, weight_decay=1e-5)


def main():
    torch.set_num_threads(1)
    L.seed_everything(0)
    seen, train_pairs, held_out = leave_one_out(loans())
    train_set = TensorDataset(train_pairs[:, 0], train_pairs[:, 1])
    valid_set = TensorDataset(held_out[:, 0], held_out[:, 1])
    trainer = L.Trainer(
        max_epochs=30,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(
        BPR(seen),
        DataLoader(train_set, batch_size=256, shuffle=True),
        DataLoader(valid_set, batch_size=500),
    )


if __name__ == "__main__":
    main()
