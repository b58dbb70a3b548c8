"""Sentiment of short reviews with a small BERT from scratch and the Trainer of transformers."""

import random
import tempfile

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

THINGS = ["film", "plot", "cast", "ending", "music", "book", "story", "dialogue"]
GOOD = ["great", "lovely", "brilliant", "moving", "funny"]
BAD = ["awful", "boring", "clumsy", "weak", "dull"]
PLAIN = ["long", "french", "recent", "animated", "short"]
OPENERS = ["", "well", "to be honest", "i must say that", "as we all know"]
CLOSERS = ["", "overall", "in the second half of the evening", "if you ask me", "this time"]
LABELS = ["negative", "positive", "neutral"]


def make_reviews(count, seed):
    rng = random.Random(seed)
    reviews = []
    for _ in range(count):
        label = rng.randrange(3)
        negated = rng.random() < 0.4
        if label == 2:
            word = rng.choice(PLAIN)
        else:
            word = rng.choice(GOOD if (label == 1) != negated else BAD)
        words = [rng.choice(OPENERS), "the", rng.choice(THINGS), "was"]
        words += ["not"] if negated else []
        words += [rng.choice(["", "very", "really"]), word, rng.choice(CLOSERS)]
        reviews.append((" ".join(w for w in words if w), label))
    return reviews


class WordTokenizer:
    def __init__(self, sentences):
        words = sorted({word for sentence in sentences for word in sentence.split()})
        self.ids = {word: i for i, word in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]"] + words)}

    def __call__(self, sentence):
        return [1] + [self.ids.get(word, 3) for word in sentence.split()] + [2]

    def __len__(self):
        return len(self.ids)


class ReviewDataset(Dataset):
    def __init__(self, reviews, tokenizer):
        self.items = [{"input_ids": tokenizer(sentence), "labels": label} for sentence, label in reviews]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, idx):
        return self.items[idx]


def collate(features):
    longest = max(len(f["input_ids"]) for f in features)
    rows = [f["input_ids"] + [0] * (longest - len(f["input_ids"])) for f in features]
    input_ids = torch.tensor(rows)
    return {
        "input_ids": input_ids,
        "attention_mask": (input_ids != 0).long(),
        "labels": torch.tensor([f["labels"] for f in features]),
    }


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    recalls = [float((predictions[labels == k] == k).mean()) for k in range(len(LABELS))]
    return {"accuracy": float((predictions == labels).mean()), "macro_recall": float(np.mean(recalls))}


def main():
    set_seed(42)
    torch.set_num_threads(1)
    train_reviews, eval_reviews = make_reviews(1500, seed=1), make_reviews(300, seed=2)
    seen = {sentence for sentence, _ in train_reviews}
    eval_reviews = [review for review in eval_reviews if review[0] not in seen]
    tokenizer = WordTokenizer([sentence for sentence, _ in train_reviews])

    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=40,
        pad_token_id=0,
        initializer_range=0.05,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
        label2id={name: i for i, name in enumerate(LABELS)},
    )
    model = BertForSequenceClassification(config)
    with tempfile.TemporaryDirectory() as output_dir:
        training_args = TrainingArguments(
            output_dir=output_dir,
            num_train_epochs=12,
            per_device_train_batch_size=25,
            per_device_eval_batch_size=100,
            learning_rate=1e-3,
            weight_decay=0.01,
            lr_scheduler_type="cosine",
            warmup_steps=50,
            eval_strategy="epoch",
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            use_cpu=True,
            seed=42,
        )
        trainer = Trainer(
            model=model,
            args=training_args,
            train_dataset=ReviewDataset(train_reviews, tokenizer),
            eval_dataset=ReviewDataset(eval_reviews, tokenizer),
            data_collator=collate,
            compute_metrics=compute_metrics,
        )
        trainer.train()
        print(trainer.evaluate())


if __name__ == "__main__":
    main()
