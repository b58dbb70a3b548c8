"""BiGRU sequence tagger (BIO named entities) with packed sequences.

Sentences come from a small grammar with ambiguous names: tags depend on the words around.
"""
import argparse
import copy
import random
import time
from collections import Counter

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

PAD, UNK = "<pad>", "<unk>"
IGNORE = -100


def make_word(rng, n):
    return "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(n))

def make_lexicon(rng):
    shared = [make_word(rng, 3) for _ in range(150)]
    return {
        "PER": shared + [make_word(rng, 3) for _ in range(200)],
        "LOC": shared + [make_word(rng, 3) for _ in range(150)],
        "ORG": shared + [make_word(rng, 4) for _ in range(150)],
        "NOISE": shared[:40] + [make_word(rng, 2) for _ in range(150)],
    }


TEMPLATES = [
    "NOISE PER met PER in LOC",
    "PER said that ORG will leave LOC NOISE",
    "the head of ORG , PER , flew to LOC",
    "shares of ORG rose after NOISE news from LOC",
    "in LOC NOISE NOISE people saw PER",
    "ORG hired PER",
    "NOISE NOISE the NOISE was NOISE",
    "PER left ORG for ORG",
    "ministers from LOC and LOC met NOISE NOISE near LOC",
    "NOISE PER thanked NOISE NOISE",
]


def sample_entity(kind, lex, rng):
    n = {"PER": rng.choice([1, 2, 2]), "LOC": rng.choice([1, 1, 2]), "ORG": rng.choice([1, 2, 3])}[kind]
    words = [rng.choice(lex[kind]) for _ in range(n)]
    return words, ["B-" + kind] + ["I-" + kind] * (n - 1)


def sample_sentence(lex, rng):
    words, tags = [], []
    for clause in range(rng.choice([1, 1, 2, 3])):
        if clause:
            words.append(rng.choice(["and", "while", ";"]))
            tags.append("O")
        for slot in rng.choice(TEMPLATES).split():
            if slot in ("PER", "LOC", "ORG"):
                w, t = sample_entity(slot, lex, rng)
                words += w
                tags += t
            else:
                words.append(rng.choice(lex["NOISE"]) if slot == "NOISE" else slot)
                tags.append("O")
    return words, tags


def build_vocab(sentences, min_freq=2):
    counts = Counter(w for words, _ in sentences for w in words)
    itos = [PAD, UNK] + [w for w, c in counts.most_common() if c >= min_freq]
    return {w: i for i, w in enumerate(itos)}


class TaggingDataset(Dataset):
    def __init__(self, sentences, vocab, tag2id, word_dropout=0.0):
        self.unk, self.word_dropout = vocab[UNK], word_dropout
        self.items = [
            (torch.tensor([vocab.get(w, self.unk) for w in words]), torch.tensor([tag2id[t] for t in tags]))
            for words, tags in sentences
        ]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, idx):
        x, y = self.items[idx]
        if self.word_dropout > 0:
            drop = torch.rand(len(x)) < self.word_dropout
            x = x.masked_fill(drop, self.unk)
        return x, y


def collate(batch):
    xs, ys = zip(*batch)
    lengths = torch.tensor([len(x) for x in xs])
    x = pad_sequence(xs, batch_first=True, padding_value=0)
    y = pad_sequence(ys, batch_first=True, padding_value=IGNORE)
    return x, y, lengths


class BiGRUTagger(nn.Module):
    def __init__(self, vocab_size, num_tags, emb_dim=64, hidden=64, dropout=0.3, pad_idx=0):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, emb_dim, padding_idx=pad_idx)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(emb_dim, hidden, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * hidden, num_tags)

    def forward(self, x, lengths):
        emb = self.dropout(self.embedding(x))
        packed = pack_padded_sequence(emb, lengths.cpu(), batch_first=True, enforce_sorted=False)
        out, _ = self.gru(packed)
        out, _ = pad_packed_sequence(out, batch_first=True, total_length=x.size(1))
        return self.fc(self.dropout(out))


def extract_spans(tags):
    """(start, end, type) of each entity in a BIO sequence; end is exclusive."""
    spans, start, kind = [], None, None
    for i, tag in enumerate(tags + ["O"]):
        inside = tag.startswith("I-") and kind == tag[2:]
        if start is not None and not inside:
            spans.append((start, i, kind))
            start, kind = None, None
        if tag.startswith("B-") or (tag.startswith("I-") and start is None):
            start, kind = i, tag[2:]
    return spans


@torch.no_grad()
def evaluate(model, loader, criterion, id2tag):
    model.eval()
    gold, pred = set(), set()
    loss_sum, correct, total, sent_id = 0.0, 0, 0, 0
    for x, y, lengths in loader:
        logits = model(x, lengths)
        mask = y != IGNORE
        n = mask.sum().item()
        loss_sum += criterion(logits.flatten(0, 1), y.flatten()).item() * n
        hyp = logits.argmax(-1)
        correct += ((hyp == y) & mask).sum().item()
        total += n
        for i, length in enumerate(lengths.tolist()):
            g = [id2tag[k] for k in y[i, :length].tolist()]
            p = [id2tag[k] for k in hyp[i, :length].tolist()]
            gold |= {(sent_id, *s) for s in extract_spans(g)}
            pred |= {(sent_id, *s) for s in extract_spans(p)}
            sent_id += 1
    precision, recall = len(gold & pred) / max(len(pred), 1), len(gold & pred) / max(len(gold), 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-12)
    return {"loss": loss_sum / total, "acc": correct / total, "p": precision, "r": recall, "f1": f1}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--word-dropout", type=float, default=0.08)
    parser.add_argument("--seed", type=int, default=13)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)

    lex = make_lexicon(rng)
    sentences = [sample_sentence(lex, rng) for _ in range(2000)]
    train_s, val_s, test_s = sentences[:1200], sentences[1200:1600], sentences[1600:]

    vocab = build_vocab(train_s)
    tags = sorted({t for _, ts in train_s for t in ts})
    print(f"{len(vocab)} words, {len(tags)} tags")
    tag2id = {t: i for i, t in enumerate(tags)}
    id2tag = {i: t for t, i in tag2id.items()}

    train_set = TaggingDataset(train_s, vocab, tag2id, word_dropout=args.word_dropout)
    val_set = TaggingDataset(val_s, vocab, tag2id)
    test_set = TaggingDataset(test_s, vocab, tag2id)
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(val_set, 100, collate_fn=collate)
    test_loader = DataLoader(test_set, 100, collate_fn=collate)

    model = BiGRUTagger(len(vocab), len(tags), pad_idx=vocab[PAD])
    criterion = nn.CrossEntropyLoss(ignore_index=IGNORE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, total_steps=args.epochs * len(train_loader), pct_start=0.2)

    best_f1, best_state = -1.0, None
    for epoch in range(1, args.epochs + 1):
        model.train()
        t0, loss_sum, tokens = time.time(), 0.0, 0
        for x, y, lengths in train_loader:
            optimizer.zero_grad()
            logits = model(x, lengths)
            loss = criterion(logits.flatten(0, 1), y.flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), args.clip)
            optimizer.step()
            scheduler.step()
            loss_sum += loss.item() * lengths.sum().item()
            tokens += lengths.sum().item()
        val = evaluate(model, val_loader, criterion, id2tag)
        print(f"epoch {epoch:2d} train loss {loss_sum / tokens:.4f} | val loss {val['loss']:.4f} "
              f"acc {val['acc']:.4f} f1 {val['f1']:.4f} | {time.time() - t0:.1f}s")
        if val["f1"] > best_f1:
            best_f1, best_state = val["f1"], copy.deepcopy(model.state_dict())

    model.load_state_dict(best_state)
    test = evaluate(model, test_loader, criterion, id2tag)
    print(f"test acc {test['acc']:.4f} precision {test['p']:.4f} recall {test['r']:.4f} f1 {test['f1']:.4f}")


if __name__ == "__main__":
    main()
