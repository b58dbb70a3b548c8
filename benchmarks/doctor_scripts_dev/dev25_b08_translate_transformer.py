"""Translation of simple sentences into a made language with nn.Transformer; greedy decoding."""

import argparse
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

PAD, BOS, EOS = 0, 1, 2
SPECIALS = ["<pad>", "<bos>", "<eos>"]

NOUNS = {
    "cat": ("kat", "m"), "dog": ("hund", "m"), "bird": ("ptica", "f"), "fish": ("riba", "f"),
    "house": ("dom", "m"), "tree": ("drev", "m"), "girl": ("deva", "f"), "star": ("zvezda", "f"),
}
VERBS = {"sees": "vidi", "likes": "lubi", "finds": "naji", "paints": "slika", "hears": "slisi", "buys": "kupi"}
ADJECTIVES = {"big": "velik", "small": "mal", "red": "rdec", "old": "star"}
DETERMINERS = {"the": {"m": "to", "f": "ta"}, "this": {"m": "tale", "f": "taja"}, "a": None}  # no word for "a"
ADVERBS = {"today": "danes", "often": "pogosto", "never": "nikoli"}


def noun_phrase(rng):
    determiner, noun = rng.choice(list(DETERMINERS)), rng.choice(list(NOUNS))
    word, gender = NOUNS[noun]
    source, target = [determiner], [word]
    if DETERMINERS[determiner] is not None:
        target.insert(0, DETERMINERS[determiner][gender])
    if rng.random() < 0.5:
        adjective = rng.choice(list(ADJECTIVES))
        source.append(adjective)
        target.append(ADJECTIVES[adjective] + ("a" if gender == "f" else ""))
    return source + [noun], target


def sentence(rng):
    """Subject verb object [adverb] becomes [adverb] subject object verb."""
    (subject, subject_t), (obj, obj_t) = noun_phrase(rng), noun_phrase(rng)
    verb = rng.choice(list(VERBS))
    source, target = subject + [verb] + obj, subject_t + obj_t + [VERBS[verb]]
    if rng.random() < 0.5:
        adverb = rng.choice(list(ADVERBS))
        source, target = source + [adverb], [ADVERBS[adverb]] + target
    return tuple(source), tuple(target)


def build_vocab(sentences):
    return {word: i for i, word in enumerate(SPECIALS + sorted({w for words in sentences for w in words}))}


def make_dataset(pairs, src_vocab, tgt_vocab):
    src = [torch.tensor([src_vocab[w] for w in source] + [EOS]) for source, _ in pairs]
    tgt = [torch.tensor([BOS] + [tgt_vocab[w] for w in target] + [EOS]) for _, target in pairs]
    return list(zip(src, tgt))


def collate(batch):
    src, tgt = zip(*batch)
    return (
        pad_sequence(src, batch_first=True, padding_value=PAD),
        pad_sequence(tgt, batch_first=True, padding_value=PAD),
    )


class Translator(nn.Module):
    def __init__(self, src_size, tgt_size, d_model=64, max_len=32, dropout=0.1):
        super().__init__()
        self.src_embed = nn.Embedding(src_size, d_model)
        self.tgt_embed = nn.Embedding(tgt_size, d_model)
        self.positions = nn.Embedding(max_len, d_model)
        self.transformer = nn.Transformer(
            d_model, nhead=4, num_encoder_layers=2, num_decoder_layers=2,
            dim_feedforward=128, dropout=dropout, batch_first=True,
        )
        self.generator = nn.Linear(d_model, tgt_size)

    def embed(self, table, ids):
        return table(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))

    def forward(self, src, tgt):
        length = tgt.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=tgt.device).triu(1)
        hidden = self.transformer(
            self.embed(self.src_embed, src),
            self.embed(self.tgt_embed, tgt),
            tgt_mask=causal,
            src_key_padding_mask=src == PAD,
            tgt_key_padding_mask=tgt == PAD,
            memory_key_padding_mask=src == PAD,
        )
        return self.generator(hidden)

    @torch.no_grad()
    def translate(self, src, max_len=14):
        tgt = torch.full((len(src), 1), BOS)
        for _ in range(max_len):
            following = self(src, tgt)[:, -1].argmax(-1, keepdim=True)
            tgt = torch.cat([tgt, following], dim=1)
        return tgt[:, 1:]


def sequence_loss(logits, targets):
    return F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=PAD)


def until_end(ids):
    ids = ids.tolist()
    return ids[: ids.index(EOS)] if EOS in ids else ids


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    loss_sum, right, count = 0.0, 0, 0
    for src, tgt in loader:
        loss_sum += sequence_loss(model(src, tgt[:, :-1]), tgt[:, 1:]).item() * len(src)
        for guess, truth in zip(model.translate(src), tgt[:, 1:]):
            right += until_end(guess) == until_end(truth)
        count += len(src)
    return loss_sum / count, right / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--train-size", type=int, default=3200)
    parser.add_argument("--val-size", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    unique = {}
    while len(unique) < args.train_size + args.val_size:
        source, target = sentence(rng)
        unique[source] = target
    pairs = list(unique.items())
    train_pairs, val_pairs = pairs[: args.train_size], pairs[args.train_size :]
    src_vocab = build_vocab([source for source, _ in train_pairs])
    tgt_vocab = build_vocab([target for _, target in train_pairs])
    train_set = make_dataset(train_pairs, src_vocab, tgt_vocab)
    val_set = make_dataset(val_pairs, src_vocab, tgt_vocab)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(val_set, batch_size=100, collate_fn=collate)

    model = Translator(len(src_vocab), len(tgt_vocab))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, betas=(0.9, 0.98))
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, total_steps=args.epochs * len(train_loader), pct_start=0.1, cycle_momentum=False
    )
    for epoch in range(1, args.epochs + 1):
        model.train()
        total = 0.0
        for src, tgt in train_loader:
            logits = model(src, tgt[:, :-1])
            loss = sequence_loss(logits, tgt[:, 1:])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            total += loss.item()
        val_loss, exact = evaluate(model, val_loader)
        print(f"epoch {epoch:2d} loss {total / len(train_loader):.3f} val loss {val_loss:.3f} exact {exact:.3f}")


if __name__ == "__main__":
    main()
