"""Named entity tagging with a bidirectional LSTM. Internal template: config dataclass, dataset, model, Trainer."""

from __future__ import annotations

import copy
import logging
import random
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
logger = logging.getLogger("tagger")

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
TAG2ID = {tag: index for index, tag in enumerate(TAGS)}
IGNORE = -100
PAD, UNK = 0, 1


@dataclass
class TaggerConfig:
    embedding_dim: int = 32
    hidden_dim: int = 48
    dropout: float = 0.2
    batch_size: int = 32
    learning_rate: float = 2e-3
    max_grad_norm: float = 5.0
    epochs: int = 12
    n_train: int = 2400
    n_valid: int = 400
    n_test: int = 400
    seed: int = 13


def make_sentence(rng: random.Random) -> tuple[list[str], list[str]]:
    """Names are ambiguous: only the words before (or, for ORG, after) tell what they are."""
    words: list[str] = []
    tags: list[str] = []
    for _ in range(rng.randint(3, 14)):
        kind = rng.choices(["", "PER", "LOC", "ORG"], [0.55, 0.15, 0.15, 0.15])[0]
        if kind:
            count = rng.randint(1, 2)
            if kind == "PER":
                words.append(rng.choice(["mr", "mrs", "dr"]))
                tags.append("O")
            if kind == "LOC":
                words.append(rng.choice(["in", "near", "to"]))
                tags.append("O")
            words += [f"name{rng.randrange(60)}" for _ in range(count)]
            tags += [f"B-{kind}"] + [f"I-{kind}"] * (count - 1)
            if kind == "ORG":
                words.append(rng.choice(["inc", "ltd"]))
                tags.append("O")
        words.append(f"word{rng.randrange(120)}")
        tags.append("O")
    return words, tags


def build_vocab(sentences) -> dict[str, int]:
    vocab = {"<pad>": PAD, "<unk>": UNK}
    for words, _ in sentences:
        for word in words:
            vocab.setdefault(word, len(vocab))
    return vocab


class TaggingDataset(Dataset):
    def __init__(self, sentences, vocab: dict[str, int]):
        self.items = [
            (torch.tensor([vocab.get(w, UNK) for w in words]), torch.tensor([TAG2ID[t] for t in tags]))
            for words, tags in sentences
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int):
        return self.items[index]


def collate(batch):
    words, tags = zip(*batch)
    lengths = torch.tensor([len(w) for w in words])
    padded_words = pad_sequence(words, batch_first=True, padding_value=PAD)
    padded_tags = pad_sequence(tags, batch_first=True, padding_value=IGNORE)
    return padded_words, padded_tags, lengths


class BiLstmTagger(nn.Module):
    def __init__(self, vocab_size: int, config: TaggerConfig):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.embedding_dim, padding_idx=PAD)
        self.dropout = nn.Dropout(config.dropout)
        self.lstm = nn.LSTM(config.embedding_dim, config.hidden_dim, batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(2 * config.hidden_dim, len(TAGS))

    def forward(self, words: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        embedded = self.dropout(self.embedding(words))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=words.size(1))
        return self.classifier(self.dropout(states))


def spans(tag_ids: list[int]) -> set[tuple[int, int, str]]:
    found, start, kind = set(), None, ""
    for position, tag in enumerate([TAGS[t] for t in tag_ids] + ["O"]):
        if start is not None and tag != f"I-{kind}":
            found.add((start, position, kind))
            start = None
        if tag.startswith("B-"):
            start, kind = position, tag[2:]
    return found


class Trainer:
    def __init__(self, model: nn.Module, config: TaggerConfig, train_loader: DataLoader, valid_loader: DataLoader):
        self.model, self.config = model, config
        self.train_loader, self.valid_loader = train_loader, valid_loader
        self.optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
        self.criterion = nn.CrossEntropyLoss(ignore_index=IGNORE)
        self.best_score, self.best_state = float("-inf"), None

    def compute_loss(self, logits: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
        return self.criterion(logits.flatten(0, 1), tags.flatten())

    def train_epoch(self) -> float:
        self.model.train()
        total = 0.0
        for words, tags, lengths in self.train_loader:
            self.optimizer.zero_grad()
            loss = self.compute_loss(self.model(words, lengths), tags)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
            self.optimizer.step()
            total += loss.item()
        return total / len(self.train_loader)

    @torch.no_grad()
    def evaluate(self, loader: DataLoader) -> dict[str, float]:
        self.model.eval()
        loss_sum, n_correct, n_tokens, tp, n_pred, n_gold = 0.0, 0, 0, 0, 0, 0
        for words, tags, lengths in loader:
            logits = self.model(words, lengths)
            predicted = logits.argmax(-1)
            mask = tags != IGNORE
            count = int(mask.sum())
            loss_sum += self.compute_loss(logits, tags).item() * count
            n_correct += int(((predicted == tags) & mask).sum())
            n_tokens += count
            for row, length in enumerate(lengths.tolist()):
                guess, gold = spans(predicted[row, :length].tolist()), spans(tags[row, :length].tolist())
                tp, n_pred, n_gold = tp + len(guess & gold), n_pred + len(guess), n_gold + len(gold)
        return {"loss": loss_sum / n_tokens, "accuracy": n_correct / n_tokens, "f1": 2 * tp / max(1, n_pred + n_gold)}

    def fit(self) -> None:
        for epoch in range(1, self.config.epochs + 1):
            train_loss = self.train_epoch()
            metrics = self.evaluate(self.valid_loader)
            logger.info(
                "epoch %d train_loss %.4f valid_loss %.4f accuracy %.4f f1 %.4f",
                epoch, train_loss, metrics["loss"], metrics["accuracy"], metrics["f1"],
            )
            score = metrics["f1"]
            if score > self.best_score:
                self.best_score, self.best_state = score, copy.deepcopy(self.model.state_dict())
        self.model.load_state_dict(self.best_state)


def main() -> None:
    config = TaggerConfig()
    torch.manual_seed(config.seed)
    rng = random.Random(config.seed)
    train_sentences = [make_sentence(rng) for _ in range(config.n_train)]
    valid_sentences = [make_sentence(rng) for _ in range(config.n_valid)]
    test_sentences = [make_sentence(rng) for _ in range(config.n_test)]
    vocab = build_vocab(train_sentences)
    train_set = TaggingDataset(train_sentences, vocab)
    valid_set = TaggingDataset(valid_sentences, vocab)
    test_set = TaggingDataset(test_sentences, vocab)
    train_loader = DataLoader(train_set, batch_size=config.batch_size, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid_set, batch_size=100, collate_fn=collate)
    test_loader = DataLoader(test_set, batch_size=100, collate_fn=collate)

    trainer = Trainer(BiLstmTagger(len(vocab), config), config, train_loader, valid_loader)
    trainer.fit()
    logger.info("test: %s", trainer.evaluate(test_loader))


if __name__ == "__main__":
    main()
