"""The Annotated Tagger: a small Transformer encoder, line by line, that marks persons, places and firms."""

import copy
import math
import random

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

PAD = 0
TAGS = ["O", "PER", "LOC", "ORG", "DATE"]
IGNORE = -100
BATCH, MAX_LEN = 64, 64

NAMES = "jordan paris florence chelsea austin carter lincoln sydney ford disney morgan kent".split()
CUES = {"PER": "met married thanked hugged".split(), "LOC": "visited toured left reached".split(),
        "ORG": "bought sued audited founded".split()}
DATES = "monday tuesday friday june july 1999".split()
FILLER = "the a we they often rarely then quietly again with and some old new very small red".split()
WORDS = ["<pad>"] + NAMES + sum(CUES.values(), []) + DATES + FILLER
VOCAB = {word: i for i, word in enumerate(WORDS)}

# ## Data: what a name is depends on the verb of its sentence.
def make_sentence(rng):
    kind = rng.choice(list(CUES))
    pairs = [(rng.choice(CUES[kind]), "O")]
    pairs += [(rng.choice(NAMES), kind) for _ in range(rng.randint(1, 3))]
    pairs += [(rng.choice(DATES), "DATE") for _ in range(rng.randint(0, 2))]
    pairs += [(rng.choice(FILLER), "O") for _ in range(rng.randint(2, 14))]
    rng.shuffle(pairs)
    words, tags = zip(*pairs)
    return torch.tensor([VOCAB[w] for w in words]), torch.tensor([TAGS.index(t) for t in tags])

def make_corpus(size, seed):
    rng = random.Random(seed)
    return [make_sentence(rng) for _ in range(size)]

def collate(batch):
    words, tags = zip(*batch)
    src = pad_sequence(words, batch_first=True, padding_value=PAD)
    tgt = pad_sequence(tags, batch_first=True, padding_value=IGNORE)
    return src, tgt

# ## Model
def clones(module, N):
    return nn.ModuleList([copy.deepcopy(module) for _ in range(N)])

def attention(query, key, value, mask=None, dropout=None):
    scores = torch.matmul(query, key.transpose(-2, -1)) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(mask == 0, -1e9)
    p_attn = scores.softmax(dim=-1)
    if dropout is not None:
        p_attn = dropout(p_attn)
    return torch.matmul(p_attn, value)

class MultiHeadedAttention(nn.Module):
    def __init__(self, h, d_model, dropout=0.1):
        super().__init__()
        self.d_k, self.h = d_model // h, h
        self.linears = clones(nn.Linear(d_model, d_model), 4)
        self.dropout = nn.Dropout(p=dropout)

    def forward(self, query, key, value, mask=None):
        nbatches = query.size(0)
        query, key, value = [lin(x).view(nbatches, -1, self.h, self.d_k).transpose(1, 2)
                             for lin, x in zip(self.linears, (query, key, value))]
        x = attention(query, key, value, mask=mask.unsqueeze(1), dropout=self.dropout)
        x = x.transpose(1, 2).contiguous().view(nbatches, -1, self.h * self.d_k)
        return self.linears[-1](x)

class EncoderLayer(nn.Module):
    def __init__(self, size, h, d_ff, dropout):
        super().__init__()
        self.self_attn = MultiHeadedAttention(h, size, dropout)
        self.feed_forward = nn.Sequential(nn.Linear(size, d_ff), nn.ReLU(), nn.Dropout(dropout), nn.Linear(d_ff, size))
        self.norms = clones(nn.LayerNorm(size), 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask):
        y = self.norms[0](x)
        x = x + self.dropout(self.self_attn(y, y, y, mask))
        return x + self.dropout(self.feed_forward(self.norms[1](x)))

class Tagger(nn.Module):
    def __init__(self, vocab, n_tags, N=2, d_model=48, d_ff=96, h=4, dropout=0.1, max_len=MAX_LEN):
        super().__init__()
        self.lut = nn.Embedding(vocab, d_model, padding_idx=PAD)
        self.pos = nn.Embedding(max_len, d_model)
        nn.init.normal_(self.pos.weight, std=0.02)
        self.layers = clones(EncoderLayer(d_model, h, d_ff, dropout), N)
        self.norm = nn.LayerNorm(d_model)
        self.generator = nn.Linear(d_model, n_tags)

    def forward(self, src):
        src_mask = (src != PAD).unsqueeze(-2)
        x = self.lut(src) + self.pos(torch.arange(src.size(1), device=src.device))
        for layer in self.layers:
            x = layer(x, src_mask)
        return self.generator(self.norm(x))

def rate(step, warmup):
    step = step + 1
    return min(step / warmup, (warmup / step) ** 0.5)

# ## Training
def run_epoch(data_iter, model, criterion, optimizer, lr_scheduler):
    model.train()
    total = 0.0
    for src, tgt in data_iter:
        logits = model(src)
        loss = criterion(logits.flatten(0, 1), tgt.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        total += loss.item()
    return total / len(data_iter)

@torch.no_grad()
def check(data_iter, model):
    model.eval()
    right, tokens, exact = 0, 0, 0
    for src, tgt in data_iter:
        guess = model(src).argmax(dim=-1)
        keep = tgt != IGNORE
        right += ((guess == tgt) & keep).sum().item()
        tokens += keep.sum().item()
        exact += ((guess == tgt) | ~keep).all(dim=1).sum().item()
    return right / tokens, exact / len(data_iter.dataset)

def main():
    torch.manual_seed(0)
    train_iter = DataLoader(make_corpus(1500, seed=1), batch_size=BATCH, shuffle=True, collate_fn=collate)
    valid_iter = DataLoader(make_corpus(270, seed=2), batch_size=BATCH, collate_fn=collate)
    model = Tagger(len(VOCAB), len(TAGS))
    criterion = nn.CrossEntropyLoss(ignore_index=IGNORE)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.98), eps=1e-9)
    lr_scheduler = LambdaLR(optimizer, lr_lambda=lambda step: rate(step, warmup=100))
    for epoch in range(12):
        loss = run_epoch(train_iter, model, criterion, optimizer, lr_scheduler)
        accuracy, exact = check(valid_iter, model)
        print(f"epoch {epoch:2d} | loss {loss:.4f} | token accuracy {accuracy:.4f} | whole sentences {exact:.4f}")

if __name__ == "__main__":
    main()
