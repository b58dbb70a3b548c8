"""Which animal is the text about? A tiny BERT from a config, trained with the Hugging Face Trainer."""
import random
import tempfile

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

import toydata

ANIMALS = ["bird", "cat", "dog", "fish"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def make_documents(text, count, seed):
    """Two to five sentences about one animal, none of the documents twice."""
    rng = random.Random(seed)
    by_animal = {animal: [] for animal in ANIMALS}
    for line in text.split("\n")[:-1]:
        words = line.split()
        by_animal[words[1]].append(words)
    documents = {}
    while len(documents) < count:
        label = rng.randrange(len(ANIMALS))
        sentences = rng.sample(by_animal[ANIMALS[label]], rng.randint(2, 5))
        documents[tuple(word for sentence in sentences for word in sentence)] = label
    return list(documents.items())


class WordTokenizer:
    def __init__(self, documents):
        words = sorted({word for tokens, _ in documents for word in tokens})
        self.vocab = {word: i for i, word in enumerate(SPECIAL + words)}
        self.pad_token_id = self.vocab["[PAD]"]

    def __len__(self):
        return len(self.vocab)

    def encode(self, tokens):
        unk = self.vocab["[UNK]"]
        return [self.vocab["[CLS]"], *(self.vocab.get(word, unk) for word in tokens), self.vocab["[SEP]"]]


class TextDataset(Dataset):
    def __init__(self, documents, tokenizer):
        self.examples = [{"input_ids": tokenizer.encode(tokens), "label": label} for tokens, label in documents]

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, idx):
        return self.examples[idx]


class Collator:
    def __init__(self, pad_token_id):
        self.pad_token_id = pad_token_id

    def __call__(self, features):
        longest = max(len(f["input_ids"]) for f in features)
        input_ids = torch.full((len(features), longest), self.pad_token_id, dtype=torch.long)
        attention_mask = torch.zeros(len(features), longest, dtype=torch.long)
        for row, f in enumerate(features):
            length = len(f["input_ids"])
            input_ids[row, :length] = torch.tensor(f["input_ids"])
            attention_mask[row, :length] = 1
        labels = torch.tensor([f["label"] for f in features])
        return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    return {
        "accuracy": accuracy_score(labels, predictions),
        "macro_f1": f1_score(labels, predictions, average="macro"),
    }


def main():
    set_seed(7)
    train_documents = make_documents(toydata.text(length=16000, seed=0), 800, seed=0)
    known = {tokens for tokens, _ in train_documents}
    eval_documents = make_documents(toydata.text(length=16000, seed=1), 200, seed=1)
    eval_documents = [(tokens, label) for tokens, label in eval_documents if tokens not in known]
    tokenizer = WordTokenizer(train_documents)
    train_dataset, eval_dataset = TextDataset(train_documents, tokenizer), TextDataset(eval_documents, tokenizer)

    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=40,
        pad_token_id=tokenizer.pad_token_id,
        num_labels=len(ANIMALS),
    )
    model = BertForSequenceClassification(config)

    with tempfile.TemporaryDirectory() as output_dir:
        training_args = TrainingArguments(
            output_dir=output_dir,
            num_train_epochs=6,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=64,
            learning_rate=2e-3,
            lr_scheduler_type="linear",
            warmup_steps=15,
            weight_decay=0.01,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            logging_steps=25,
            dataloader_pin_memory=False,
            disable_tqdm=True,
            report_to="none",
            seed=7,
        )
        trainer = Trainer(
            model=model,
            args=training_args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=Collator(tokenizer.pad_token_id),
            compute_metrics=compute_metrics,
        )
        trainer.train()
        print({key: round(value, 4) for key, value in trainer.evaluate().items()})


if __name__ == "__main__":
    main()
