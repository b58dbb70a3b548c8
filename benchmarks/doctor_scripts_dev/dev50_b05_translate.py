"""Translation with a small transformer, after the well-known tutorial: English sentences to French word order."""

import random

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

PAD, BOS, EOS, UNK = 0, 1, 2, 3
MAX_LEN = 14
BATCH_SIZE = 32
NUM_EPOCHS = 14
DETERMINERS = {"the": "le", "a": "un", "this": "ce"}
NOUNS = {
    "cat": "chat", "dog": "chien", "horse": "cheval", "bird": "oiseau", "baker": "boulanger", "king": "roi",
    "neighbor": "voisin", "wolf": "loup", "rabbit": "lapin", "boy": "garçon",
}  # fmt: skip
ADJECTIVES = {"red": "rouge", "black": "noir", "green": "vert", "sad": "triste", "calm": "calme", "odd": "bizarre"}
VERBS = {"sees": "voit", "likes": "aime", "hears": "entend", "follows": "suit", "finds": "trouve"}


def noun_phrase(rng):
    det, noun = rng.choice(list(DETERMINERS)), rng.choice(list(NOUNS))
    if rng.random() < 0.5:
        adj = rng.choice(list(ADJECTIVES))
        return [det, adj, noun], [DETERMINERS[det], NOUNS[noun], ADJECTIVES[adj]]
    return [det, noun], [DETERMINERS[det], NOUNS[noun]]


def make_pairs(count, seed):
    rng, pairs = random.Random(seed), []
    for _ in range(count):
        (s1, t1), (s2, t2), verb = noun_phrase(rng), noun_phrase(rng), rng.choice(list(VERBS))
        src, tgt = s1 + [verb] + s2, t1 + [VERBS[verb]] + t2
        if rng.random() < 0.4:
            s3, t3 = noun_phrase(rng)
            src, tgt = src + ["and"] + s3, tgt + ["et"] + t3
        pairs.append((src, tgt))
    return pairs


def build_vocab(sentences):
    vocab = {"<pad>": PAD, "<bos>": BOS, "<eos>": EOS, "<unk>": UNK}
    for sentence in sentences:
        for word in sentence:
            vocab.setdefault(word, len(vocab))
    return vocab


def encode(words, vocab):
    ids = [BOS] + [vocab.get(word, UNK) for word in words] + [EOS]
    return torch.tensor(ids + [PAD] * (MAX_LEN - len(ids)))


class TranslationSet(Dataset):
    def __init__(self, pairs, src_vocab, tgt_vocab):
        self.items = [(encode(src, src_vocab), encode(tgt, tgt_vocab)) for src, tgt in pairs]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Seq2SeqTransformer(nn.Module):
    def __init__(self, src_size, tgt_size, emb_size=64, nhead=4, layers=2, ffn=128, dropout=0.1):
        super().__init__()
        self.src_tok_emb = nn.Embedding(src_size, emb_size, padding_idx=PAD)
        self.tgt_tok_emb = nn.Embedding(tgt_size, emb_size, padding_idx=PAD)
        self.positions = nn.Embedding(MAX_LEN, emb_size)
        self.transformer = nn.Transformer(
            emb_size, nhead, layers, layers, ffn, dropout, batch_first=True, norm_first=True
        )
        self.generator = nn.Linear(emb_size, tgt_size)

    def embed(self, table, ids):
        return table(ids) + self.positions(torch.arange(ids.size(1), device=ids.device))

    def forward(self, src, tgt):
        src_padding_mask = src == PAD
        tgt_padding_mask = tgt == PAD
        size = tgt.size(1)
        tgt_mask = torch.triu(torch.ones(size, size, dtype=torch.bool, device=tgt.device), diagonal=1)
        hidden = self.transformer(
            self.embed(self.src_tok_emb, src),
            self.embed(self.tgt_tok_emb, tgt),
            tgt_mask=tgt_mask,
            src_key_padding_mask=src_padding_mask,
            tgt_key_padding_mask=tgt_padding_mask,
            memory_key_padding_mask=src_padding_mask,
        )
        return self.generator(hidden)


def train_epoch(model, loader, loss_fn, optimizer, scheduler):
    model.train()
    losses = 0.0
    for src, tgt in loader:
        tgt_input, tgt_out = tgt[:, :-1], tgt[:, 1:]
        logits = model(src, tgt_input)
        optimizer.zero_grad()
        loss = loss_fn(logits.reshape(-1, logits.shape[-1]), tgt_out.reshape(-1))
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses += loss.item()
    return losses / len(loader)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    right = total = 0
    for src, tgt in loader:
        tgt_input, tgt_out = tgt[:, :-1], tgt[:, 1:]
        words = tgt_out != PAD
        right += (model(src, tgt_input).argmax(dim=-1) == tgt_out)[words].sum().item()
        total += words.sum().item()
    return right / total


@torch.no_grad()
def greedy_decode(model, src):
    ys = torch.full((len(src), 1), BOS)
    finished = torch.zeros(len(src), dtype=torch.bool)
    for _ in range(MAX_LEN - 1):
        next_word = model(src, ys)[:, -1].argmax(dim=-1).masked_fill(finished, PAD)
        ys = torch.cat([ys, next_word.unsqueeze(1)], dim=1)
        finished |= next_word == EOS
    return ys


if __name__ == "__main__":
    torch.manual_seed(0)
    train_pairs, valid_pairs = make_pairs(1800, seed=1), make_pairs(300, seed=2)
    src_vocab = build_vocab(src for src, _ in train_pairs)
    tgt_vocab = build_vocab(tgt for _, tgt in train_pairs)
    train_set = TranslationSet(train_pairs, src_vocab, tgt_vocab)
    valid_set = TranslationSet(valid_pairs, src_vocab, tgt_vocab)
    train_loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True)
    valid_loader = DataLoader(valid_set, batch_size=100)

    model = Seq2SeqTransformer(len(src_vocab), len(tgt_vocab))
    loss_fn = nn.CrossEntropyLoss(ignore_index=PAD)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.5e-3, betas=(0.9, 0.98), eps=1e-9)
    steps, warmup = NUM_EPOCHS * len(train_loader), 50
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, max(0.0, (steps - step) / (steps - warmup)))
    )

    for epoch in range(1, NUM_EPOCHS + 1):
        train_loss = train_epoch(model, train_loader, loss_fn, optimizer, scheduler)
        accuracy = evaluate(model, valid_loader)
        print(f"Epoch: {epoch}, loss: {train_loss:.3f}, words right: {accuracy:.3f}")

    model.eval()
    exact = sum((greedy_decode(model, src) == tgt).all(dim=1).sum().item() for src, tgt in valid_loader)
    print(f"sentences translated without a mistake: {exact / len(valid_set):.3f}")
