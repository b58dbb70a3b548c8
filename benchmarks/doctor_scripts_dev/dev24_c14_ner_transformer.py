"""Named entities: a small transformer encoder gives each word a tag (BIO scheme)."""

import argparse
import math
import random

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "B-ORG", "I-ORG"]
TAG_TO_ID = {tag: i for i, tag in enumerate(TAGS)}
PAD, UNK = 0, 1
IGNORE = -100

FIRST = "anna ben carla david emma frank greta hugo ida jonas karl lena max nora otto paula".split()
NAMES = """washington lincoln jordan houston jackson paris austin carter chester florence hamilton
    madison raleigh sydney trenton victoria""".split()
TITLES, PLACES, FIRMS = ["mr", "mrs", "dr"], ["in", "near", "from"], ["inc", "corp", "bank"]
FILLER = """the a old new report said today yesterday that price rose fell market week people many often
    never always again market deal plan first last year month growth talks meeting when while because
    and but then also still saw met called sold bought built closed opened visited asked told found""".split()


def make_sentence(rng):
    tokens, tags = [], []

    def add(words, labels):
        tokens.extend(words)
        tags.extend(labels)

    def add_filler():
        words = [rng.choice(FILLER) for _ in range(rng.randint(2, 4))]
        add(words, ["O"] * len(words))

    add_filler()
    for _ in range(rng.randint(1, 3)):
        kind, name = rng.choice(["title", "person", "place", "firm"]), rng.choice(NAMES)
        if kind == "title":
            add([rng.choice(TITLES), name], ["O", "B-PER"])
        elif kind == "person":
            add([rng.choice(FIRST), name], ["B-PER", "I-PER"])
        elif kind == "place":
            add([rng.choice(PLACES), name], ["O", "B-LOC"])
        else:
            add([name, rng.choice(FIRMS)], ["B-ORG", "I-ORG"])
        add_filler()
    return tokens, tags


def encode(sentences, vocab):
    return [
        (torch.tensor([vocab.get(t, UNK) for t in tokens]), torch.tensor([TAG_TO_ID[t] for t in tags]))
        for tokens, tags in sentences
    ]


def collate_fn(batch):
    inputs, labels = zip(*batch)
    return (
        pad_sequence(inputs, batch_first=True, padding_value=PAD),
        pad_sequence(labels, batch_first=True, padding_value=IGNORE),
    )


class Tagger(nn.Module):
    def __init__(self, vocab_size, d_model=64, nhead=4, layers=2, max_len=64, dropout=0.1):
        super().__init__()
        self.d_model = d_model
        self.tokens = nn.Embedding(vocab_size, d_model, padding_idx=PAD)
        self.positions = nn.Embedding(max_len, d_model)
        layer = nn.TransformerEncoderLayer(d_model, nhead, dim_feedforward=128, dropout=dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(d_model, len(TAGS))

    def forward(self, x):
        padding_mask = x == PAD
        positions = torch.arange(x.size(1), device=x.device)
        hidden = self.dropout(self.tokens(x) + self.positions(positions))
        hidden = self.encoder(hidden, src_key_padding_mask=padding_mask)
        return self.classifier(hidden)


def get_spans(tags):
    """The set of (start, end, type) of one row of tags."""
    spans, start, kind = set(), None, None
    for i, tag in enumerate(tags + ["O"]):
        continues = tag.startswith("I-") and kind == tag[2:]
        if start is not None and not continues:
            spans.add((start, i, kind))
            start, kind = None, None
        if tag.startswith("B-"):
            start, kind = i, tag[2:]
    return spans


@torch.no_grad()
def evaluate(model, loader, criterion, device):
    model.eval()
    loss_sum, tokens, correct = 0.0, 0, 0
    hits, predicted, actual = 0, 0, 0
    for inputs, labels in loader:
        inputs, labels = inputs.to(device), labels.to(device)
        logits = model(inputs)
        mask = labels != IGNORE
        n = mask.sum().item()
        loss_sum += criterion(logits.flatten(0, 1), labels.flatten()).item() * n
        preds = logits.argmax(-1)
        correct += ((preds == labels) & mask).sum().item()
        tokens += n
        lengths = mask.sum(1).tolist()
        for row_pred, row_true, length in zip(preds.tolist(), labels.tolist(), lengths):
            pred_spans = get_spans([TAGS[i] for i in row_pred[:length]])
            true_spans = get_spans([TAGS[i] for i in row_true[:length]])
            hits += len(pred_spans & true_spans)
            predicted += len(pred_spans)
            actual += len(true_spans)
    precision, recall = hits / max(predicted, 1), hits / max(actual, 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return loss_sum / tokens, correct / tokens, f1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--warmup_steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    rng = random.Random(args.seed)
    sentences = [make_sentence(rng) for _ in range(4000)]
    train, val, test = sentences[:3000], sentences[3000:3500], sentences[3500:]
    words = sorted({token for tokens, _ in train for token in tokens})
    vocab = {word: i + 2 for i, word in enumerate(words)}

    train_loader = DataLoader(encode(train, vocab), batch_size=args.batch_size, shuffle=True, collate_fn=collate_fn)
    val_loader = DataLoader(encode(val, vocab), batch_size=100, collate_fn=collate_fn)
    test_loader = DataLoader(encode(test, vocab), batch_size=100, collate_fn=collate_fn)

    model = Tagger(len(vocab) + 2).to(device)
    criterion = nn.CrossEntropyLoss(ignore_index=IGNORE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=0.01)
    total_steps = math.ceil(len(train) / args.batch_size) * args.epochs

    def lr_lambda(step):
        if step < args.warmup_steps:
            return (step + 1) / args.warmup_steps
        return max(0.0, (total_steps - step) / (total_steps - args.warmup_steps))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda)

    for epoch in range(args.epochs):
        model.train()
        loss_sum, tokens = 0.0, 0
        for inputs, labels in train_loader:
            inputs, labels = inputs.to(device), labels.to(device)
            logits = model(inputs)
            loss = criterion(logits.flatten(0, 1), labels.flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            n = (labels != IGNORE).sum().item()
            loss_sum += loss.item() * n
            tokens += n
        val_loss, val_acc, val_f1 = evaluate(model, val_loader, criterion, device)
        print(f"epoch {epoch + 1}: train loss {loss_sum / tokens:.4f}, val loss {val_loss:.4f}, "
              f"token accuracy {val_acc:.4f}, entity F1 {val_f1:.4f}")

    _, test_acc, test_f1 = evaluate(model, test_loader, criterion, device)
    print(f"test: token accuracy {test_acc:.4f}, entity F1 {test_f1:.4f}")


if __name__ == "__main__":
    main()
