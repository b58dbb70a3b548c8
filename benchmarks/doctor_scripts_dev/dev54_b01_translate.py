"""Encoder-decoder Transformer on a toy translation: words are mapped and adjectives go behind their nouns."""
import argparse
import copy
import math
import random
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR

PAD, BOS, EOS, VOCAB = 0, 1, 2, 23
NOUNS, ADJECTIVES = list(range(3, 13)), list(range(13, 23))

def make_corpus(count, seed=0):
    rng = random.Random(seed)
    words = NOUNS + ADJECTIVES
    dictionary = dict(zip(words, rng.sample(words, len(words))))
    seen, pairs = set(), []
    while len(pairs) < count:
        source, target = [], []
        for _ in range(rng.randint(3, 4)):
            noun = [rng.choice(NOUNS)]
            adjective = [rng.choice(ADJECTIVES)] if rng.random() < 0.5 else []
            source += adjective + noun
            target += [dictionary[word] for word in noun + adjective]
        if tuple(source) not in seen:
            seen.add(tuple(source))
            pairs.append((source, target))
    return pairs

class Batch:
    def __init__(self, pairs):
        self.src = self.pad([s + [EOS] for s, _ in pairs])
        tgt = self.pad([[BOS] + t + [EOS] for _, t in pairs])
        self.tgt, self.tgt_y = tgt[:, :-1], tgt[:, 1:]
        self.src_mask = (self.src != PAD)[:, None, None, :]
        subsequent = torch.ones(self.tgt.size(1), self.tgt.size(1), dtype=torch.bool).tril(diagonal=0)
        self.tgt_mask = (self.tgt != PAD)[:, None, None, :] & subsequent
        self.ntokens = (self.tgt_y != PAD).sum().item()
    @staticmethod
    def pad(rows):
        width = max(map(len, rows))
        return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])

def data_gen(pairs, batch_size, shuffle):
    order = random.sample(range(len(pairs)), len(pairs)) if shuffle else list(range(len(pairs)))
    for start in range(0, len(order), batch_size):
        yield Batch([pairs[i] for i in order[start : start + batch_size]])

def clones(module, n):
    return nn.ModuleList([copy.deepcopy(module) for _ in range(n)])

class MultiHeadedAttention(nn.Module):
    def __init__(self, h, d_model):
        super().__init__()
        self.h, self.d_k = h, d_model // h
        self.linears = clones(nn.Linear(d_model, d_model), 4)
    def forward(self, query, key, value, mask):
        n = query.size(0)
        heads = [lin(x).view(n, -1, self.h, self.d_k).transpose(1, 2) for lin, x in zip(self.linears, (query, key, value))]
        x = F.scaled_dot_product_attention(*heads, attn_mask=mask)
        return self.linears[-1](x.transpose(1, 2).reshape(n, -1, self.h * self.d_k))

class Layer(nn.Module):
    def __init__(self, d_model, h, d_ff, dropout, cross):
        super().__init__()
        self.self_attn = MultiHeadedAttention(h, d_model)
        self.src_attn = MultiHeadedAttention(h, d_model) if cross else None
        self.ff = nn.Sequential(nn.Linear(d_model, d_ff), nn.ReLU(), nn.Linear(d_ff, d_model))
        self.norms = clones(nn.LayerNorm(d_model), 3 if cross else 2)
        self.dropout = nn.Dropout(dropout)
    def forward(self, x, mask, memory=None, src_mask=None):
        y = self.norms[0](x)
        x = x + self.dropout(self.self_attn(y, y, y, mask))
        if self.src_attn is not None:
            x = x + self.dropout(self.src_attn(self.norms[1](x), memory, memory, src_mask))
        return x + self.dropout(self.ff(self.norms[-1](x)))

class Embeddings(nn.Module):
    def __init__(self, d_model, vocab, max_len=32):
        super().__init__()
        self.lut, self.d_model = nn.Embedding(vocab, d_model), d_model
        angle = torch.arange(max_len).unsqueeze(1) * torch.exp(torch.arange(0, d_model, 2) * -(math.log(10000.0) / d_model))
        self.register_buffer("pe", torch.stack([torch.sin(angle), torch.cos(angle)], -1).flatten(1))
    def forward(self, x):
        return self.lut(x) * math.sqrt(self.d_model) + self.pe[: x.size(1)]

class EncoderDecoder(nn.Module):
    def __init__(self, vocab, n=2, d_model=64, d_ff=128, h=4, dropout=0.05):
        super().__init__()
        self.src_embed, self.tgt_embed = Embeddings(d_model, vocab), Embeddings(d_model, vocab)
        self.encoder = clones(Layer(d_model, h, d_ff, dropout, cross=False), n)
        self.decoder = clones(Layer(d_model, h, d_ff, dropout, cross=True), n)
        self.enc_norm, self.dec_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.generator = nn.Linear(d_model, vocab)
        for p in (p for p in self.parameters() if p.dim() > 1):
            nn.init.xavier_uniform_(p)
    def forward(self, src, tgt, src_mask, tgt_mask):
        memory, x = self.src_embed(src), self.tgt_embed(tgt)
        for layer in self.encoder:
            memory = layer(memory, src_mask)
        memory = self.enc_norm(memory)
        for layer in self.decoder:
            x = layer(x, tgt_mask, memory, src_mask)
        return F.log_softmax(self.generator(self.dec_norm(x)), dim=-1)

class LabelSmoothing(nn.Module):
    def __init__(self, size, padding_idx, smoothing=0.05):
        super().__init__()
        self.criterion = nn.KLDivLoss(reduction="sum")
        self.size, self.padding_idx, self.smoothing = size, padding_idx, smoothing
    def forward(self, x, target):
        true_dist = torch.full_like(x, self.smoothing / (self.size - 2))
        true_dist[:, self.padding_idx] = 0
        true_dist.scatter_(1, target.unsqueeze(1), 1.0 - self.smoothing)
        true_dist[target == self.padding_idx] = 0
        return self.criterion(x, true_dist)

def rate(step, model_size, factor, warmup):
    return factor * model_size**-0.5 * min(step**-0.5, step * warmup**-1.5)

def run_epoch(batches, model, criterion, optimizer=None, scheduler=None):
    total_loss, total_right, total_tokens = 0.0, 0, 0
    for batch in batches:
        out = model(batch.src, batch.tgt, batch.src_mask, batch.tgt_mask)
        loss = criterion(out.flatten(0, 1), batch.tgt_y.flatten()) / batch.ntokens
        if optimizer is not None:
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
        right = (out.argmax(-1) == batch.tgt_y) & (batch.tgt_y != PAD)
        total_loss, total_right = total_loss + loss.item() * batch.ntokens, total_right + right.sum().item()
        total_tokens += batch.ntokens
    return total_loss / total_tokens, total_right / total_tokens

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--warmup", type=int, default=60)
    args = parser.parse_args()
    torch.manual_seed(0)
    random.seed(0)
    pairs = make_corpus(1900)
    train_pairs, valid_pairs = pairs[:1600], pairs[1600:]
    model = EncoderDecoder(VOCAB)
    criterion = LabelSmoothing(VOCAB, PAD)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    scheduler = LambdaLR(optimizer, lambda step: rate(step + 1, 64, 0.2, args.warmup))
    for epoch in range(args.epochs):
        model.train()
        loss, accuracy = run_epoch(data_gen(train_pairs, args.batch_size, True), model, criterion, optimizer, scheduler)
        model.eval()
        with torch.no_grad():
            valid_loss, valid_accuracy = run_epoch(data_gen(valid_pairs, 100, False), model, criterion)
        print(f"epoch {epoch}: train {loss:.3f} / {accuracy:.3f}, valid {valid_loss:.3f} / {valid_accuracy:.3f}")

if __name__ == "__main__":
    main()
