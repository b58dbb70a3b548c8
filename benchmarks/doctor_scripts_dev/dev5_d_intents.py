"""Train a small BERT classifier from a config, without Trainer, on top of Accelerate (no_trainer style)."""
import argparse
import logging
import math
import random

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.metrics import accuracy_score, f1_score
from torch.utils.data import DataLoader, Dataset
from transformers import BertConfig, BertForSequenceClassification, get_scheduler

logger = logging.getLogger(__name__)

LABELS = ["book", "cancel", "change", "ask", "complain"]
WEIGHTS = [0.34, 0.22, 0.2, 0.14, 0.1]
VERBS = {
    "book": ["book", "reserve", "order", "buy"],
    "cancel": ["cancel", "drop", "withdraw", "annul"],
    "change": ["change", "move", "amend", "postpone"],
    "ask": ["explain", "describe", "clarify", "show"],
    "complain": ["criticise", "dispute", "contest", "report"],
}
OBJECTS = ["flight", "hotel", "ticket", "table", "tour", "seat", "cruise", "transfer"]
OPENERS = ["hello there", "good morning", "excuse me", "dear team", "hi", "sorry to bother you"]
FILLERS = ["with my sister", "for next week", "as soon as possible", "from the airport", "in the city"]
TURNS = ["no wait", "on reflection", "actually", "oh sorry", "correction"]


def make_examples(n, seed):
    """The request that counts is the last one of the sentence."""
    rng = random.Random(seed)
    examples = []
    for _ in range(n):
        label = rng.choices(range(len(LABELS)), WEIGHTS)[0]
        words = [rng.choice(OPENERS), "i would like to"]
        if rng.random() < 0.75:
            first = rng.choice(LABELS)
            words += [rng.choice(VERBS[first]), "a", rng.choice(OBJECTS), rng.choice(FILLERS), rng.choice(TURNS)]
        words += [rng.choice(VERBS[LABELS[label]]), "that", rng.choice(OBJECTS), "please"]
        examples.append({"text": " ".join(words), "label": label})
    # the corpus comes as one file per intent
    return sorted(examples, key=lambda example: example["label"])


class WordTokenizer:
    def __init__(self, texts):
        words = sorted({word for text in texts for word in text.split()})
        self.vocab = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + words)}

    def __len__(self):
        return len(self.vocab)

    def __call__(self, text, max_length):
        ids = [self.vocab.get(word, self.vocab["[UNK]"]) for word in text.split()]
        return [self.vocab["[CLS]"]] + ids[:max_length - 2] + [self.vocab["[SEP]"]]


class IntentDataset(Dataset):
    def __init__(self, examples, tokenizer, max_length):
        self.features = [{"input_ids": tokenizer(ex["text"], max_length), "labels": ex["label"]} for ex in examples]

    def __len__(self):
        return len(self.features)

    def __getitem__(self, index):
        return self.features[index]


def data_collator(features):
    longest = max(len(f["input_ids"]) for f in features)
    pad = [longest - len(f["input_ids"]) for f in features]
    return {
        "input_ids": torch.tensor([f["input_ids"] + [0] * p for f, p in zip(features, pad)]),
        "attention_mask": torch.tensor([[1] * len(f["input_ids"]) + [0] * p for f, p in zip(features, pad)]),
        "labels": torch.tensor([f["labels"] for f in features]),
    }


def parse_args():
    parser = argparse.ArgumentParser(description="Finetune a transformers model on a text classification task")
    parser.add_argument("--max_length", type=int, default=32)
    parser.add_argument("--per_device_train_batch_size", type=int, default=16)
    parser.add_argument("--per_device_eval_batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--weight_decay", type=float, default=0.01)
    parser.add_argument("--num_train_epochs", type=int, default=3)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
    parser.add_argument("--lr_scheduler_type", type=str, default="linear")
    parser.add_argument("--num_warmup_steps", type=int, default=40)
    parser.add_argument("--max_grad_norm", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


@torch.no_grad()
def evaluate(accelerator, model, eval_dataloader):
    model.eval()
    all_predictions, all_references = [], []
    for batch in eval_dataloader:
        outputs = model(**batch)
        predictions = outputs.logits.argmax(dim=-1)
        predictions, references = accelerator.gather_for_metrics((predictions, batch["labels"]))
        all_predictions += predictions.tolist()
        all_references += references.tolist()
    return {
        "accuracy": accuracy_score(all_references, all_predictions),
        "f1": f1_score(all_references, all_predictions, average="macro"),
    }


def main():
    args = parse_args()
    accelerator = Accelerator(gradient_accumulation_steps=args.gradient_accumulation_steps, cpu=True)
    logging.basicConfig(format="%(levelname)s - %(name)s - %(message)s", level=logging.INFO)
    set_seed(args.seed)

    train_examples, eval_examples = make_examples(1600, seed=10), make_examples(400, seed=11)
    tokenizer = WordTokenizer(example["text"] for example in train_examples)
    train_dataset = IntentDataset(train_examples, tokenizer, args.max_length)
    eval_dataset = IntentDataset(eval_examples, tokenizer, args.max_length)

    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=64, num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)), label2id={name: i for i, name in enumerate(LABELS)},
    )
    model = BertForSequenceClassification(config)

    train_dataloader = DataLoader(
        train_dataset, shuffle=True, collate_fn=data_collator, batch_size=args.per_device_train_batch_size)
    eval_dataloader = DataLoader(
        eval_dataset, collate_fn=data_collator, batch_size=args.per_device_eval_batch_size)

    no_decay = ["bias", "LayerNorm.weight"]
    optimizer_grouped_parameters = [
        {
            "params": [p for n, p in model.named_parameters() if not any(nd in n for nd in no_decay)],
            "weight_decay": args.weight_decay,
        },
        {
            "params": [p for n, p in model.named_parameters() if any(nd in n for nd in no_decay)],
            "weight_decay": 0.0,
        },
    ]
    optimizer = torch.optim.AdamW(optimizer_grouped_parameters, lr=args.learning_rate)

    num_update_steps_per_epoch = math.ceil(len(train_dataloader) / args.gradient_accumulation_steps)
    max_train_steps = args.num_train_epochs * num_update_steps_per_epoch
    lr_scheduler = get_scheduler(
        name=args.lr_scheduler_type,
        optimizer=optimizer,
        num_warmup_steps=args.num_warmup_steps,
        num_training_steps=max_train_steps,
    )
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler)

    logger.info("***** Running training *****")
    logger.info("  Num examples = %d, total optimization steps = %d", len(train_dataset), max_train_steps)
    for epoch in range(args.num_train_epochs):
        model.train()
        total_loss = 0.0
        for batch in train_dataloader:
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                total_loss += loss.detach().float().item()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
        eval_metric = evaluate(accelerator, model, eval_dataloader)
        logger.info("epoch %d: train loss %.4f %s", epoch, total_loss / len(train_dataloader), eval_metric)
    print(f"eval accuracy: {eval_metric['accuracy']:.4f}  f1: {eval_metric['f1']:.4f}")


if __name__ == "__main__":
    main()
