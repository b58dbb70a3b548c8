"""Sentiment of generated reviews with a small BERT from scratch and the Hugging Face Trainer."""

import random
import tempfile

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments, set_seed

GOOD = ["good", "great", "lovely", "brilliant", "funny", "moving"]
BAD = ["bad", "dull", "awful", "boring", "silly", "weak"]
THINGS = ["movie", "plot", "acting", "music", "ending", "story", "dialogue", "cast"]
FILLERS = ["honestly", "well", "yesterday", "we", "saw", "this", "with", "friends", "at", "home", "in", "the", "evening"]
OTHERS = ["was", "is", "not", "very", "quite", "really", ".", ","]
SPECIAL = ["[PAD]", "[CLS]", "[SEP]"]
VOCAB = {word: i for i, word in enumerate(SPECIAL + sorted(set(GOOD + BAD + THINGS + FILLERS + OTHERS)))}
MAX_LENGTH = 20


def make_review(rng):
    positive = rng.random() < 0.5
    negated = rng.random() < 0.3
    adjective = rng.choice(GOOD if positive else BAD)
    words = [rng.choice(FILLERS) for _ in range(rng.randint(1, 6))]
    words += ["the", rng.choice(THINGS), rng.choice(["was", "is"])]
    if negated:
        words.append("not")
    if rng.random() < 0.5:
        words.append(rng.choice(["very", "quite", "really"]))
    words.append(adjective)
    if rng.random() < 0.5:
        words += [","] + [rng.choice(FILLERS) for _ in range(rng.randint(1, 4))]
    return " ".join(words + ["."]), int(positive != negated)


def make_reviews(count, seed):
    rng, reviews = random.Random(seed), {}
    while len(reviews) < count:
        text, label = make_review(rng)
        reviews[text] = label  # the same text only once
    return list(reviews.items())


class ReviewDataset(Dataset):
    def __init__(self, reviews):
        self.items = []
        for text, label in reviews:
            ids = [VOCAB["[CLS]"]] + [VOCAB[word] for word in text.split()] + [VOCAB["[SEP]"]]
            assert len(ids) <= MAX_LENGTH
            padding = MAX_LENGTH - len(ids)
            self.items.append(
                {
                    "input_ids": torch.tensor(ids + [VOCAB["[PAD]"]] * padding),
                    "attention_mask": torch.tensor([1] * len(ids) + [0] * padding),
                    "labels": torch.tensor(label),
                }
            )

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    true_positive = int(((predictions == 1) & (labels == 1)).sum())
    precision = true_positive / max(1, int((predictions == 1).sum()))
    recall = true_positive / max(1, int((labels == 1).sum()))
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    return {"accuracy": float((predictions == labels).mean()), "f1": f1}


class PrintMetrics(TrainerCallback):
    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        print(
            f"epoch {state.epoch:.0f}: eval loss {metrics['eval_loss']:.4f} "
            f"accuracy {metrics['eval_accuracy']:.4f} f1 {metrics['eval_f1']:.4f}",
            flush=True,
        )


def main():
    set_seed(31)
    reviews = make_reviews(3800, seed=8)
    train_set, eval_set = ReviewDataset(reviews[:3200]), ReviewDataset(reviews[3200:])

    config = BertConfig(
        vocab_size=len(VOCAB),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=MAX_LENGTH,
        pad_token_id=VOCAB["[PAD]"],
        num_labels=2,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
    )
    model = BertForSequenceClassification(config)

    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            num_train_epochs=10,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=100,
            learning_rate=1e-3,
            weight_decay=0.01,
            warmup_steps=100,
            lr_scheduler_type="linear",
            max_grad_norm=1.0,
            eval_strategy="epoch",
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=31,
        )
        trainer = Trainer(
            model=model,
            args=args,
            train_dataset=train_set,
            eval_dataset=eval_set,
            compute_metrics=compute_metrics,
            callbacks=[PrintMetrics()],
        )
        trainer.train()
        print({key: round(value, 4) for key, value in trainer.evaluate().items() if key.startswith("eval_")})


if __name__ == "__main__":
    main()
