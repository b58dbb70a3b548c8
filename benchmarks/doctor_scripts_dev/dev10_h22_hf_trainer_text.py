"""Hugging Face Trainer with a small BERT from scratch: sentences of various lengths, dynamic padding, attention masks."""
import tempfile

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback, TrainerCallback

ANIMALS = {"small": ["mouse", "worm", "ant", "bee"], "large": ["horse", "bear", "whale", "cow"]}
VERBS = ["sees", "likes", "follows", "fears", "meets"]
EXTRA = ["today", "near the river", "in the old barn", "with great joy", "again and again", "before the long winter"]


def sentences(count, seed):
    """Label 1 where the one who acts is larger than the other, 0 where smaller, 2 where both are alike."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        label = int(rng.integers(3))
        sizes = [("small", "large"), ("large", "small")][label] if label < 2 else [("small",) * 2, ("large",) * 2][rng.integers(2)]
        actor, other = (rng.choice(ANIMALS[s]) for s in sizes)
        tail = " ".join(rng.choice(EXTRA, size=rng.integers(0, 3), replace=False))
        rows.append((f"the {actor} {rng.choice(VERBS)} the {other} {tail}".strip(), label))
    return rows


class Vocabulary:
    def __init__(self, texts):
        words = sorted({w for t in texts for w in t.split()})
        self.ids = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, **{w: i + 4 for i, w in enumerate(words)}}

    def encode(self, text):
        return [1] + [self.ids.get(w, 3) for w in text.split()] + [2]


class Sentences(Dataset):
    def __init__(self, rows, vocabulary):
        self.rows = [{"input_ids": vocabulary.encode(t), "label": y} for t, y in rows]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def collate(features):
    longest = max(len(f["input_ids"]) for f in features)
    ids = torch.tensor([f["input_ids"] + [0] * (longest - len(f["input_ids"])) for f in features])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": torch.tensor([f["label"] for f in features])}


def compute_metrics(prediction):
    predicted = prediction.predictions.argmax(-1)
    return {"accuracy": float((predicted == prediction.label_ids).mean())}


class Report(TrainerCallback):
    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        print(f"epoch {state.epoch:.0f} eval loss {metrics['eval_loss']:.4f} accuracy {metrics['eval_accuracy']:.4f}")


def main():
    set_seed(0)
    train_rows = sentences(1600, seed=0)
    known = {t for t, _ in train_rows}
    valid_rows = [row for row in sentences(500, seed=1) if row[0] not in known]
    vocabulary = Vocabulary([t for t, _ in train_rows])
    print(f"{len(train_rows)} sentences to learn from, {len(valid_rows)} new ones, {len(vocabulary.ids)} words")

    config = BertConfig(
        vocab_size=len(vocabulary.ids), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=32, type_vocab_size=1, num_labels=3, hidden_dropout_prob=0.05, attention_probs_dropout_prob=0.05)
    model = BertForSequenceClassification(config)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, num_train_epochs=14, per_device_train_batch_size=64, per_device_eval_batch_size=128,
            learning_rate=1.5e-3, lr_scheduler_type="linear", warmup_steps=35, weight_decay=0.01, max_grad_norm=1.0,
            eval_strategy="epoch", save_strategy="epoch", save_total_limit=1, load_best_model_at_end=True, metric_for_best_model="loss", greater_is_better=False,
            logging_strategy="epoch", report_to=[], disable_tqdm=True, use_cpu=True, seed=0)
        trainer = Trainer(model=model, args=arguments, train_dataset=Sentences(train_rows, vocabulary),
                          eval_dataset=Sentences(valid_rows, vocabulary), data_collator=collate,
                          compute_metrics=compute_metrics, callbacks=[Report()])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        print(f"best model: {trainer.evaluate()['eval_accuracy']:.4f}")


if __name__ == "__main__":
    main()
