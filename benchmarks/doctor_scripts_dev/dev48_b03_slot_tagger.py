"""CS 6xx, assignment 4: slot filling. Tags depend on what the whole sentence is about."""
import random

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

CITIES = ["york", "delhi", "haven", "orleans", "rome", "oslo", "lima"]
FOODS = ["soup", "rice", "pizza", "curry", "salad"]
FILLERS = ["please", "the", "today", "with", "some", "and", "now", "very", "my", "we", "quickly", "for"]
CITY_SLOT = {"fly": "to", "weather": "loc", "eat": "loc", "sing": None}
TAGS = ["O", "B-to", "I-to", "B-loc", "I-loc", "B-dish"]
TAG_TO_ID = {tag: i for i, tag in enumerate(TAGS)}
WORDS = ["<pad>", "new"] + CITIES + FOODS + FILLERS + list(CITY_SLOT)
WORD_TO_ID = {word: i for i, word in enumerate(WORDS)}
PAD_ID = 0
PAD_TAG = -100


def make_sentence(intent, rng):
    words, tags = [], []
    for _ in range(rng.randint(3, 12)):
        draw = rng.random()
        if draw < 0.5:
            words.append(rng.choice(FILLERS))
            tags.append("O")
        elif draw < 0.8:
            slot = CITY_SLOT[intent]
            begin, inside = ("O", "O") if slot is None else ("B-" + slot, "I-" + slot)
            if rng.random() < 0.4:
                words += ["new", rng.choice(CITIES)]
                tags += [begin, inside]
            else:
                words.append(rng.choice(CITIES))
                tags.append(begin)
        else:
            words.append(rng.choice(FOODS))
            tags.append("B-dish" if intent == "eat" else "O")
    if rng.random() < 0.5:
        words, tags = [intent] + words, ["O"] + tags
    else:
        words, tags = words + [intent], tags + ["O"]
    return words, tags


def make_corpus(per_intent, seed):
    rng = random.Random(seed)
    corpus = []
    for intent in CITY_SLOT:
        for _ in range(per_intent):
            words, tags = make_sentence(intent, rng)
            token_ids = torch.tensor([WORD_TO_ID[word] for word in words])
            tag_ids = torch.tensor([TAG_TO_ID[tag] for tag in tags])
            corpus.append((token_ids, tag_ids))
    return corpus


def collate(batch):
    tokens, tags = zip(*batch)
    tokens = pad_sequence(tokens, batch_first=True, padding_value=PAD_ID)
    tags = pad_sequence(tags, batch_first=True, padding_value=PAD_TAG)
    return tokens, tags


class SelfAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x, pad):
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / (d // self.heads) ** 0.5
        scores = scores.masked_fill(pad[:, None, None, :], -1e9)
        mixed = scores.softmax(dim=-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(b, t, d))


class EncoderLayer(nn.Module):
    def __init__(self, dim, heads, dropout=0.1):
        super().__init__()
        self.attention = SelfAttention(dim, heads)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, pad):
        x = x + self.dropout(self.attention(self.norm1(x), pad))
        return x + self.dropout(self.feed_forward(self.norm2(x)))


class Tagger(nn.Module):
    def __init__(self, dim=48, heads=4, depth=2, max_len=32):
        super().__init__()
        self.words = nn.Embedding(len(WORDS), dim, padding_idx=PAD_ID)
        self.places = nn.Embedding(max_len, dim)
        self.neighbors = nn.Conv1d(dim, dim, kernel_size=3, padding=1, bias=False)
        self.layers = nn.ModuleList([EncoderLayer(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, len(TAGS))

    def forward(self, tokens):
        pad = tokens.eq(PAD_ID)
        x = self.words(tokens)
        x = x + self.neighbors(x.transpose(1, 2)).transpose(1, 2)
        x = x + self.places(torch.arange(tokens.shape[1]))
        for layer in self.layers:
            x = layer(x, pad)
        return self.classifier(self.norm(x))


def train_epoch(model, loader, criterion, optimizer):
    model.train()
    loss_sum, n = 0.0, 0
    for tokens, tags in loader:
        optimizer.zero_grad()
        logits = model(tokens)
        loss = criterion(logits.flatten(0, 1), tags.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        loss_sum += loss.item() * len(tokens)
        n += len(tokens)
    return loss_sum / n


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct = total = slots_correct = slots = 0
    for tokens, tags in loader:
        predicted = model(tokens).argmax(dim=-1)
        real = tags != PAD_TAG
        slot = real & (tags != TAG_TO_ID["O"])
        correct += ((predicted == tags) & real).sum().item()
        total += real.sum().item()
        slots_correct += ((predicted == tags) & slot).sum().item()
        slots += slot.sum().item()
    return correct / total, slots_correct / max(slots, 1)


def main():
    torch.manual_seed(4)
    train_loader = DataLoader(make_corpus(300, seed=0), batch_size=32, shuffle=True, collate_fn=collate)
    dev_loader = DataLoader(make_corpus(60, seed=1), batch_size=60, collate_fn=collate)
    model = Tagger()
    criterion = nn.CrossEntropyLoss(ignore_index=PAD_TAG)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(1, 13):
        loss = train_epoch(model, train_loader, criterion, optimizer)
        accuracy, slot_accuracy = evaluate(model, dev_loader)
        print(f"Epoch {epoch:2d} | train loss {loss:.4f} | dev acc {accuracy:.3f} | slot acc {slot_accuracy:.3f}")


if __name__ == "__main__":
    main()
