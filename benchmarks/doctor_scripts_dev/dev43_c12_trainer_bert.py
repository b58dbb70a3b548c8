"""Do the animals of a short text like more than they eat? A tiny BERT from scratch with the Hugging Face Trainer."""
import random
import tempfile

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

from toydata import text

TONE = {"likes": 1, "eats": -1, "sees": 0}
LABELS = ["negative", "neutral", "positive"]
PAD, CLS, SEP = 0, 1, 2


def make_documents(count, seed=0):
    """Different texts of two or three sentences; no text comes twice."""
    rng = random.Random(seed)
    sentences = [line.split() for line in text(length=15000, seed=seed).split(".\n")[:-1]]
    documents, seen = [], set()
    while len(documents) < count:
        words = [word for sentence in rng.choices(sentences, k=rng.randint(2, 3)) for word in sentence + ["."]]
        if tuple(words) in seen:
            continue
        seen.add(tuple(words))
        tone = sum(TONE.get(word, 0) for word in words)
        documents.append((words, int(np.sign(tone)) + 1))
    return documents


class WordTokenizer:
    def __init__(self, documents):
        words = sorted({word for tokens, _ in documents for word in tokens})
        self.index = {word: i for i, word in enumerate(words, start=3)}

    def __len__(self):
        return len(self.index) + 3

    def __call__(self, words):
        return [CLS] + [self.index[word] for word in words] + [SEP]


class DocumentDataset(Dataset):
    def __init__(self, documents, tokenizer):
        self.rows = [{"input_ids": tokenizer(words), "labels": label} for words, label in documents]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def pad_collator(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), longest), PAD)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        mask[i, : len(row["input_ids"])] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([row["labels"] for row in rows])}


def compute_metrics(prediction):
    logits, labels = prediction
    return {"accuracy": float((np.argmax(logits, axis=-1) == labels).mean())}


def main():
    set_seed(8)
    documents = make_documents(1900)
    train_documents, val_documents, test_documents = documents[:1400], documents[1400:1600], documents[1600:]
    tokenizer = WordTokenizer(train_documents)
    train_set, val_set, test_set = (
        DocumentDataset(part, tokenizer) for part in (train_documents, val_documents, test_documents)
    )
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=32,
        initializer_range=0.08,
        hidden_dropout_prob=0.05,
        attention_probs_dropout_prob=0.05,
        pad_token_id=PAD,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
        label2id={name: i for i, name in enumerate(LABELS)},
    )
    model = BertForSequenceClassification(config)
    with tempfile.TemporaryDirectory() as folder:
        training_args = TrainingArguments(
            output_dir=folder,
            num_train_epochs=9,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=100,
            learning_rate=1.5e-3,
            weight_decay=0.01,
            warmup_steps=40,
            lr_scheduler_type="cosine",
            eval_strategy="epoch",
            save_strategy="epoch",
            logging_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            use_cpu=True,
            disable_tqdm=True,
            report_to="none",
            seed=8,
        )
        trainer = Trainer(
            model=model,
            args=training_args,
            train_dataset=train_set,
            eval_dataset=val_set,
            data_collator=pad_collator,
            compute_metrics=compute_metrics,
        )
        trainer.train()
        print(trainer.evaluate(test_set, metric_key_prefix="test"))


if __name__ == "__main__":
    main()
