"""Translate sentences of a toy English into a toy French with a transformer.

    python b03_translate_transformer.py --epochs 12 --lr 2e-3
"""

import argparse
import random
import time

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

PAD, BOS, EOS = 0, 1, 2
MAX_LEN = 16

NOUNS = {
    "cat": ("chat", "m"), "dog": ("chien", "m"), "car": ("voiture", "f"), "house": ("maison", "f"),
    "tree": ("arbre", "m"), "girl": ("fille", "f"), "boy": ("garcon", "m"), "flower": ("fleur", "f"),
    "table": ("table", "f"), "book": ("livre", "m"), "bird": ("oiseau", "m"), "apple": ("pomme", "f"),
}  # fmt: skip
ADJECTIVES = {
    "red": ("rouge", "rouge"), "green": ("vert", "verte"), "black": ("noir", "noire"), "heavy": ("lourd", "lourde"),
    "clean": ("propre", "propre"), "round": ("rond", "ronde"), "warm": ("chaud", "chaude"),
}  # fmt: skip
VERBS = {"sees": "voit", "likes": "aime", "finds": "trouve", "wants": "veut", "draws": "dessine", "takes": "prend"}
PREPOSITIONS = {"under": "sous", "behind": "derriere", "with": "avec", "near": "pres_de"}
ARTICLES = {"the": ("le", "la"), "a": ("un", "une"), "this": ("ce", "cette")}


def noun_phrase(rng, max_adjectives):
    article, noun = rng.choice(list(ARTICLES)), rng.choice(list(NOUNS))
    adjectives = rng.sample(list(ADJECTIVES), rng.randint(0, max_adjectives))
    french, gender = NOUNS[noun][0], "mf".index(NOUNS[noun][1])
    source = [article] + adjectives + [noun]
    target = [ARTICLES[article][gender], french] + [ADJECTIVES[a][gender] for a in reversed(adjectives)]
    return source, target


def make_pairs(count, seed):
    rng, pairs = random.Random(seed), {}
    while len(pairs) < count:
        (s1, t1), (s2, t2) = noun_phrase(rng, 2), noun_phrase(rng, 2)
        verb = rng.choice(list(VERBS))
        source, target = s1 + [verb] + s2, t1 + [VERBS[verb]] + t2
        if rng.random() < 0.4:
            preposition, (s3, t3) = rng.choice(list(PREPOSITIONS)), noun_phrase(rng, 0)
            source, target = source + [preposition] + s3, target + [PREPOSITIONS[preposition]] + t3
        pairs[" ".join(source)] = " ".join(target)
    return list(pairs.items())


class Vocab:
    def __init__(self, sentences):
        self.itos = ["<pad>", "<bos>", "<eos>", "<unk>"]
        self.stoi = {}
        for sentence in sentences:
            for word in sentence.split():
                if word not in self.stoi:
                    self.stoi[word] = len(self.itos)
                    self.itos.append(word)

    def __len__(self):
        return len(self.itos)

    def encode(self, sentence):
        ids = [BOS] + [self.stoi.get(word, 3) for word in sentence.split()] + [EOS]
        return torch.tensor(ids + [PAD] * (MAX_LEN - len(ids)))


class TranslationDataset(Dataset):
    def __init__(self, sources, targets, src_vocab, tgt_vocab):
        self.src = [src_vocab.encode(s) for s in sources]
        self.tgt = [tgt_vocab.encode(t) for t in targets]

    def __len__(self):
        return len(self.src)

    def __getitem__(self, i):
        return self.src[i], self.tgt[i]


class Seq2SeqTransformer(nn.Module):
    def __init__(self, src_size, tgt_size, d_model=64, nhead=4, layers=2, ff=128, dropout=0.1):
        super().__init__()
        self.src_embed, self.tgt_embed = nn.Embedding(src_size, d_model), nn.Embedding(tgt_size, d_model)
        self.positions = nn.Parameter(torch.randn(MAX_LEN, d_model))
        encoder_layer = nn.TransformerEncoderLayer(d_model, nhead, ff, dropout, batch_first=True, norm_first=True)
        decoder_layer = nn.TransformerDecoderLayer(d_model, nhead, ff, dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(encoder_layer, layers, nn.LayerNorm(d_model), enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder_layer, layers, nn.LayerNorm(d_model))
        self.generator = nn.Linear(d_model, tgt_size)

    def encode(self, src):
        src_pad = src == PAD
        x = self.src_embed(src) + self.positions[: src.size(1)]
        return self.encoder(x, src_key_padding_mask=src_pad), src_pad

    def decode(self, tgt, memory, src_pad):
        causal = torch.ones(tgt.size(1), tgt.size(1), dtype=torch.bool).triu(1)
        x = self.tgt_embed(tgt) + self.positions[: tgt.size(1)]
        x = self.decoder(x, memory, tgt_mask=causal, memory_key_padding_mask=src_pad)
        return self.generator(x)

    def forward(self, src, tgt):
        return self.decode(tgt, *self.encode(src))


def train_epoch(model, loader, criterion, optimizer, scheduler):
    model.train()
    total = 0.0
    for src, tgt in loader:
        optimizer.zero_grad()
        logits = model(src, tgt[:, :-1])
        loss = criterion(logits.flatten(0, 1), tgt[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def greedy(model, src):
    memory, src_pad = model.encode(src)
    out = torch.full((len(src), 1), BOS)
    for _ in range(MAX_LEN - 1):
        out = torch.cat([out, model.decode(out, memory, src_pad)[:, -1].argmax(-1, keepdim=True)], dim=1)
    ended = (out == EOS).int().cumsum(1) - (out == EOS).int() > 0  # what follows the first EOS is padding
    return out.masked_fill(ended, PAD)


@torch.no_grad()
def evaluate(model, loader):
    """The share of sentences that are translated without a single mistake."""
    model.eval()
    exact, count = 0, 0
    for src, tgt in loader:
        exact += (greedy(model, src) == tgt).all(dim=1).sum().item()
        count += len(src)
    return exact / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    pairs = make_pairs(3500, args.seed)
    train_pairs, val_pairs = pairs[:3200], pairs[3200:]
    train_src, train_tgt = [p[0] for p in train_pairs], [p[1] for p in train_pairs]
    val_src, val_tgt = [p[0] for p in val_pairs], [p[1] for p in val_pairs]
    src_vocab, tgt_vocab = Vocab(train_src), Vocab(train_tgt)
    train_set = TranslationDataset(train_src, train_tgt, src_vocab, tgt_vocab)
    val_set = TranslationDataset(val_src, val_tgt, src_vocab, tgt_vocab)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=100)

    model = Seq2SeqTransformer(len(src_vocab), len(tgt_vocab))
    criterion = nn.CrossEntropyLoss(ignore_index=PAD)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, betas=(0.9, 0.98))
    steps = args.epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / args.warmup, max(0.05, 1 - s / steps))
    )
    for epoch in range(1, args.epochs + 1):
        start = time.time()
        train_loss = train_epoch(model, train_loader, criterion, optimizer, scheduler)
        score = evaluate(model, val_loader)
        print(f"epoch {epoch}: train loss {train_loss:.3f}, exact matches {score:.3f}, {time.time() - start:.1f} s")

    ids = greedy(model, src_vocab.encode(val_src[0]).unsqueeze(0))[0].tolist()
    print(val_src[0], "->", " ".join(tgt_vocab.itos[i] for i in ids if i > EOS))


if __name__ == "__main__":
    main()
