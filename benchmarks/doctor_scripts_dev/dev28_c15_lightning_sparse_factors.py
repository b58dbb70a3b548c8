"""Ratings of books by readers: sparse embeddings and a dense part, each with its optimizer, stepped by hand."""
import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

READERS, BOOKS, SEEN = 400, 200, 24000


def make_ratings(seed=0):
    """Each pair of reader and book occurs once at most, so that no pair is on both sides of the split."""
    generator = torch.Generator().manual_seed(seed)
    taste, topic = torch.randn(READERS, 3, generator=generator), torch.randn(BOOKS, 3, generator=generator) / 3**0.5
    mild, liked = 0.3 * torch.randn(READERS, generator=generator), 0.3 * torch.randn(BOOKS, generator=generator)
    pairs = torch.randperm(READERS * BOOKS, generator=generator)[:SEEN]
    reader, book = pairs // BOOKS, pairs % BOOKS
    rating = 3 + mild[reader] + liked[book] + (taste[reader] * topic[book]).sum(1)
    return reader, book, rating + 0.3 * torch.randn(SEEN, generator=generator)


class Factors(L.LightningModule):
    def __init__(self, mean, spread, width=6):
        super().__init__()
        self.automatic_optimization = False
        self.mean, self.spread = mean, spread
        self.reader, self.book = nn.Embedding(READERS, width, sparse=True), nn.Embedding(BOOKS, width, sparse=True)
        self.reader_bias, self.book_bias = nn.Embedding(READERS, 1, sparse=True), nn.Embedding(BOOKS, 1, sparse=True)
        self.mlp = nn.Sequential(nn.Linear(2 * width, 16), nn.ReLU(), nn.Linear(16, 1))
        for table in (self.reader, self.book):
            nn.init.normal_(table.weight, std=0.2)
        for table in (self.reader_bias, self.book_bias):
            nn.init.zeros_(table.weight)

    def forward(self, reader, book):
        u, v = self.reader(reader), self.book(book)
        dot = (u * v).sum(1)
        bias = self.reader_bias(reader).squeeze(1) + self.book_bias(book).squeeze(1)
        return dot + bias + self.mlp(torch.cat([u, v], 1)).squeeze(1)

    def training_step(self, batch, index):
        reader, book, rating = batch
        sparse, dense = self.optimizers()
        loss = F.mse_loss(self(reader, book), (rating - self.mean) / self.spread)
        sparse.zero_grad()
        dense.zero_grad()
        self.manual_backward(loss)
        sparse.step()
        dense.step()

    def on_train_epoch_end(self):
        for scheduler in self.lr_schedulers():
            scheduler.step()

    def on_validation_epoch_start(self):
        self.squares, self.count = 0.0, 0

    def validation_step(self, batch, index):
        reader, book, rating = batch
        guess = self(reader, book) * self.spread + self.mean
        self.squares += (guess - rating).pow(2).sum().item()
        self.count += len(rating)

    def on_validation_epoch_end(self):
        print(f"epoch {self.current_epoch} validation RMSE {(self.squares / self.count) ** 0.5:.4f} stars")

    def configure_optimizers(self):
        tables = [self.reader, self.book, self.reader_bias, self.book_bias]
        sparse = torch.optim.SparseAdam([p for table in tables for p in table.parameters()], lr=0.01)
        dense = torch.optim.AdamW(self.mlp.parameters(), lr=2e-3, weight_decay=0.01)
        return [sparse, dense], [torch.optim.lr_scheduler.ExponentialLR(each, 0.85) for each in (sparse, dense)]


def main():
    L.seed_everything(16)
    torch.set_num_threads(1)
    reader, book, rating = make_ratings()
    cut = 20000
    train = TensorDataset(reader[:cut], book[:cut], rating[:cut])
    valid = TensorDataset(reader[cut:], book[cut:], rating[cut:])
    mean, spread = rating[:cut].mean().item(), rating[:cut].std().item()
    print(f"always the mean: RMSE {(rating[cut:] - mean).pow(2).mean().sqrt():.4f}; the noise alone: 0.3")
    trainer = L.Trainer(
        max_epochs=14, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )
    trainer.fit(Factors(mean, spread), DataLoader(train, batch_size=256, shuffle=True), DataLoader(valid, batch_size=500))


if __name__ == "__main__":
    main()
