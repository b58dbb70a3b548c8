"""A BERT of two layers from scratch with the Hugging Face Trainer: reviews with negations, positive or negative."""

import random
import tempfile

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging

logging.set_verbosity_error()

GOOD = "good great lovely superb fine brilliant charming moving".split()
BAD = "bad awful dull poor weak boring clumsy silly".split()
THINGS = "plot acting music ending script cast dialogue camera".split()
FILL = "really quite rather truly somewhat honestly simply".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = SPECIAL + GOOD + BAD + THINGS + FILL + "the was not and but , . i saw it on a rainy day with friends last week".split()
VOCAB = {w: i for i, w in enumerate(dict.fromkeys(WORDS))}


def review(rng):
    """One clause of judgement, perhaps negated, within others that say nothing."""
    label = rng.random() < 0.5
    negated = rng.random() < 0.4
    word = rng.choice(GOOD if label != negated else BAD)
    clause = ["the", rng.choice(THINGS), "was"] + (["not"] if negated else [])
    if rng.random() < 0.5:
        clause.append(rng.choice(FILL))
    clause.append(word)
    before = rng.choice([[], "i saw it last week ,".split(), "on a rainy day i saw it and".split()])
    after = rng.choice([[], ", with friends".split(), "and i saw it on a day with friends".split()])
    return " ".join(before + clause + after + ["."]), int(label)


def unique_reviews(count, seed):
    """Each text once, so that no text of training is met again in evaluation."""
    rng, rows = random.Random(seed), {}
    while len(rows) < count:
        text, label = review(rng)
        rows[text] = label
    return list(rows.items())


class Reviews(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        text, label = self.rows[i]
        ids = ["[CLS]"] + text.split() + ["[SEP]"]
        return {"input_ids": [VOCAB.get(w, VOCAB["[UNK]"]) for w in ids], "label": label}


def collate(features):
    longest = max(len(f["input_ids"]) for f in features)
    pad = lambda row, value: row + [value] * (longest - len(row))
    return {
        "input_ids": torch.tensor([pad(f["input_ids"], VOCAB["[PAD]"]) for f in features]),
        "attention_mask": torch.tensor([pad([1] * len(f["input_ids"]), 0) for f in features]),
        "labels": torch.tensor([f["label"] for f in features]),
    }


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    return {"accuracy": accuracy_score(labels, predictions), "f1": f1_score(labels, predictions)}


class Printer(TrainerCallback):
    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        shown = {k: round(v, 4) for k, v in metrics.items() if k in ("eval_loss", "eval_accuracy", "eval_f1")}
        print(f"epoch {state.epoch:.0f} step {state.global_step} {shown}", flush=True)


def main():
    set_seed(42)
    rows = unique_reviews(3200, seed=1)
    random.shuffle(rows)
    train_dataset, eval_dataset, test_dataset = Reviews(rows[:2400]), Reviews(rows[2400:2800]), Reviews(rows[2800:])
    config = BertConfig(
        vocab_size=len(VOCAB),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=40,
        num_labels=2,
        initializer_range=0.08,
        pad_token_id=VOCAB["[PAD]"],
    )
    model = BertForSequenceClassification(config)
    with tempfile.TemporaryDirectory() as output_dir:
        args = TrainingArguments(
            output_dir=output_dir,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=100,
            num_train_epochs=16,
            learning_rate=1e-3,
            warmup_steps=80,
            lr_scheduler_type="linear",
            weight_decay=0.01,
            max_grad_norm=1.0,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            save_only_model=True,
            load_best_model_at_end=True,
            metric_for_best_model="eval_accuracy",
            greater_is_better=True,
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            seed=42,
        )
        trainer = Trainer(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=collate,
            compute_metrics=compute_metrics,
            callbacks=[Printer(), EarlyStoppingCallback(early_stopping_patience=6)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        test = trainer.predict(test_dataset).metrics
        print(f"test accuracy {test['test_accuracy']:.4f} f1 {test['test_f1']:.4f}")


if __name__ == "__main__":
    main()
