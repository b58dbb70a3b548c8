#!/usr/bin/env python
# coding=utf-8
"""Token classification (who does what to whom) with a tiny BERT and 🤗 Accelerate, no Trainer."""
import copy
import random

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForTokenClassification, get_scheduler

import toydata

LABELS = ["DET-SUBJ", "SUBJ", "VERB", "DET-OBJ", "OBJ", "PUNCT"]
PAD, UNK = 0, 1


def build_examples(seed):
    """Paragraphs of two to four sentences, every one once."""
    sentences = [line.split() for line in toydata.text(40000).split("\n")]
    sentences = [words for words in sentences if len(words) == len(LABELS)]
    rng = random.Random(seed)
    paragraphs, position = [], 0
    while position + 4 <= len(sentences):
        size = rng.randint(2, 4)
        chosen = sentences[position:position + size]
        paragraphs.append(tuple(word for words in chosen for word in words))
        position += size
    paragraphs = list(dict.fromkeys(paragraphs))
    rng.shuffle(paragraphs)
    return [(list(words), list(range(len(LABELS))) * (len(words) // len(LABELS))) for words in paragraphs]


def encode(examples, vocabulary):
    return [
        {"input_ids": [vocabulary.get(word, UNK) for word in words], "labels": tags}
        for words, tags in examples
    ]


def collate(features):
    longest = max(len(f["input_ids"]) for f in features)
    batch = {"input_ids": [], "attention_mask": [], "labels": []}
    for f in features:
        fill = longest - len(f["input_ids"])
        batch["input_ids"].append(f["input_ids"] + [PAD] * fill)
        batch["attention_mask"].append([1] * len(f["input_ids"]) + [0] * fill)
        batch["labels"].append(f["labels"] + [-100] * fill)
    return {name: torch.tensor(rows) for name, rows in batch.items()}


def evaluate(model, loader, accelerator):
    model.eval()
    right, count = torch.zeros(len(LABELS)), torch.zeros(len(LABELS))
    for batch in loader:
        with torch.no_grad():
            logits = model(**batch).logits
        predictions, labels = logits.argmax(dim=-1), batch["labels"]
        predictions = accelerator.pad_across_processes(predictions, dim=1, pad_index=-100)
        labels = accelerator.pad_across_processes(labels, dim=1, pad_index=-100)
        predictions, labels = accelerator.gather_for_metrics((predictions, labels))
        real = labels != -100
        predictions, labels = predictions[real], labels[real]
        count += torch.bincount(labels, minlength=len(LABELS))
        right += torch.bincount(labels[predictions == labels], minlength=len(LABELS))
    per_label = {name: round(float(r / c), 3) for name, r, c in zip(LABELS, right, count)}
    return float(right.sum() / count.sum()), per_label


def main(seed=13, epochs=8, batch_size=32, learning_rate=2e-3, warmup_ratio=0.1, max_grad_norm=1.0):
    accelerator = Accelerator(cpu=True)
    set_seed(seed)

    examples = build_examples(seed)
    n_eval = len(examples) // 6
    test, dev, train = examples[:n_eval], examples[n_eval:2 * n_eval], examples[2 * n_eval:]
    words = sorted({word for sentence, _ in train for word in sentence})
    vocabulary = {word: i + 2 for i, word in enumerate(words)}
    accelerator.print(f"{len(train)} train, {len(dev)} dev, {len(test)} test, {len(vocabulary)} words")

    train_loader = DataLoader(encode(train, vocabulary), batch_size=batch_size, shuffle=True, collate_fn=collate)
    dev_loader = DataLoader(encode(dev, vocabulary), batch_size=64, collate_fn=collate)
    test_loader = DataLoader(encode(test, vocabulary), batch_size=64, collate_fn=collate)

    config = BertConfig(
        vocab_size=len(vocabulary) + 2,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=32,
        num_labels=len(LABELS),
        pad_token_id=PAD,
    )
    model = BertForTokenClassification(config)

    no_decay = ("bias", "LayerNorm.weight")
    grouped = [
        {"params": [p for n, p in model.named_parameters() if not n.endswith(no_decay)], "weight_decay": 0.01},
        {"params": [p for n, p in model.named_parameters() if n.endswith(no_decay)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(grouped, lr=learning_rate)
    total_steps = epochs * len(train_loader)
    scheduler = get_scheduler("linear", optimizer, int(warmup_ratio * total_steps), total_steps)
    model, optimizer, train_loader, dev_loader, test_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, dev_loader, test_loader, scheduler
    )

    best, best_state = -1.0, None
    for epoch in range(epochs):
        model.train()
        total_loss = 0.0
        for batch in train_loader:
            outputs = model(**batch)
            accelerator.backward(outputs.loss)
            accelerator.clip_grad_norm_(model.parameters(), max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            total_loss += outputs.loss.detach().float()
        accuracy, _ = evaluate(model, dev_loader, accelerator)
        accelerator.print(f"epoch {epoch}: train loss {total_loss.item() / len(train_loader):.4f}, dev accuracy {accuracy:.4f}")
        if accuracy > best:
            best, best_state = accuracy, copy.deepcopy(accelerator.unwrap_model(model).state_dict())

    accelerator.unwrap_model(model).load_state_dict(best_state)
    accuracy, per_label = evaluate(model, test_loader, accelerator)
    accelerator.print(f"test accuracy {accuracy:.4f} {per_label}")


if __name__ == "__main__":
    main()
