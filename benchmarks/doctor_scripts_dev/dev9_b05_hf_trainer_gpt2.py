"""Tiny GPT-2 from a config learns to sort letters ("dbca>abcd") with the Hugging Face Trainer."""
import random
import tempfile
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

LETTERS = "abcdefgh"
VOCAB = ["<pad>", "<eos>", ">"] + list(LETTERS)
TOKEN = {token: i for i, token in enumerate(VOCAB)}


@dataclass
class ScriptArguments:
    train_size: int = 5000
    eval_size: int = 200
    max_letters: int = 7
    n_embd: int = 48
    n_layer: int = 2
    learning_rate: float = field(default=3e-3, metadata={"help": "peak learning rate"})


class SortDataset(Dataset):
    """Prompts and completions; labels of the prompt are masked, as for instruction tuning."""

    def __init__(self, size, max_letters, held_out):
        rng = random.Random(int(held_out))
        self.rows = []
        while len(self.rows) < size:
            word = rng.choices(LETTERS, k=rng.randint(2, max_letters))
            if (zlib.crc32("".join(word).encode()) % 8 == 0) != held_out:
                continue  # words of evaluation are never trained on
            prompt = [TOKEN[c] for c in word] + [TOKEN[">"]]
            answer = [TOKEN[c] for c in sorted(word)] + [TOKEN["<eos>"]]
            self.rows.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


@dataclass
class DataCollatorForCompletion:
    pad_token_id: int = TOKEN["<pad>"]
    label_pad: int = -100

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(f["input_ids"]) for f in features)

        def pad(key, value):
            return torch.tensor([f[key] + [value] * (longest - len(f[key])) for f in features])

        batch = {"input_ids": pad("input_ids", self.pad_token_id), "labels": pad("labels", self.label_pad)}
        batch["attention_mask"] = (batch["input_ids"] != self.pad_token_id).long()
        return batch


def preprocess_logits_for_metrics(logits, labels):
    return logits.argmax(dim=-1)  # keeps what is gathered small


def compute_metrics(eval_pred):
    predictions, labels = eval_pred
    predictions, labels = predictions[:, :-1], labels[:, 1:]
    keep = labels != -100
    right = (predictions == labels) & keep
    return {"token_accuracy": float(right.sum() / keep.sum()),
            "exact_match": float(np.mean([r[k].all() for r, k in zip(right, keep)]))}


def main():
    script_args = ScriptArguments()
    set_seed(42)
    train_dataset = SortDataset(script_args.train_size, script_args.max_letters, held_out=False)
    eval_dataset = SortDataset(script_args.eval_size, script_args.max_letters, held_out=True)
    config = GPT2Config(
        vocab_size=len(VOCAB), n_positions=32, n_embd=script_args.n_embd, n_layer=script_args.n_layer, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=TOKEN["<eos>"], eos_token_id=TOKEN["<eos>"],
        pad_token_id=TOKEN["<pad>"],
    )
    model = GPT2LMHeadModel(config)
    with tempfile.TemporaryDirectory() as output_dir:
        training_args = TrainingArguments(
            output_dir=output_dir,
            learning_rate=script_args.learning_rate,
            num_train_epochs=6,
            per_device_train_batch_size=64,
            per_device_eval_batch_size=100,
            weight_decay=0.01,
            lr_scheduler_type="cosine",
            warmup_steps=30,
            max_grad_norm=1.0,
            eval_strategy="epoch",
            save_strategy="no",
            logging_steps=60,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            dataloader_num_workers=0,
            remove_unused_columns=False,
        )
        trainer = Trainer(
            model=model,
            args=training_args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=DataCollatorForCompletion(),
            compute_metrics=compute_metrics,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        trainer.train()
        metrics = trainer.evaluate()
    model.eval()
    prompt = torch.tensor([[TOKEN[c] for c in "hcafb>"]])
    answer = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False)
    print("".join(VOCAB[i] for i in answer[0]))
    print({k: round(v, 4) for k, v in metrics.items() if k in ("eval_loss", "eval_token_accuracy", "eval_exact_match")})


if __name__ == "__main__":
    main()
