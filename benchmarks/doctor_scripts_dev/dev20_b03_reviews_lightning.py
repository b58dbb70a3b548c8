"""Sentiment of short reviews: embedding, bidirectional GRU, PyTorch Lightning. The reviews are made up by a generator."""

import random
from collections import Counter

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

FILLERS = (
    "honestly we watched this last evening with friends at home and then again on monday because my sister "
    "wanted to see it for two hours while everyone else talked about dinner"
).split()
SUBJECTS = "plot music acting ending camera dialogue cast script".split()
POSITIVE = "great lovely brilliant funny moving superb clever charming".split()
NEGATIVE = "awful boring clumsy dull stupid weak painful terrible".split()
NEUTRAL = "long loud short british modern quiet colorful old".split()
LABELS = ["negative", "neutral", "positive"]


def make_reviews(count, seed):
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        label = rng.choice(LABELS)
        negated = rng.random() < 0.4
        if label == "neutral":
            words = NEUTRAL
        else:
            words = POSITIVE if (label == "positive") != negated else NEGATIVE
        phrase = ["the", rng.choice(SUBJECTS), "was"] + ["not"] * negated + [rng.choice(words)]
        before = rng.choices(FILLERS, k=rng.randint(2, 7))
        after = rng.choices(FILLERS, k=rng.randint(2, 7))
        rows.append((" ".join(before + phrase + after), label))
    return rows


class Vocab:
    def __init__(self, rows):
        counts = Counter(word for text, _ in rows for word in text.split())
        self.itos = ["<pad>", "<unk>"] + [word for word, _ in counts.most_common()]
        self.stoi = {word: i for i, word in enumerate(self.itos)}

    def __len__(self):
        return len(self.itos)

    def encode(self, text):
        return torch.tensor([self.stoi.get(word, 1) for word in text.split()])


class ReviewDataset(Dataset):
    def __init__(self, rows, vocab):
        self.items = [(vocab.encode(text), LABELS.index(label)) for text, label in rows]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def collate(batch):
    # packed sequences want the longest first
    batch = sorted(batch, key=lambda item: len(item[0]), reverse=True)
    tokens = [item[0] for item in batch]
    labels = torch.tensor([item[1] for item in batch])
    lengths = torch.tensor([len(t) for t in tokens])
    return pad_sequence(tokens, batch_first=True), lengths, labels


class ReviewClassifier(L.LightningModule):
    def __init__(self, vocab_size, val_size, embed_dim=48, hidden=64, lr=2e-3):
        super().__init__()
        self.save_hyperparameters()
        self.embedding = nn.Embedding(vocab_size, embed_dim, padding_idx=0)
        self.gru = nn.GRU(embed_dim, hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(2 * hidden, len(LABELS))
        self.losses = []
        self.correct = 0

    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(self.embedding(tokens), lengths.cpu(), batch_first=True)
        _, hidden = self.gru(packed)
        features = torch.cat([hidden[0], hidden[1]], dim=1)
        return self.head(self.dropout(features))

    def on_train_epoch_start(self):
        self.losses = []

    def training_step(self, batch, batch_idx):
        tokens, lengths, labels = batch
        loss = F.cross_entropy(self(tokens, lengths), labels)
        self.losses.append(loss.item())
        self.log("train_loss", loss, batch_size=len(labels))
        return loss

    def on_validation_epoch_start(self):
        self.correct = 0

    def validation_step(self, batch, batch_idx):
        tokens, lengths, labels = batch
        logits = self(tokens, lengths)
        self.correct += (logits.argmax(dim=1) == labels).sum().item()
        self.log("val_loss", F.cross_entropy(logits, labels), batch_size=len(labels))

    def on_validation_epoch_end(self):
        accuracy = self.correct / self.hparams.val_size
        loss = sum(self.losses) / len(self.losses)
        print(f"epoch {self.current_epoch}: train loss {loss:.4f}, val accuracy {accuracy:.4f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=0.01)
        steps = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(1)
    torch.set_num_threads(1)
    train_rows, val_rows = make_reviews(4000, seed=1), make_reviews(800, seed=2)
    vocab = Vocab(train_rows)
    train_set = ReviewDataset(train_rows, vocab)
    val_set = ReviewDataset(val_rows, vocab)
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(val_set, batch_size=64, collate_fn=collate)

    model = ReviewClassifier(len(vocab), len(val_set))
    trainer = L.Trainer(
        max_epochs=10,
        accelerator="cpu",
        devices=1,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, train_loader, val_loader)


if __name__ == "__main__":
    main()
