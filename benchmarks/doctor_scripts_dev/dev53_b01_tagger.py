"""Part-of-speech tagging with a bidirectional GRU, in the manner of the usual sequence-labeling tutorials."""

import argparse
import copy
import random
import time
from collections import Counter

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

PAD, UNK = 0, 1
TAGS = ["DET", "NOUN", "VERB", "ADJ", "ADP"]
LEXICON = {
    "DET": ["the", "a", "every"],
    "NOUN": ["dog", "cat", "river", "stone", "book", "house", "tree", "child", "bread", "light"],
    "VERB": ["sees", "eats", "finds", "takes", "breaks", "paints", "hears", "carries"],
    "ADJ": ["old", "green", "quiet", "small", "heavy", "bright"],
    "ADP": ["under", "near", "with", "behind"],
}
AMBIGUOUS = ["watches", "plays", "walks", "calls", "hunts", "plants"]  # nouns or verbs, as the place has it
FOLLOWS = {
    None: [("DET", 0.7), ("ADJ", 0.3)],
    "DET": [("NOUN", 0.7), ("ADJ", 0.3)],
    "ADJ": [("NOUN", 0.8), ("ADJ", 0.2)],
    "NOUN": [("VERB", 0.7), ("ADP", 0.3)],
    "VERB": [("DET", 0.6), ("ADP", 0.2), ("ADJ", 0.2)],
    "ADP": [("DET", 0.8), ("ADJ", 0.2)],
}


def make_sentence(rng):
    words, tags, tag = [], [], None
    for _ in range(rng.randint(5, 22)):
        names, weights = zip(*FOLLOWS[tag])
        tag = rng.choices(names, weights)[0]
        pool = AMBIGUOUS if tag in ("NOUN", "VERB") and rng.random() < 0.35 else LEXICON[tag]
        words.append(rng.choice(pool))
        tags.append(tag)
    return words, tags


class Vocab:
    def __init__(self, sentences, min_freq=2):
        counts = Counter(word for words, _ in sentences for word in words)
        self.itos = ["<pad>", "<unk>"] + sorted(w for w, c in counts.items() if c >= min_freq)
        self.stoi = {word: i for i, word in enumerate(self.itos)}

    def __len__(self):
        return len(self.itos)

    def __call__(self, words):
        return [self.stoi.get(word, UNK) for word in words]


def make_collate(vocab):
    tag_index = {tag: i for i, tag in enumerate(TAGS)}

    def collate(batch):
        batch = sorted(batch, key=lambda pair: len(pair[0]), reverse=True)
        lengths = torch.tensor([len(words) for words, _ in batch])
        words = pad_sequence([torch.tensor(vocab(w)) for w, _ in batch], batch_first=True, padding_value=PAD)
        tags = pad_sequence([torch.tensor([tag_index[t] for t in ts]) for _, ts in batch], batch_first=True)
        mask = words.ne(PAD)
        return words, lengths, tags, mask

    return collate


class BiGRUTagger(nn.Module):
    def __init__(self, vocab_size, emb_dim, hidden, n_tags, dropout):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, emb_dim, padding_idx=PAD)
        self.rnn = nn.GRU(emb_dim, hidden, batch_first=True, bidirectional=True)
        self.unembed = nn.Linear(2 * hidden, n_tags)
        self.dropout = nn.Dropout(dropout)

    def forward(self, words, lengths):
        x = self.dropout(self.embedding(words))
        packed = pack_padded_sequence(x, lengths, batch_first=True)
        out, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.unembed(self.dropout(out))


def masked_loss(logits, tags, mask):
    losses = F.cross_entropy(logits.flatten(0, 1), tags.flatten(), reduction="none")
    mask = mask.flatten().float()
    return (losses * mask).sum() / mask.sum()


def train_epoch(model, iterator, optimizer, clip):
    model.train()
    total, tokens = 0.0, 0
    for words, lengths, tags, mask in iterator:
        optimizer.zero_grad()
        loss = masked_loss(model(words, lengths), tags, mask)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        n = int(mask.sum())
        total += loss.item() * n
        tokens += n
    return total / tokens


@torch.no_grad()
def evaluate(model, iterator):
    model.eval()
    correct, tokens = 0, 0
    for words, lengths, tags, mask in iterator:
        predicted = model(words, lengths).argmax(dim=-1)
        correct += int((predicted.eq(tags) & mask).sum())
        tokens += int(mask.sum())
    return correct / tokens


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--clip", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1234)
    args = parser.parse_args()

    random.seed(args.seed)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    sentences = [make_sentence(rng) for _ in range(1000)]
    train_data, valid_data = sentences[:800], sentences[800:]
    vocab = Vocab(train_data)
    collate = make_collate(vocab)
    train_iter = DataLoader(train_data, batch_size=args.batch_size, shuffle=True, collate_fn=collate)
    valid_iter = DataLoader(valid_data, batch_size=100, collate_fn=collate)

    model = BiGRUTagger(len(vocab), 32, 32, len(TAGS), 0.2)
    embedding = [p for n, p in model.named_parameters() if n.startswith("embedding")]
    others = [p for n, p in model.named_parameters() if not n.startswith("embedding")]
    optimizer = torch.optim.Adam([{"params": embedding, "lr": 2 * args.lr}, {"params": others}], lr=args.lr)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.3, patience=1)

    best_acc, best_state = 0.0, None
    for epoch in range(args.epochs):
        start = time.time()
        train_loss = train_epoch(model, train_iter, optimizer, args.clip)
        valid_acc = evaluate(model, valid_iter)
        scheduler.step(valid_acc)
        if valid_acc > best_acc:
            best_acc, best_state = valid_acc, copy.deepcopy(model.state_dict())
        print(f"Epoch {epoch + 1:02} | {time.time() - start:.1f}s | loss {train_loss:.3f} | valid acc {valid_acc:.2%}")
    model.load_state_dict(best_state)
    print(f"best valid acc {best_acc:.2%}")


if __name__ == "__main__":
    main()
