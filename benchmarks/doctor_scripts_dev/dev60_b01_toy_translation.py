"""Transformer encoder-decoder that translates a toy English into a toy French (adjectives behind nouns, articles agree)."""

import argparse
import math
import random

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

PAD, BOS, EOS, UNK = 0, 1, 2, 3
NOUNS = {"cat": ("chat", "m"), "dog": ("chien", "m"), "house": ("maison", "f"), "car": ("voiture", "f"),
         "book": ("livre", "m"), "apple": ("pomme", "f"), "table": ("table", "f"), "horse": ("cheval", "m")}
ADJECTIVES = {"red": "rouge", "sad": "triste", "strange": "bizarre", "calm": "calme", "rich": "riche"}
VERBS = {"sees": "voit", "likes": "aime", "takes": "prend", "finds": "trouve", "shows": "montre"}
ARTICLES = {"the": {"m": "le", "f": "la"}, "a": {"m": "un", "f": "une"}}


def noun_phrase(rng):
    article, noun = rng.choice(list(ARTICLES)), rng.choice(list(NOUNS))
    french, gender = NOUNS[noun]
    source, target = [article], [ARTICLES[article][gender], french]
    if rng.random() < 0.5:
        adjective = rng.choice(list(ADJECTIVES))
        source.append(adjective)
        target.append(ADJECTIVES[adjective])
    return source + [noun], target


def clause(rng):
    (s1, t1), (s2, t2) = noun_phrase(rng), noun_phrase(rng)
    verb = rng.choice(list(VERBS))
    return s1 + [verb] + s2, t1 + [VERBS[verb]] + t2


def make_pairs(count, seed):
    rng, seen, pairs = random.Random(seed), set(), []
    while len(pairs) < count:
        source, target = clause(rng)
        if rng.random() < 0.25:
            more_source, more_target = clause(rng)
            source, target = source + ["and"] + more_source, target + ["et"] + more_target
        if " ".join(source) not in seen:
            seen.add(" ".join(source))
            pairs.append((source, target))
    return pairs


class Vocab:
    def __init__(self, sentences):
        self.itos = ["<pad>", "<bos>", "<eos>", "<unk>"]
        self.stoi = {word: i for i, word in enumerate(self.itos)}
        for word in (word for sentence in sentences for word in sentence):
            if word not in self.stoi:
                self.stoi[word] = len(self.itos)
                self.itos.append(word)

    def encode(self, sentence):
        return torch.tensor([BOS] + [self.stoi.get(word, UNK) for word in sentence] + [EOS])


def collate(batch):
    sources, targets = zip(*batch)
    return tuple(pad_sequence(part, batch_first=True, padding_value=PAD) for part in (sources, targets))


class Embedding(nn.Module):
    def __init__(self, vocab, d_model, max_len=64):
        super().__init__()
        self.tokens = nn.Embedding(vocab, d_model, padding_idx=PAD)
        nn.init.normal_(self.tokens.weight, std=d_model**-0.5)
        angle = torch.arange(max_len).unsqueeze(1) * torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, d_model)
        pe[:, 0::2], pe[:, 1::2] = torch.sin(angle), torch.cos(angle)
        self.register_buffer("pe", pe)

    def forward(self, ids):
        return self.tokens(ids) * math.sqrt(self.tokens.embedding_dim) + self.pe[: ids.size(1)]


class Translator(nn.Module):
    def __init__(self, src_vocab, tgt_vocab, d_model=64, heads=4, layers=1, dropout=0.05):
        super().__init__()
        self.src_emb, self.tgt_emb = Embedding(src_vocab, d_model), Embedding(tgt_vocab, d_model)
        options = dict(dim_feedforward=2 * d_model, dropout=dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(d_model, heads, **options), layers,
                                             norm=nn.LayerNorm(d_model), enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(d_model, heads, **options), layers,
                                             norm=nn.LayerNorm(d_model))
        self.generator = nn.Linear(d_model, tgt_vocab)

    def forward(self, src, tgt):
        causal = torch.ones(tgt.size(1), tgt.size(1), dtype=torch.bool).triu(diagonal=1)
        src_pad = src == PAD
        memory = self.encoder(self.src_emb(src), src_key_padding_mask=src_pad)
        out = self.decoder(self.tgt_emb(tgt), memory, tgt_mask=causal, memory_key_padding_mask=src_pad)
        return self.generator(out)


def shift(tgt):
    return tgt[:, :-1], tgt[:, 1:]


@torch.no_grad()
def greedy(model, src, max_len=24):
    out = torch.full((src.size(0), 1), BOS, dtype=torch.long)
    for _ in range(max_len):
        out = torch.cat([out, model(src, out)[:, -1].argmax(-1, keepdim=True)], dim=1)
    return out[:, 1:]


def evaluate(model, loader):
    model.eval()
    exact = correct = tokens = 0
    with torch.no_grad():
        for src, tgt in loader:
            tgt_in, tgt_out = shift(tgt)
            hit = (model(src, tgt_in).argmax(-1) == tgt_out) & (tgt_out != PAD)
            correct, tokens = correct + hit.sum().item(), tokens + (tgt_out != PAD).sum().item()
            decoded = greedy(model, src)[:, : tgt_out.size(1)]
            exact += ((decoded == tgt_out) | (tgt_out == PAD)).all(1).sum().item()
    return correct / tokens, exact / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=2e-3)
    args = parser.parse_args()
    torch.manual_seed(0)

    pairs = make_pairs(1500, seed=0)
    train_pairs, valid_pairs = pairs[:1250], pairs[1250:]
    src_vocab, tgt_vocab = Vocab(source for source, _ in train_pairs), Vocab(target for _, target in train_pairs)
    train_set = [(src_vocab.encode(source), tgt_vocab.encode(target)) for source, target in train_pairs]
    valid_set = [(src_vocab.encode(source), tgt_vocab.encode(target)) for source, target in valid_pairs]
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid_set, batch_size=125, collate_fn=collate)

    model = Translator(len(src_vocab.itos), len(tgt_vocab.itos))
    criterion = nn.CrossEntropyLoss(ignore_index=PAD)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, betas=(0.9, 0.98), eps=1e-9)
    for epoch in range(1, args.epochs + 1):
        model.train()
        total = 0.0
        for src, tgt in train_loader:
            tgt_in, tgt_out = shift(tgt)
            loss = criterion(model(src, tgt_in).flatten(0, 1), tgt_out.reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item()
        accuracy, exact = evaluate(model, valid_loader)
        print(f"epoch {epoch}: loss {total / len(train_loader):.3f}, token accuracy {accuracy:.3f}, exact {exact:.3f}")


if __name__ == "__main__":
    main()
