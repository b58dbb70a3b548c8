"""Part-of-speech tagging with a small Transformer encoder, trained with 🤗 Accelerate."""

import argparse
import random

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

TAGS = ["DET", "ADJ", "NOUN", "VERB", "ADV"]
WORDS = {
    "DET": ["the", "a", "some", "that"],
    "ADJ": ["light", "round", "clean", "fast", "calm", "old", "cold", "green"],
    "NOUN": ["light", "round", "duck", "fish", "watch", "calm", "cold", "house", "record"],
    "VERB": ["light", "round", "duck", "fish", "watch", "clean", "record", "house", "calm"],
    "ADV": ["fast", "early", "clean", "often", "round"],
}
MAX_LENGTH = 14
VOCAB = {word: i + 2 for i, word in enumerate(sorted({w for words in WORDS.values() for w in words}))}
PAD_ID, UNK_ID = 0, 1


def noun_phrase(rng):
    tags = ["DET"] if rng.random() < 0.7 else []
    return tags + ["ADJ"] * rng.choice([0, 0, 1, 2]) + ["NOUN"]


def make_examples(count, seed):
    rng = random.Random(seed)
    examples = []
    for _ in range(count):
        tags = noun_phrase(rng) + ["VERB"]
        if rng.random() < 0.8:
            tags += noun_phrase(rng)
        if rng.random() < 0.5:
            tags += ["ADV"]
        words = [rng.choice(WORDS[tag]) for tag in tags]
        examples.append({"tokens": words, "tags": [TAGS.index(tag) for tag in tags]})
    return examples


def collate_fn(examples):
    batch = {"input_ids": [], "attention_mask": [], "labels": []}
    for example in examples:
        ids = [VOCAB.get(token, UNK_ID) for token in example["tokens"]]
        missing = MAX_LENGTH - len(ids)
        batch["input_ids"].append(ids + [PAD_ID] * missing)
        batch["attention_mask"].append([1] * len(ids) + [0] * missing)
        batch["labels"].append(example["tags"] + [-100] * missing)
    return {name: torch.tensor(rows) for name, rows in batch.items()}


class TokenClassifier(nn.Module):
    def __init__(self, vocab_size, hidden_size=48, num_layers=2, num_labels=2, dropout=0.1):
        super().__init__()
        self.hidden_size = hidden_size
        self.embeddings = nn.Embedding(vocab_size, hidden_size, padding_idx=PAD_ID)
        self.positions = nn.Embedding(MAX_LENGTH, hidden_size)
        layer = nn.TransformerEncoderLayer(
            hidden_size, 4, 2 * hidden_size, dropout=dropout, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_size, num_labels)

    def forward(self, input_ids, attention_mask):
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        hidden = self.embeddings(input_ids) + self.positions(positions)
        hidden = self.encoder(hidden, src_key_padding_mask=~attention_mask.bool())
        return self.classifier(self.dropout(hidden))


def evaluate(accelerator, model, dataloader):
    model.eval()
    correct = total = 0
    for batch in dataloader:
        with torch.no_grad():
            logits = model(batch["input_ids"], batch["attention_mask"])
        predictions, labels = accelerator.gather_for_metrics((logits.argmax(dim=-1), batch["labels"]))
        valid = labels != -100
        correct += (predictions[valid] == labels[valid]).sum().item()
        total += valid.sum().item()
    return correct / total


def training_function(config, args):
    accelerator = Accelerator(cpu=args.cpu)
    set_seed(config["seed"])
    train_dataloader = DataLoader(
        make_examples(960, seed=0), shuffle=True, collate_fn=collate_fn, batch_size=config["batch_size"]
    )
    eval_dataloader = DataLoader(
        make_examples(240, seed=1), shuffle=False, collate_fn=collate_fn, batch_size=config["batch_size"]
    )

    model = TokenClassifier(vocab_size=len(VOCAB) + 2)
    model.classifier = nn.Linear(model.hidden_size, len(TAGS))
    optimizer = AdamW(model.parameters(), lr=config["lr"], weight_decay=0.01)
    total_steps = config["num_epochs"] * len(train_dataloader)
    warmup_steps = total_steps // 10
    lr_scheduler = LambdaLR(
        optimizer,
        lambda step: min((step + 1) / max(1, warmup_steps), (total_steps - step) / max(1, total_steps - warmup_steps)),
    )
    loss_fn = nn.CrossEntropyLoss()

    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
    )

    for epoch in range(config["num_epochs"]):
        model.train()
        running = 0.0
        for batch in train_dataloader:
            logits = model(batch["input_ids"], batch["attention_mask"])
            loss = loss_fn(logits.flatten(0, 1), batch["labels"].flatten())
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
            running += loss.item()
        accuracy = evaluate(accelerator, model, eval_dataloader)
        accelerator.print(f"epoch {epoch}: loss {running / len(train_dataloader):.4f}, accuracy {accuracy:.4f}")


def main():
    parser = argparse.ArgumentParser(description="Simple example of a token classification training script.")
    parser.add_argument("--cpu", action="store_true", default=True, help="Train on the CPU.")
    args = parser.parse_args()
    config = {"lr": 2e-3, "num_epochs": 8, "seed": 42, "batch_size": 32}
    training_function(config, args)


if __name__ == "__main__":
    main()
