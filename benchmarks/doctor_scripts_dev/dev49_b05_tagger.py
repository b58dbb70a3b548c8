# Token classification with a small Transformer, in the manner of the "no trainer" examples:
# names are tagged as persons or as places, depending on a key word somewhere in the sentence.
import argparse

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.metrics import f1_score
from torch import nn
from torch.utils.data import DataLoader
from transformers import get_linear_schedule_with_warmup

PAD_ID = 0
KEY_WORDS = (3, 4)
FILLERS = (5, 25)
NAMES = (25, 35)
VOCAB_SIZE = 35
MAX_LENGTH = 24
NUM_LABELS = 3  # O, PER, LOC
LABEL_PAD = -100


def make_sentences(count, seed):
    rng = np.random.default_rng(seed)
    examples = []
    for _ in range(count):
        length = int(rng.integers(6, 21))
        is_name = rng.random(length) < 0.4
        tokens = np.where(is_name, rng.integers(*NAMES, length), rng.integers(*FILLERS, length))
        labels = np.zeros(length, dtype=np.int64)
        kind = int(rng.integers(0, 2))
        labels[is_name] = 1 + kind
        position = int(rng.integers(0, length))
        tokens[position], labels[position] = KEY_WORDS[kind], 0
        examples.append({"input_ids": tokens.tolist(), "labels": labels.tolist()})
    return examples


def collate_fn(batch):
    input_ids = torch.full((len(batch), MAX_LENGTH), PAD_ID)
    attention_mask = torch.zeros((len(batch), MAX_LENGTH), dtype=torch.long)
    labels = torch.full((len(batch), MAX_LENGTH), LABEL_PAD)
    for i, example in enumerate(batch):
        length = len(example["input_ids"])
        input_ids[i, :length] = torch.tensor(example["input_ids"])
        attention_mask[i, :length] = 1
        labels[i, :length] = torch.tensor(example["labels"])
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


class TokenClassifier(nn.Module):
    def __init__(self, hidden_size=48, num_heads=4, num_layers=2, dropout=0.1):
        super().__init__()
        self.word_embeddings = nn.Embedding(VOCAB_SIZE, hidden_size, padding_idx=PAD_ID)
        self.position_embeddings = nn.Embedding(MAX_LENGTH, hidden_size)
        nn.init.normal_(self.position_embeddings.weight, std=0.1)
        self.norm = nn.LayerNorm(hidden_size)
        layer = nn.TransformerEncoderLayer(hidden_size, num_heads, 2 * hidden_size, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.classifier = nn.Linear(hidden_size, NUM_LABELS)

    def forward(self, input_ids, attention_mask):
        positions = torch.arange(input_ids.size(1), device=input_ids.device)
        hidden = self.norm(self.word_embeddings(input_ids) + self.position_embeddings(positions))
        hidden = self.encoder(hidden, src_key_padding_mask=attention_mask == 0)
        return self.classifier(hidden)


def evaluate(model, dataloader, accelerator):
    model.eval()
    predictions, references = [], []
    for batch in dataloader:
        with torch.no_grad():
            logits = model(batch["input_ids"], batch["attention_mask"])
        predicted, labels = accelerator.gather_for_metrics((logits.argmax(dim=-1), batch["labels"]))
        keep = labels != LABEL_PAD
        predictions.append(predicted[keep].cpu().numpy())
        references.append(labels[keep].cpu().numpy())
    predictions, references = np.concatenate(predictions), np.concatenate(references)
    return (predictions == references).mean(), f1_score(references, predictions, average="macro")


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num_train_epochs", type=int, default=8)
    parser.add_argument("--per_device_train_batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--weight_decay", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def main():
    args = parse_args()
    accelerator = Accelerator(cpu=True)
    set_seed(args.seed)

    train_dataset = make_sentences(1600, seed=0)
    eval_dataset = make_sentences(300, seed=1)
    train_dataloader = DataLoader(
        train_dataset, shuffle=True, collate_fn=collate_fn, batch_size=args.per_device_train_batch_size
    )
    eval_dataloader = DataLoader(eval_dataset, collate_fn=collate_fn, batch_size=100)

    model = TokenClassifier()
    criterion = nn.CrossEntropyLoss(ignore_index=LABEL_PAD)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
    max_train_steps = args.num_train_epochs * len(train_dataloader)
    lr_scheduler = get_linear_schedule_with_warmup(optimizer, max_train_steps // 10, max_train_steps)
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
    )

    for epoch in range(args.num_train_epochs):
        model.train()
        total_loss = 0.0
        for batch in train_dataloader:
            logits = model(batch["input_ids"], batch["attention_mask"])
            loss = criterion(logits.reshape(-1, NUM_LABELS), batch["labels"].reshape(-1))
            accelerator.backward(loss)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
            total_loss += loss.detach().float().item()
        accuracy, f1 = evaluate(model, eval_dataloader, accelerator)
        accelerator.print(
            f"epoch {epoch}: train_loss {total_loss / len(train_dataloader):.4f} accuracy {accuracy:.4f} f1 {f1:.4f}"
        )


if __name__ == "__main__":
    main()
