"""Transformer encoder-decoder: decimal numbers to Roman numerals ("1987" -> "MCMLXXXVII"), greedy decoding."""
import math
import random

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

PAD, BOS, EOS = 0, 1, 2
SRC = {ch: i + 3 for i, ch in enumerate("0123456789")}
TGT = {ch: i + 3 for i, ch in enumerate("IVXLCDM")}
ROMAN = [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"),
         (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]

hp = dict(d_model=48, heads=4, layers=2, ff=96, dropout=0.0, batch=64, steps=500, warmup=60, peak_lr=3e-3)


def to_roman(n):
    out = ""
    for value, glyphs in ROMAN:
        out += glyphs * (n // value)
        n %= value
    return out


def encode_pair(n):
    src = [SRC[c] for c in str(n)]
    tgt = [BOS] + [TGT[c] for c in to_roman(n)] + [EOS]
    return torch.tensor(src), torch.tensor(tgt)


def make_batch(numbers):
    pairs = [encode_pair(n) for n in numbers]
    src = pad_sequence([s for s, _ in pairs], batch_first=True, padding_value=PAD)
    tgt = pad_sequence([t for _, t in pairs], batch_first=True, padding_value=PAD)
    return src, tgt


def batches(numbers, size, rng):
    while True:
        order = rng.sample(numbers, len(numbers))
        for i in range(0, len(order) - size + 1, size):
            yield make_batch(order[i:i + size])


class Seq2Seq(nn.Module):
    def __init__(self, hp):
        super().__init__()
        d = hp["d_model"]
        self.src_emb = nn.Embedding(len(SRC) + 3, d, padding_idx=PAD)
        self.tgt_emb = nn.Embedding(len(TGT) + 3, d, padding_idx=PAD)
        self.pos = nn.Parameter(torch.randn(32, d) * 0.5)
        self.core = nn.Transformer(d, hp["heads"], hp["layers"], hp["layers"], hp["ff"], hp["dropout"],
                                   batch_first=True, norm_first=True)
        self.to_vocab = nn.Linear(d, len(TGT) + 3)
        self.scale = math.sqrt(d) / 4

    def encode(self, src):
        blank = src == PAD
        x = self.src_emb(src) * self.scale + self.pos[: src.shape[1]]
        return self.core.encoder(x, src_key_padding_mask=blank), blank

    def decode(self, tgt, memory, blank):
        length = tgt.shape[1]
        causal = torch.triu(torch.ones(length, length, dtype=torch.bool), diagonal=1)
        y = self.tgt_emb(tgt) * self.scale + self.pos[:length]
        h = self.core.decoder(y, memory, tgt_mask=causal, tgt_key_padding_mask=(tgt == PAD),
                              memory_key_padding_mask=blank)
        return self.to_vocab(h)

    def forward(self, src, tgt):
        memory, blank = self.encode(src)
        return self.decode(tgt, memory, blank)

    @torch.no_grad()
    def greedy(self, src, max_len=18):
        memory, blank = self.encode(src)
        ys = torch.full((len(src), 1), BOS)
        for _ in range(max_len):
            nxt = self.decode(ys, memory, blank)[:, -1].argmax(-1, keepdim=True)
            ys = torch.cat([ys, nxt], 1)
        return ys[:, 1:]


def strip(row):
    row = row.tolist()
    return row[: row.index(EOS)] if EOS in row else row


def exact_match(model, numbers):
    model.eval()
    right = 0
    for i in range(0, len(numbers), 128):
        chunk = numbers[i:i + 128]
        src, tgt = make_batch(chunk)
        right += sum(strip(h) == strip(t) for h, t in zip(model.greedy(src), tgt[:, 1:]))
    model.train()
    return right / len(numbers)


def lr_factor(step):
    if step < hp["warmup"]:
        return (step + 1) / hp["warmup"]
    return math.sqrt(hp["warmup"] / (step + 1))


def run():
    rng = random.Random(1)
    torch.manual_seed(1)
    numbers = list(range(1, 3000))
    rng.shuffle(numbers)
    test, train = numbers[:256], numbers[256:]

    model = Seq2Seq(hp)
    criterion = nn.CrossEntropyLoss(ignore_index=PAD)
    optimizer = torch.optim.Adam(model.parameters(), lr=hp["peak_lr"], betas=(0.9, 0.98))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_factor)
    stream = batches(train, hp["batch"], rng)
    model.train()
    for step in range(1, hp["steps"] + 1):
        src, tgt = next(stream)
        tgt_in, tgt_out = tgt[:, :-1], tgt[:, 1:]
        logits = model(src, tgt_in)
        loss = criterion(logits.reshape(-1, logits.shape[-1]), tgt_out.reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        if step % 100 == 0:
            real = tgt_out != PAD
            token_acc = (logits.argmax(-1) == tgt_out)[real].float().mean().item()
            print(f"step {step} loss {loss.item():.4f} token acc {token_acc:.3f} exact match on test {exact_match(model, test):.3f}")


run()
