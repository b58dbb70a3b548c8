#!/usr/bin/env python
"""Topic classification of short texts with a small transformer and 🤗 Accelerate (after run_glue_no_trainer.py)."""
import argparse
import logging
import random
from collections import Counter

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import get_scheduler
from transformers.modeling_outputs import SequenceClassifierOutput

import toydata

logger = logging.getLogger(__name__)

TOPICS = {
    "cooking": ["oven", "butter", "flour", "simmer", "garlic", "recipe"],
    "finance": ["bond", "market", "interest", "broker", "dividend", "budget"],
    "space": ["orbit", "rocket", "comet", "lunar", "galaxy", "astronaut"],
    "sports": ["goal", "referee", "league", "sprint", "coach", "stadium"],
}
NAMES = list(TOPICS)
PAD, UNK, CLS = 0, 1, 2


def make_rows(count, seed):
    rng = random.Random(seed)
    filler = toydata.text(length=3000, seed=0).split()
    rows = []
    for _ in range(count):
        topic = rng.choice(NAMES)
        words = []
        for _ in range(rng.randint(10, 30)):
            draw = rng.random()
            if draw < 0.3:
                words.append(rng.choice(TOPICS[topic]))
            elif draw < 0.38:
                words.append(rng.choice(TOPICS[rng.choice(NAMES)]))
            else:
                words.append(rng.choice(filler))
        rows.append({"text": " ".join(words), "label": topic})
    return rows


def build_vocab(rows):
    counts = Counter(word for row in rows for word in row["text"].split())
    return {word: i for i, (word, _) in enumerate(counts.most_common(), start=3)}


class TextDataset(Dataset):
    def __init__(self, rows, vocab, label2id, max_length):
        self.ids = torch.full((len(rows), max_length), PAD)
        self.mask = torch.zeros(len(rows), max_length, dtype=torch.long)
        for i, row in enumerate(rows):
            tokens = ([CLS] + [vocab.get(word, UNK) for word in row["text"].split()])[:max_length]
            self.ids[i, : len(tokens)] = torch.tensor(tokens)
            self.mask[i, : len(tokens)] = 1
        self.labels = [label2id[row["label"]] for row in rows]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"input_ids": self.ids[i], "attention_mask": self.mask[i], "labels": self.labels[i]}


class TinyBertForSequenceClassification(nn.Module):
    def __init__(self, vocab_size, num_labels, max_length, hidden_size=48, num_heads=4, num_layers=2):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, hidden_size, padding_idx=PAD)
        self.position_embeddings = nn.Embedding(max_length, hidden_size)
        layer = nn.TransformerEncoderLayer(
            hidden_size, num_heads, dim_feedforward=2 * hidden_size, dropout=0.1, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.classifier = nn.Linear(hidden_size, num_labels)

    def forward(self, input_ids, attention_mask, labels=None):
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        hidden = self.word_embeddings(input_ids) + self.position_embeddings(positions)
        hidden = self.encoder(hidden, src_key_padding_mask=attention_mask == 0)
        logits = self.classifier(hidden[:, 0])
        loss = F.cross_entropy(logits, labels) if labels is not None else None
        return SequenceClassifierOutput(loss=loss, logits=logits)


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--max_length", type=int, default=32)
    parser.add_argument("--per_device_train_batch_size", type=int, default=32)
    parser.add_argument("--per_device_eval_batch_size", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--weight_decay", type=float, default=0.01)
    parser.add_argument("--num_train_epochs", type=int, default=10)
    parser.add_argument("--num_warmup_steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


def main():
    args = parse_args()
    logging.basicConfig(format="%(asctime)s - %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    accelerator = Accelerator(cpu=True)
    set_seed(args.seed)

    train_rows, eval_rows = make_rows(1000, seed=1), make_rows(210, seed=7)
    vocab = build_vocab(train_rows)
    label2id = {name: i for i, name in enumerate(NAMES)}
    train_dataset = TextDataset(train_rows, vocab, label2id, args.max_length)
    eval_dataset = TextDataset(eval_rows, vocab, label2id, args.max_length)
    train_dataloader = DataLoader(train_dataset, shuffle=True, batch_size=args.per_device_train_batch_size)
    eval_dataloader = DataLoader(eval_dataset, batch_size=args.per_device_eval_batch_size)

    model = TinyBertForSequenceClassification(len(vocab) + 3, len(label2id), args.max_length)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
    max_train_steps = args.num_train_epochs * len(train_dataloader)
    lr_scheduler = get_scheduler(
        "linear",
        optimizer=optimizer,
        num_warmup_steps=args.num_warmup_steps,
        num_training_steps=max_train_steps,
    )
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
    )
    logger.info("  Num examples = %d, steps = %d", len(train_dataset), max_train_steps)

    for epoch in range(args.num_train_epochs):
        model.train()
        total_loss = 0.0
        for step, batch in enumerate(train_dataloader):
            outputs = model(**batch)
            accelerator.backward(outputs.loss)
            total_loss += outputs.loss.detach().float()
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()

        model.eval()
        correct = seen = 0
        for batch in eval_dataloader:
            with torch.no_grad():
                outputs = model(**batch)
            predictions = outputs.logits.argmax(dim=-1)
            predictions, references = accelerator.gather_for_metrics((predictions, batch["labels"]))
            correct += (predictions == references).sum().item()
            seen += references.shape[0]
        accuracy = correct / seen
        logger.info("epoch %d: loss %.4f accuracy %.4f", epoch, total_loss.item() / len(train_dataloader), accuracy)


if __name__ == "__main__":
    main()
