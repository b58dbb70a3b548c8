"""Multi-label tags of recipes with the Hugging Face Trainer and a model that is no PreTrainedModel."""
import tempfile

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

TAGS = ["spicy", "sweet", "vegan", "quick", "festive", "nordic", "street food", "soup"]
INGREDIENTS = 40


def cookbook(count, seed):
    rules = np.random.default_rng(555)  # what makes a dish spicy is the same in every book
    weights = np.zeros((INGREDIENTS, len(TAGS)))
    for tag in range(len(TAGS)):
        chosen = rules.choice(INGREDIENTS, 7, replace=False)
        weights[chosen, tag] = rules.choice([-1, 1], 7, p=[0.35, 0.65]) * rules.uniform(0.8, 1.6, 7)
    limits = 0.3 * weights.sum(0) + 0.45
    rng = np.random.default_rng(seed)
    used = (rng.random((count, INGREDIENTS)) < 0.3).astype(np.float32)
    scores = used @ weights + 0.15 * rng.standard_normal((count, len(TAGS)))
    return used, (scores > limits).astype(np.float32)


class Recipes(Dataset):
    def __init__(self, count, seed):
        used, tags = cookbook(count, seed)
        self.used, self.tags = torch.from_numpy(used), torch.from_numpy(tags)

    def __len__(self):
        return len(self.used)

    def __getitem__(self, i):
        return {"ingredients": self.used[i], "labels": self.tags[i]}


class RecipeTagger(nn.Module):
    def __init__(self, hidden=96):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(INGREDIENTS, hidden), nn.GELU(), nn.LayerNorm(hidden), nn.Dropout(0.1))
        self.classifier = nn.Linear(hidden, len(TAGS))

    def forward(self, ingredients, labels=None):
        logits = self.classifier(self.encoder(ingredients))
        output = {"logits": logits}
        if labels is not None:
            output["loss"] = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        return output


def compute_metrics(prediction):
    logits, labels = prediction
    chosen = (logits > 0).astype(int)  # the same as a probability over one half
    labels = labels.astype(int)
    return {
        "micro_f1": f1_score(labels, chosen, average="micro"),
        "macro_f1": f1_score(labels, chosen, average="macro", zero_division=0),
        "exact": float((labels == chosen).all(axis=1).mean()),
    }


def main():
    set_seed(23)
    train_set, eval_set = Recipes(4000, seed=1), Recipes(800, seed=2)
    print("share of each tag:", dict(zip(TAGS, train_set.tags.mean(0).numpy().round(2).tolist())))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=200,
            num_train_epochs=12,
            learning_rate=3e-3,
            weight_decay=0.01,
            lr_scheduler_type="cosine",
            warmup_steps=50,
            eval_strategy="epoch",
            logging_strategy="epoch",
            save_strategy="no",
            label_names=["labels"],
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            use_cpu=True,
            seed=23,
        )
        trainer = Trainer(
            model=RecipeTagger(),
            args=arguments,
            train_dataset=train_set,
            eval_dataset=eval_set,
            compute_metrics=compute_metrics,
        )
        trainer.train()
        print(trainer.evaluate())


if __name__ == "__main__":
    main()
