# # Homework 4: a Transformer that spells numbers
# "4 0 7" -> "<s> four zero seven </s>"
import math

import numpy as np
import torch
import torch.nn as nn

torch.manual_seed(0)
rng = np.random.default_rng(0)
device = "cuda" if torch.cuda.is_available() else "cpu"

# ## Data
PAD, BOS, EOS = 0, 1, 2
WORDS = "zero one two three four five six seven eight nine".split()
SRC_VOCAB, TGT_VOCAB = 3 + 10, 3 + len(WORDS)
MAX_DIGITS, SRC_LEN, TGT_LEN = 8, 11, 11


def make_pairs(n):
    seen = set()
    while len(seen) < n:
        length = rng.integers(2, MAX_DIGITS + 1)
        seen.add(tuple(int(d) for d in rng.integers(0, 10, length)))
    pairs = sorted(seen)
    rng.shuffle(pairs)
    return [tuple(p) for p in pairs]


def encode(pairs):
    src = torch.full((len(pairs), SRC_LEN), PAD)
    tgt = torch.full((len(pairs), TGT_LEN), PAD)
    for row, digits in enumerate(pairs):
        tokens = torch.tensor([3 + int(d) for d in digits])
        n = len(tokens)
        src[row, :n], src[row, n] = tokens, EOS
        tgt[row, 0], tgt[row, 1 : n + 1], tgt[row, n + 1] = BOS, tokens, EOS
    return src, tgt


pairs = make_pairs(2000)
src_all, tgt_all = encode(pairs)
src_train, tgt_train = src_all[:1700], tgt_all[:1700]
src_val, tgt_val = src_all[1700:].to(device), tgt_all[1700:].to(device)
train_loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(src_train, tgt_train), batch_size=32, shuffle=True
)


# ## Model
class Seq2SeqTransformer(nn.Module):
    def __init__(self, d_model=64, nhead=4, layers=1, dropout=0.05):
        super().__init__()
        self.d_model = d_model
        self.src_embed = nn.Embedding(SRC_VOCAB, d_model)
        self.tgt_embed = nn.Embedding(TGT_VOCAB, d_model)
        self.positions = nn.Parameter(torch.randn(max(SRC_LEN, TGT_LEN), d_model) * 0.5)
        self.transformer = nn.Transformer(
            d_model, nhead, layers, layers, 128, dropout, batch_first=True, norm_first=True
        )
        self.generator = nn.Linear(d_model, TGT_VOCAB)
        for embed in (self.src_embed, self.tgt_embed):
            nn.init.normal_(embed.weight, std=d_model**-0.5)

    def add_positions(self, x):
        return x * math.sqrt(self.d_model) + self.positions[: x.size(1)]

    def forward(self, src, tgt):
        src_padding = src == PAD
        steps = tgt.size(1)
        causal = torch.triu(torch.ones(steps, steps, dtype=torch.bool, device=tgt.device), diagonal=1)
        hidden = self.transformer(
            self.add_positions(self.src_embed(src)),
            self.add_positions(self.tgt_embed(tgt)),
            tgt_mask=causal,
            src_key_padding_mask=src_padding,
            memory_key_padding_mask=src_padding,
            tgt_key_padding_mask=tgt == PAD,
        )
        return self.generator(hidden)


model = Seq2SeqTransformer().to(device)
criterion = nn.CrossEntropyLoss(ignore_index=PAD)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.98), eps=1e-9)
WARMUP = 100
scheduler = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda step: min((step + 1) / WARMUP, math.sqrt(WARMUP / (step + 1)))
)


# ## Training and greedy decoding
def train_epoch():
    model.train()
    losses = []
    for src, tgt in train_loader:
        src, tgt = src.to(device), tgt.to(device)
        logits = model(src, tgt[:, :-1])
        loss = criterion(logits.reshape(-1, TGT_VOCAB), tgt[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return np.mean(losses)


@torch.no_grad()
def greedy_decode(src):
    model.eval()
    out = torch.full((len(src), 1), BOS, device=src.device)
    ended = torch.zeros(len(src), dtype=torch.bool, device=src.device)
    for _ in range(TGT_LEN - 1):
        token = model(src, out)[:, -1].argmax(dim=-1)
        token = torch.where(ended, torch.full_like(token, PAD), token)
        ended = ended | (token == EOS)
        out = torch.cat([out, token[:, None]], dim=1)
    return out


@torch.no_grad()
def validate():
    model.eval()
    logits = model(src_val, tgt_val[:, :-1])
    gold = tgt_val[:, 1:]
    loss = criterion(logits.reshape(-1, TGT_VOCAB), gold.reshape(-1)).item()
    real = gold != PAD
    token_acc = (logits.argmax(dim=-1) == gold)[real].float().mean().item()
    return loss, token_acc


for epoch in range(12):
    train_loss = train_epoch()
    val_loss, token_acc = validate()
    print(f"epoch {epoch + 1:2d}  train {train_loss:.3f}  val {val_loss:.3f}  token accuracy {token_acc:.3f}")

decoded = greedy_decode(src_val)
exact = (decoded == tgt_val).all(dim=1).float().mean().item()
print(f"exact match of greedy decoding: {exact:.3f}")
for row in range(3):
    source = "".join(str(int(t) - 3) for t in src_val[row] if t > EOS)
    print(source, "->", " ".join(WORDS[int(t) - 3] for t in decoded[row] if t > EOS))
