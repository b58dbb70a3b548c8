"""Tag names in short texts as persons, places or clubs, which only the rest of the text tells. With Accelerate."""

import argparse
import copy
import random

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.metrics import f1_score
from torch import nn
from torch.utils.data import DataLoader
from transformers import get_linear_schedule_with_warmup

TAGS = ["O", "PER", "LOC", "ORG"]
TAG_ID = {tag: i for i, tag in enumerate(TAGS)}
ENTITIES = [TAG_ID[tag] for tag in ("PER", "LOC", "ORG")]
IGNORE = -100
PAD = 0
MAX_LEN = 24

NAMES = "paris jordan chelsea austin sydney florence victoria georgia rose hope".split()
CUES = {
    "O": "cloud rain garden season flower weather".split(),
    "PER": "said laughed married born aunt doctor".split(),
    "LOC": "visited hotel train airport near river".split(),
    "ORG": "scored league coach striker stadium cup".split(),
}
FILLERS = "the a one of and then with again not very old new while some first last".split()
WORDS = ["<pad>"] + sorted({*NAMES, *FILLERS, *(word for cues in CUES.values() for word in cues)})
WORD_ID = {word: i for i, word in enumerate(WORDS)}


def write_sentence(rng):
    topic = rng.choices(list(CUES), weights=[25, 30, 25, 20])[0]
    words, tags = [], []
    for _ in range(rng.randint(6, 20)):
        kind = rng.random()
        if kind < 0.3:
            words.append(rng.choice(NAMES))
            tags.append(topic)
        else:
            stray = rng.random() < 0.15
            cues = CUES[rng.choice(list(CUES))] if stray else CUES[topic]
            words.append(rng.choice(cues if kind < 0.6 else FILLERS))
            tags.append("O")
    return [WORD_ID[word] for word in words], [TAG_ID[tag] for tag in tags]


def collate(rows):
    input_ids = torch.full((len(rows), MAX_LEN), PAD)
    labels = torch.full((len(rows), MAX_LEN), IGNORE)
    for i, (ids, tags) in enumerate(rows):
        input_ids[i, : len(ids)] = torch.tensor(ids)
        labels[i, : len(tags)] = torch.tensor(tags)
    return {"input_ids": input_ids, "attention_mask": input_ids.ne(PAD).long(), "labels": labels}


class Tagger(nn.Module):
    def __init__(self, vocab_size, num_labels, dim=48, heads=4, layers=2, dropout=0.1):
        super().__init__()
        self.words = nn.Embedding(vocab_size, dim, padding_idx=PAD)
        self.positions = nn.Embedding(MAX_LEN, dim)
        nn.init.normal_(self.positions.weight, std=0.1)
        layer = nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(dim), enable_nested_tensor=False)
        self.classifier = nn.Linear(dim, num_labels)

    def forward(self, input_ids, attention_mask):
        x = self.words(input_ids) + self.positions.weight[: input_ids.size(1)]
        x = self.encoder(x, src_key_padding_mask=attention_mask.eq(0))
        return self.classifier(x)


def evaluate(accelerator, model, loader):
    model.eval()
    preds, refs = [], []
    for batch in loader:
        with torch.no_grad():
            logits = model(batch["input_ids"], batch["attention_mask"])
        pred, ref = accelerator.gather_for_metrics((logits.argmax(dim=-1), batch["labels"]))
        keep = ref != IGNORE
        preds.append(pred[keep])
        refs.append(ref[keep])
    preds, refs = torch.cat(preds).cpu(), torch.cat(refs).cpu()
    f1 = f1_score(refs.numpy(), preds.numpy(), labels=ENTITIES, average="macro", zero_division=0)
    return {"accuracy": (preds == refs).float().mean().item(), "f1": float(f1)}


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--per_device_train_batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--weight_decay", type=float, default=0.01)
    parser.add_argument("--num_train_epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=3)
    return parser.parse_args()


def main():
    args = parse_args()
    accelerator = Accelerator(cpu=True)
    set_seed(args.seed)

    rng = random.Random(args.seed)
    train, valid, test = ([write_sentence(rng) for _ in range(count)] for count in (1200, 300, 300))
    train_dataloader = DataLoader(
        train, batch_size=args.per_device_train_batch_size, shuffle=True, collate_fn=collate
    )
    eval_dataloader = DataLoader(valid, batch_size=100, collate_fn=collate)
    test_dataloader = DataLoader(test, batch_size=100, collate_fn=collate)

    model = Tagger(len(WORDS), len(TAGS))
    counts = torch.bincount(torch.tensor([tag for _, tags in train for tag in tags]), minlength=len(TAGS))
    class_weights = (counts.sum() / counts.clamp(min=1)).sqrt()
    criterion = nn.CrossEntropyLoss(weight=class_weights, ignore_index=IGNORE)

    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
    max_train_steps = args.num_train_epochs * len(train_dataloader)
    lr_scheduler = get_linear_schedule_with_warmup(
        optimizer, num_warmup_steps=max_train_steps // 10, num_training_steps=max_train_steps
    )
    model, optimizer, train_dataloader, eval_dataloader, test_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, test_dataloader, lr_scheduler
    )

    best_f1, best_state = -1.0, None
    for epoch in range(args.num_train_epochs):
        model.train()
        total_loss = 0.0
        for batch in train_dataloader:
            logits = model(batch["input_ids"], batch["attention_mask"])
            loss = criterion(logits.flatten(0, 1), batch["labels"].flatten())
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
            total_loss += loss.detach().item()
        metrics = evaluate(accelerator, model, eval_dataloader)
        accelerator.print(f"epoch {epoch}: loss {total_loss / len(train_dataloader):.4f}", metrics)
        if metrics["f1"] > best_f1:
            best_f1 = metrics["f1"]
            best_state = copy.deepcopy(accelerator.unwrap_model(model).state_dict())

    accelerator.unwrap_model(model).load_state_dict(best_state)
    accelerator.print("test:", evaluate(accelerator, model, test_dataloader))


if __name__ == "__main__":
    main()
