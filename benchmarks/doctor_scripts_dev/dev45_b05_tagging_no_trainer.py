"""Token classification without a Trainer, with Accelerate."""
import argparse
import math
import random

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader
from transformers import get_scheduler

DETS, ADJS = ["the", "a", "one"], ["big", "old", "red", "slow"]
NOUNS = ["cat", "dog", "bird", "fish", "mouse", "horse", "fox", "hen"]
VERBS, ADVERBS, PREPS = ["sees", "likes", "hears", "finds"], ["often", "now", "today"], ["near", "under"]
VOCAB = {w: i for i, w in enumerate(["[PAD]"] + DETS + ADJS + NOUNS + VERBS + ADVERBS + PREPS)}
LABELS = ["O", "SUBJECT", "VERB", "OBJECT", "PLACE"]


def make_sentence(rng):
    def phrase(label):
        adjectives = [(rng.choice(ADJS), 0) for _ in range(rng.randint(0, 2))]
        return [(rng.choice(DETS), 0)] + adjectives + [(rng.choice(NOUNS), label)]

    words = [(rng.choice(ADVERBS), 0)] if rng.random() < 0.4 else []
    words += phrase(1) + [(rng.choice(VERBS), 2)]
    if rng.random() < 0.4:
        words.append((rng.choice(ADVERBS), 0))
    words += phrase(3)
    if rng.random() < 0.5:
        words += [(rng.choice(PREPS), 0), (rng.choice(DETS), 0), (rng.choice(NOUNS), 4)]
    return {"input_ids": [VOCAB[w] for w, _ in words], "labels": [t for _, t in words]}


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--train_size", type=int, default=1200)
    parser.add_argument("--eval_size", type=int, default=300)
    parser.add_argument("--max_length", type=int, default=16)
    parser.add_argument("--per_device_train_batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--weight_decay", type=float, default=0.01)
    parser.add_argument("--num_train_epochs", type=int, default=6)
    parser.add_argument("--num_warmup_steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


class Tagger(nn.Module):
    def __init__(self, vocab_size, num_labels, max_length, hidden=48):
        super().__init__()
        self.words = nn.Embedding(vocab_size, hidden, padding_idx=0)
        self.positions = nn.Embedding(max_length, hidden)
        layer = nn.TransformerEncoderLayer(hidden, 4, 96, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.classifier = nn.Linear(hidden, num_labels)
        self.num_labels = num_labels

    def forward(self, input_ids, attention_mask, labels=None):
        places = torch.arange(input_ids.size(1), device=input_ids.device)
        hidden = self.words(input_ids) + self.positions(places)
        hidden = self.encoder(hidden, src_key_padding_mask=attention_mask == 0)
        logits = self.classifier(hidden)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.view(-1, self.num_labels), labels.view(-1), ignore_index=-100)
        return loss, logits


def main():
    args = parse_args()
    accelerator = Accelerator(cpu=True)
    set_seed(args.seed)
    rng = random.Random(args.seed)
    examples = [make_sentence(rng) for _ in range(args.train_size + args.eval_size)]
    train_examples = examples[: args.train_size]
    eval_examples = examples[args.train_size :]

    def collate(features):
        batch = {"input_ids": [], "attention_mask": [], "labels": []}
        for f in features:
            missing = args.max_length - len(f["input_ids"])
            batch["input_ids"].append(f["input_ids"] + [0] * missing)
            batch["attention_mask"].append([1] * len(f["input_ids"]) + [0] * missing)
            batch["labels"].append(f["labels"] + [-100] * missing)
        return {k: torch.tensor(v) for k, v in batch.items()}

    train_dataloader = DataLoader(
        train_examples, shuffle=True, collate_fn=collate, batch_size=args.per_device_train_batch_size
    )
    eval_dataloader = DataLoader(eval_examples, collate_fn=collate, batch_size=64)

    model = Tagger(len(VOCAB), len(LABELS), args.max_length)
    no_decay = ["bias", "norm"]
    grouped = [
        {
            "params": [p for n, p in model.named_parameters() if not any(nd in n for nd in no_decay)],
            "weight_decay": args.weight_decay,
        },
        {
            "params": [p for n, p in model.named_parameters() if any(nd in n for nd in no_decay)],
            "weight_decay": 0.0,
        },
    ]
    optimizer = torch.optim.AdamW(grouped, lr=args.learning_rate)
    max_train_steps = args.num_train_epochs * math.ceil(len(train_dataloader))
    lr_scheduler = get_scheduler(
        name="linear",
        optimizer=optimizer,
        num_warmup_steps=args.num_warmup_steps,
        num_training_steps=max_train_steps,
    )
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
    )

    for epoch in range(args.num_train_epochs):
        model.train()
        total_loss = 0.0
        for batch in train_dataloader:
            loss, _ = model(**batch)
            total_loss += loss.detach().float()
            accelerator.backward(loss)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()

        model.eval()
        right = torch.zeros(len(LABELS))
        count = torch.zeros(len(LABELS))
        for batch in eval_dataloader:
            with torch.no_grad():
                _, logits = model(**batch)
            predictions, references = accelerator.gather_for_metrics((logits.argmax(dim=-1), batch["labels"]))
            real = references != -100
            predictions, references = predictions[real], references[real]
            right += torch.bincount(references[predictions == references], minlength=len(LABELS))
            count += torch.bincount(references, minlength=len(LABELS))
        by_label = {name: round((r / c).item(), 3) for name, r, c in zip(LABELS, right, count)}
        mean_loss = total_loss.item() / len(train_dataloader)
        accelerator.print(f"epoch {epoch}: loss {mean_loss:.4f} accuracy {(right.sum() / count.sum()):.4f} {by_label}")


if __name__ == "__main__":
    main()
