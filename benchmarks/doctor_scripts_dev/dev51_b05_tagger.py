"""Token classification (who does what to whom) with a BiLSTM and Accelerate, without a Trainer."""

import argparse
import copy
import random

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset
from transformers import get_linear_schedule_with_warmup

from toydata import text

PAD, UNK = 0, 1
LABEL_LIST = ["O", "B-AGENT", "I-AGENT", "V", "B-OBJECT", "I-OBJECT"]
CLAUSE = ["B-AGENT", "I-AGENT", "V", "B-OBJECT", "I-OBJECT", "O"]


def parse_args():
    parser = argparse.ArgumentParser(description="Train a tagger on a token classification task")
    parser.add_argument("--per_device_train_batch_size", type=int, default=16)
    parser.add_argument("--per_device_eval_batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=5e-3)
    parser.add_argument("--num_train_epochs", type=int, default=6)
    parser.add_argument("--warmup_ratio", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


def load_sentences(seed):
    """Spoken sentences of two to four clauses, with hesitations, as lists of (word, label)."""
    rng = random.Random(seed)
    words = text(60000, seed=seed).split()
    clauses = [list(zip(words[i : i + 6], CLAUSE)) for i in range(0, len(words) - 5, 6)]
    sentences, start = [], 0
    while start < len(clauses):
        sentence, length = [], rng.randint(2, 4)
        for pair in sum(clauses[start : start + length], []):
            sentence.append(pair)
            if rng.random() < 0.25:
                sentence.append((rng.choice(["uh", "er", "well"]), "O"))
        sentences.append(tuple(sentence))
        start += length
    sentences = list(dict.fromkeys(sentences))
    rng.shuffle(sentences)
    return sentences


class TaggingDataset(Dataset):
    def __init__(self, sentences, vocab):
        self.items = []
        for sentence in sentences:
            ids = torch.tensor([vocab.get(word, UNK) for word, _ in sentence])
            labels = torch.tensor([LABEL_LIST.index(label) for _, label in sentence])
            self.items.append((ids, labels))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def data_collator(features):
    ids, labels = zip(*features)
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=PAD),
        "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
        "lengths": torch.tensor([len(row) for row in ids]),
    }


class BiLSTMForTokenClassification(nn.Module):
    def __init__(self, vocab_size, num_labels, embedding_size=32, hidden_size=32, dropout=0.2):
        super().__init__()
        self.embeddings = nn.Embedding(vocab_size, embedding_size, padding_idx=PAD)
        self.encoder = nn.LSTM(embedding_size, hidden_size, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * hidden_size, num_labels)

    def forward(self, input_ids, lengths, labels=None):
        packed = pack_padded_sequence(
            self.embeddings(input_ids), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        hidden, _ = pad_packed_sequence(self.encoder(packed)[0], batch_first=True)
        logits = self.classifier(self.dropout(hidden))
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100)
        return {"loss": loss, "logits": logits}


@torch.no_grad()
def evaluate(model, dataloader, accelerator):
    model.eval()
    correct = total = 0
    for batch in dataloader:
        predictions = model(**batch)["logits"].argmax(dim=-1)
        mask = batch["input_ids"] != PAD
        predictions, labels, mask = accelerator.gather_for_metrics((predictions, batch["labels"], mask))
        correct += (predictions == labels)[mask].sum().item()
        total += mask.sum().item()
    return correct / total


def main():
    args = parse_args()
    accelerator = Accelerator(cpu=True)
    set_seed(args.seed)

    sentences = load_sentences(args.seed)
    n = len(sentences) // 10
    splits = {"test": sentences[:n], "validation": sentences[n : 2 * n], "train": sentences[2 * n :]}
    words = sorted({word for sentence in splits["train"] for word, _ in sentence})
    vocab = {word: i + 2 for i, word in enumerate(words)}
    datasets = {name: TaggingDataset(part, vocab) for name, part in splits.items()}
    train_dataloader = DataLoader(
        datasets["train"], shuffle=True, collate_fn=data_collator, batch_size=args.per_device_train_batch_size
    )
    eval_dataloader, test_dataloader = (
        DataLoader(datasets[name], collate_fn=data_collator, batch_size=args.per_device_eval_batch_size)
        for name in ("validation", "test")
    )

    model = BiLSTMForTokenClassification(len(vocab) + 2, len(LABEL_LIST))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)
    max_train_steps = args.num_train_epochs * len(train_dataloader)
    lr_scheduler = get_linear_schedule_with_warmup(
        optimizer, num_warmup_steps=int(args.warmup_ratio * max_train_steps), num_training_steps=max_train_steps
    )
    model, optimizer, train_dataloader, eval_dataloader, test_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, test_dataloader, lr_scheduler
    )

    best_accuracy, best_state = 0.0, None
    for epoch in range(args.num_train_epochs):
        model.train()
        total_loss = 0.0
        for batch in train_dataloader:
            loss = model(**batch)["loss"]
            accelerator.backward(loss)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
            total_loss += loss.detach().item()
        accuracy = evaluate(model, eval_dataloader, accelerator)
        accelerator.print(f"epoch {epoch}: loss {total_loss / len(train_dataloader):.4f} accuracy {accuracy:.4f}")
        if accuracy > best_accuracy:
            best_accuracy, best_state = accuracy, copy.deepcopy(accelerator.unwrap_model(model).state_dict())

    accelerator.unwrap_model(model).load_state_dict(best_state)
    accelerator.print(f"test accuracy {evaluate(model, test_dataloader, accelerator):.4f}")


if __name__ == "__main__":
    main()
