"""In the idiom of the Hugging Face Trainer: datasets of dictionaries, a collator, compute_metrics, an output with a loss."""

import tempfile

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments
from transformers.modeling_outputs import ImageClassifierOutput


class DigitExamples(Dataset):
    def __init__(self, part):
        bunch = load_digits()
        index = np.random.RandomState(0).permutation(len(bunch.target))
        index = index[:1400] if part == "train" else index[1400:]
        self.images, self.labels, self.part = bunch.images[index].astype("float32"), bunch.target[index], part

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        pixel_values = torch.from_numpy(self.images[i][None] / 16.0 - 0.5)
        return {"pixel_values": pixel_values, "labels": int(self.labels[i])}


class DigitClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1), nn.GroupNorm(4, 24), nn.GELU(), nn.Conv2d(24, 48, 3, stride=2, padding=1),
            nn.GELU(), nn.Flatten())  # fmt: skip
        self.classifier = nn.Linear(768, 10)

    def forward(self, pixel_values=None, labels=None):
        logits = self.classifier(self.encoder(pixel_values))
        loss = None
        if labels is not None:
            loss_fct = nn.CrossEntropyLoss()
            loss = loss_fct(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


def collate_fn(examples):
    pixel_values = torch.stack([example["pixel_values"] for example in examples])
    labels = torch.tensor([example["labels"] for example in examples])
    return {"pixel_values": pixel_values, "labels": labels}


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    return {"accuracy": float((np.argmax(logits, axis=-1) == labels).mean())}


def main():
    model = DigitClassifier()
    args = TrainingArguments(
        output_dir=tempfile.mkdtemp(), num_train_epochs=5, per_device_train_batch_size=32, learning_rate=2e-3,
        weight_decay=0.01, warmup_steps=20, lr_scheduler_type="linear", eval_strategy="epoch", save_strategy="no",
        logging_steps=20, report_to=[], disable_tqdm=True, remove_unused_columns=False, seed=0, use_cpu=True)  # fmt: skip
    trainer = Trainer(model=model, args=args, train_dataset=DigitExamples("train"), eval_dataset=DigitExamples("test"),
                      data_collator=collate_fn, compute_metrics=compute_metrics)  # fmt: skip
    trainer.train()
    print(trainer.evaluate())


if __name__ == "__main__":
    main()
