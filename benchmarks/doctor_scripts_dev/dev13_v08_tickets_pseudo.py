"""Support tickets in four queues. Few tickets have a queue, many have none: teacher -> pseudo labels -> student."""
import random
from collections import Counter

import torch
from torch import nn, optim
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

QUEUES = {
    "billing": ["invoice", "refund", "charge", "payment", "receipt", "card", "price", "discount"],
    "login": ["password", "account", "locked", "signin", "reset", "token", "username", "verify"],
    "shipping": ["parcel", "courier", "address", "delayed", "tracking", "warehouse", "delivery", "box"],
    "bug": ["crash", "error", "freeze", "screen", "update", "version", "log", "button"],
}
FILLER = "hello please i my the a with is about since yesterday today help team thanks again still and we got".split()
PAD, UNK = 0, 1


def write_tickets(count, seed):
    """Mostly filler, two to four words of the queue, and at times one of another queue."""
    rnd = random.Random(seed)
    names, tickets = list(QUEUES), []
    for _ in range(count):
        queue = rnd.randrange(len(names))
        words = rnd.choices(FILLER, k=rnd.randint(3, 16)) + rnd.choices(QUEUES[names[queue]], k=rnd.randint(2, 4))
        if rnd.random() < 0.4:
            words.append(rnd.choice(QUEUES[rnd.choice(names)]))
        rnd.shuffle(words)
        tickets.append((" ".join(words), queue))
    return tickets


class Vocab:
    def __init__(self, texts, min_count=1):
        counts = Counter(word for text in texts for word in text.split())
        self.itos = ["<pad>", "<unk>"] + [w for w, c in counts.most_common() if c >= min_count]
        self.stoi = {w: i for i, w in enumerate(self.itos)}

    def __len__(self):
        return len(self.itos)

    def encode(self, text):
        return torch.tensor([self.stoi.get(w, UNK) for w in text.split()])


def make_loader(texts, labels, vocab, bs, shuffle):
    def collate(rows):
        ids = pad_sequence([vocab.encode(t) for t, _ in rows], batch_first=True, padding_value=PAD)
        return ids, torch.tensor([k for _, k in rows])

    return DataLoader(list(zip(texts, labels)), batch_size=bs, shuffle=shuffle, collate_fn=collate)


class TicketClassifier(nn.Module):
    def __init__(self, n_words, dim=32, heads=4, n_classes=4):
        super().__init__()
        self.embed = nn.Embedding(n_words, dim, padding_idx=PAD)
        self.attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm = nn.LayerNorm(dim)
        self.ff = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Dropout(0.1), nn.Linear(2 * dim, n_classes))

    def forward(self, ids):
        pad = ids == PAD
        h = self.embed(ids)
        a, _ = self.attn(h, h, h, key_padding_mask=pad, need_weights=False)
        h = self.norm(h + a).masked_fill(pad.unsqueeze(-1), 0.0)
        pooled = h.sum(1) / (~pad).sum(1, keepdim=True)
        return self.ff(pooled)


def fit(model, loader, epochs, lr):
    optimizer = optim.Adam(model.parameters(), lr=lr)
    loss_fn = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for ids, queue in loader:
            loss = loss_fn(model(ids), queue)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item() * len(queue)
    return total / len(loader.dataset)


@torch.no_grad()
def predict(model, loader):
    model.eval()
    probs = torch.cat([model(ids).softmax(dim=-1) for ids, _ in loader])
    return probs.max(dim=-1)


def accuracy(model, loader):
    _, guess = predict(model, loader)
    truth = torch.cat([queue for _, queue in loader])
    return (guess == truth).float().mean().item()


def main(n_labelled=80, n_unlabelled=900, n_test=400, threshold=0.8):
    torch.manual_seed(5)
    labelled, test = write_tickets(n_labelled, seed=1), write_tickets(n_test, seed=3)
    pool = [text for text, _ in write_tickets(n_unlabelled, seed=2)]
    texts, labels = [t for t, _ in labelled], [k for _, k in labelled]
    test_texts, test_labels = [t for t, _ in test], [k for _, k in test]

    vocab = Vocab(texts + pool)
    print("words:", len(vocab), "| labelled:", len(texts), "| pool:", len(pool))
    train_loader = make_loader(texts, labels, vocab, bs=16, shuffle=True)
    test_loader = make_loader(test_texts, test_labels, vocab, bs=100, shuffle=False)

    teacher = TicketClassifier(len(vocab))
    loss = fit(teacher, train_loader, epochs=15, lr=3e-3)
    print(f"teacher: loss {loss:.3f}, test accuracy {accuracy(teacher, test_loader):.3f}")

    pool_loader = make_loader(pool, [0] * len(pool), vocab, bs=100, shuffle=False)
    confidence, guess = predict(teacher, pool_loader)
    sure = (confidence > threshold).tolist()
    pseudo_texts = [t for t, ok in zip(pool, sure) if ok]
    pseudo_labels = [k for k, ok in zip(guess.tolist(), sure) if ok]
    print(f"pseudo labels: {len(pseudo_texts)} of {len(pool)}, by queue {sorted(Counter(pseudo_labels).items())}")

    student = TicketClassifier(len(vocab))
    both_loader = make_loader(texts + pseudo_texts, labels + pseudo_labels, vocab, bs=32, shuffle=True)
    loss = fit(student, both_loader, epochs=8, lr=3e-3)
    print(f"student: loss {loss:.3f}, test accuracy {accuracy(student, test_loader):.3f}")


if __name__ == "__main__":
    main()
