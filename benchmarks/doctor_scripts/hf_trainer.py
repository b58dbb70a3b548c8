import tempfile

import torch
from toydata import text
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

LENGTH = 12


class Sentences(Dataset):
    """Windows of words; the label is the animal (one of four) in the window."""

    def __init__(self, seed, count=500):
        words = text(count * 60, seed=seed).split()
        self.vocabulary = {w: i + 1 for i, w in enumerate(sorted(set(words)))}
        animals = ["cat", "dog", "bird", "fish"]
        self.rows = []
        for start in range(0, len(words) - 6, 6):
            window = words[start : start + 6]
            label = next((animals.index(w) for w in window if w in animals), None)
            if label is not None and len(self.rows) < count:
                self.rows.append(([self.vocabulary[w] for w in window], label))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        ids, label = self.rows[index]
        padding = LENGTH - len(ids)
        return {
            "input_ids": torch.tensor(ids + [0] * padding),
            "attention_mask": torch.tensor([1] * len(ids) + [0] * padding),
            "labels": label,
        }


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    return {"accuracy": float((logits.argmax(axis=-1) == labels).mean())}


def main():
    set_seed(0)
    config = BertConfig(
        vocab_size=32,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=LENGTH,
        num_labels=4,
    )
    model = BertForSequenceClassification(config)
    args = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=16,
        learning_rate=2e-3,
        num_train_epochs=4,
        weight_decay=0.01,
        eval_strategy="epoch",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_steps=20,
    )
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=Sentences(0),
        eval_dataset=Sentences(1, 120),
        compute_metrics=compute_metrics,
    )
    trainer.train()
    print(trainer.evaluate())


if __name__ == "__main__":
    main()
