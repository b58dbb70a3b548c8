"""Toy machine translation with a small Transformer, after "The Annotated Transformer": batches with masks, Noam's rate."""

import argparse
import copy
import math
import random

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

PAD, BOS, EOS = 0, 1, 2
LEXICON = {
    "the": "der", "a": "ein", "this": "dieser", "every": "jeder",
    "red": "rot", "old": "alt", "small": "klein", "happy": "froh", "quiet": "leise",
    "dog": "hund", "cat": "katze", "bird": "vogel", "man": "mann", "child": "kind", "horse": "pferd",
    "sees": "sieht", "likes": "mag", "follows": "folgt", "finds": "findet",
    "today": "heute", "often": "oft", "never": "nie",
}
WORDS = list(LEXICON)
DETS, ADJS, NOUNS, VERBS, ADVS = WORDS[:4], WORDS[4:9], WORDS[9:15], WORDS[15:19], WORDS[19:]


def phrase(rng):
    det, noun = rng.choice(DETS), rng.choice(NOUNS)
    if rng.random() < 0.5:
        adj = rng.choice(ADJS)
        return [det, adj, noun], [LEXICON[det], LEXICON[noun], LEXICON[adj]]
    return [det, noun], [LEXICON[det], LEXICON[noun]]


def make_corpus(size, seed):
    """Distinct sentence pairs; adjectives stand behind the noun in the target language."""
    rng = random.Random(seed)
    pairs = {}
    while len(pairs) < size:
        (s1, t1), (s2, t2), verb = phrase(rng), phrase(rng), rng.choice(VERBS)
        adv = [rng.choice(ADVS)] if rng.random() < 0.3 else []
        source = s1 + [verb] + s2 + adv
        pairs[" ".join(source)] = (source, t1 + [LEXICON[verb]] + t2 + [LEXICON[w] for w in adv])
    return list(pairs.values())


def build_vocab(sentences):
    return {w: i for i, w in enumerate(["<pad>", "<s>", "</s>"] + sorted({w for s in sentences for w in s}))}


class Batch:
    """Source, decoder input and decoder target of a batch with its masks."""

    def __init__(self, src, tgt):
        self.src = src
        self.src_mask = src == PAD
        self.tgt = tgt[:, :-1]
        self.tgt_y = tgt[:, 1:]
        self.tgt_mask = subsequent_mask(self.tgt.size(1))
        self.ntokens = int((self.tgt_y != PAD).sum())


def subsequent_mask(size):
    return torch.triu(torch.ones(size, size, dtype=torch.bool), diagonal=1)


def make_collate(src_vocab, tgt_vocab):
    def collate(pairs):
        src = [torch.tensor([src_vocab[w] for w in s] + [EOS]) for s, _ in pairs]
        tgt = [torch.tensor([BOS] + [tgt_vocab[w] for w in t] + [EOS]) for _, t in pairs]
        return Batch(pad_sequence(src, True, PAD), pad_sequence(tgt, True, PAD))

    return collate


class Embeddings(nn.Module):
    def __init__(self, d_model, vocab, dropout, max_len=64):
        super().__init__()
        self.lut = nn.Embedding(vocab, d_model)
        nn.init.normal_(self.lut.weight, std=d_model**-0.5)
        self.scale = math.sqrt(d_model)
        self.dropout = nn.Dropout(dropout)
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * -(math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, d_model)
        pe[:, 0::2], pe[:, 1::2] = torch.sin(position * div_term), torch.cos(position * div_term)
        self.register_buffer("pe", pe)

    def forward(self, x):
        return self.dropout(self.lut(x) * self.scale + self.pe[: x.size(1)])


class Translator(nn.Module):
    def __init__(self, src_vocab, tgt_vocab, d_model=64, heads=4, layers=1, d_ff=128, dropout=0.1):
        super().__init__()
        self.src_embed = Embeddings(d_model, src_vocab, dropout)
        self.tgt_embed = Embeddings(d_model, tgt_vocab, dropout)
        self.transformer = nn.Transformer(d_model, heads, layers, layers, d_ff, dropout, batch_first=True)
        self.generator = nn.Linear(d_model, tgt_vocab)

    def forward(self, src, tgt, src_mask, tgt_mask):
        hidden = self.transformer(
            self.src_embed(src), self.tgt_embed(tgt), tgt_mask=tgt_mask,
            src_key_padding_mask=src_mask, memory_key_padding_mask=src_mask,
        )
        return self.generator(hidden)


def rate(step, d_model, factor, warmup):
    return factor * d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)


def run_epoch(loader, model, criterion, optimizer=None, scheduler=None):
    model.train(optimizer is not None)
    total_loss, total_tokens, correct = 0.0, 0, 0
    with torch.set_grad_enabled(optimizer is not None):
        for batch in loader:
            out = model(batch.src, batch.tgt, batch.src_mask, batch.tgt_mask)
            loss = criterion(out.flatten(0, 1), batch.tgt_y.flatten())
            if optimizer is not None:
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                scheduler.step()
            total_loss += loss.item() * batch.ntokens
            total_tokens += batch.ntokens
            correct += ((out.argmax(-1) == batch.tgt_y) & (batch.tgt_y != PAD)).sum().item()
    return total_loss / total_tokens, correct / total_tokens


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--factor", type=float, default=0.15)
    parser.add_argument("--warmup", type=int, default=60)
    args = parser.parse_args()
    torch.manual_seed(0)
    corpus = make_corpus(1900, seed=1)
    train, valid, test = corpus[:1500], corpus[1500:1700], corpus[1700:]
    src_vocab, tgt_vocab = build_vocab(s for s, _ in corpus), build_vocab(t for _, t in corpus)
    collate = make_collate(src_vocab, tgt_vocab)
    train_loader = DataLoader(train, 64, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid, 64, collate_fn=collate)
    test_loader = DataLoader(test, 64, collate_fn=collate)
    model = Translator(len(src_vocab), len(tgt_vocab))
    criterion = nn.CrossEntropyLoss(ignore_index=PAD, label_smoothing=0.05)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: rate(s + 1, 64, args.factor, args.warmup))
    best_loss, best_state = float("inf"), None
    for epoch in range(args.epochs):
        loss, acc = run_epoch(train_loader, model, criterion, optimizer, scheduler)
        valid_loss, valid_acc = run_epoch(valid_loader, model, criterion)
        print(f"epoch {epoch} | {loss:.3f} {acc:.3f} | valid {valid_loss:.3f} {valid_acc:.3f}")
        if valid_loss < best_loss:
            best_loss, best_state = valid_loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    test_loss, test_acc = run_epoch(test_loader, model, criterion)
    print(f"best valid loss {best_loss:.3f}, test loss {test_loss:.3f}, test accuracy {test_acc:.3f}")


if __name__ == "__main__":
    main()
