"""
Fine-grained tagging of names with a small BERT and Accelerate, without the Trainer (after run_ner_no_trainer.py).
The model starts from a configuration, and the sentences are made up: whether Jordan is a person, a place or a team
is told by the other words of the sentence.
"""
import argparse
import math
import random

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.metrics import f1_score
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForTokenClassification, get_scheduler

LABELS = ["O", "PER", "LOC", "ORG"]
NAMES = "jordan austin sydney chelsea lincoln madison florence victoria phoenix orlando".split()
FILLERS = "the a of and then again slowly today old new big very quite still also but once near after with".split()
TOPICS = {
    "PER": "smiled married spoke laughed".split(),
    "LOC": "visited flew drove landed".split(),
    "ORG": "scored signed lost won".split(),
}
WORDS = ["[PAD]"] + NAMES + FILLERS + [word for words in TOPICS.values() for word in words]
VOCAB = {word: index for index, word in enumerate(WORDS)}


def parse_args():
    parser = argparse.ArgumentParser(description="Train a token classification model")
    parser.add_argument("--per_device_train_batch_size", type=int, default=32)
    parser.add_argument("--per_device_eval_batch_size", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--weight_decay", type=float, default=0.01)
    parser.add_argument("--num_train_epochs", type=int, default=10)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
    parser.add_argument("--num_warmup_steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=11)
    return parser.parse_args()


def make_sentence(rng):
    topic = rng.choice(list(TOPICS))
    tokens = rng.choices(NAMES, k=rng.randint(1, 3)) + rng.choices(TOPICS[topic], k=rng.randint(1, 2))
    tokens += rng.choices(FILLERS, k=rng.randint(3, 16))
    rng.shuffle(tokens)
    return tuple(tokens), topic


def make_datasets(rng, train_size=1500, eval_size=300):
    sentences = {}
    while len(sentences) < train_size + eval_size:
        tokens, topic = make_sentence(rng)
        sentences[tokens] = topic
    examples = []
    for tokens, topic in sentences.items():
        tags = [LABELS.index(topic) if token in NAMES else 0 for token in tokens]
        examples.append({"input_ids": [VOCAB[token] for token in tokens], "labels": tags})
    return examples[:train_size], examples[train_size:]


def data_collator(features):
    longest = max(len(feature["input_ids"]) for feature in features)
    input_ids = torch.full((len(features), longest), VOCAB["[PAD]"])
    labels = torch.full((len(features), longest), -100)
    for row, feature in enumerate(features):
        length = len(feature["input_ids"])
        input_ids[row, :length] = torch.tensor(feature["input_ids"])
        labels[row, :length] = torch.tensor(feature["labels"])
    attention_mask = (input_ids != VOCAB["[PAD]"]).long()
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def compute_metrics(predictions, references):
    kept = references != -100
    predictions, references = predictions[kept], references[kept]
    accuracy = (predictions == references).float().mean().item()
    return {"accuracy": accuracy, "f1": f1_score(references.numpy(), predictions.numpy(), average="macro")}


def evaluate(accelerator, model, eval_dataloader):
    model.eval()
    predictions, references = [], []
    for batch in eval_dataloader:
        with torch.no_grad():
            outputs = model(**batch)
        gathered = accelerator.gather_for_metrics((outputs.logits.argmax(dim=-1), batch["labels"]))
        predictions.append(gathered[0].flatten())
        references.append(gathered[1].flatten())
    return compute_metrics(torch.cat(predictions).cpu(), torch.cat(references).cpu())


def main():
    args = parse_args()
    set_seed(args.seed)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.gradient_accumulation_steps)

    train_dataset, eval_dataset = make_datasets(random.Random(args.seed))
    train_dataloader = DataLoader(
        train_dataset, shuffle=True, collate_fn=data_collator, batch_size=args.per_device_train_batch_size
    )
    eval_dataloader = DataLoader(eval_dataset, collate_fn=data_collator, batch_size=args.per_device_eval_batch_size)

    config = BertConfig(
        vocab_size=len(VOCAB), hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.1, max_position_embeddings=32, num_labels=len(LABELS),
        pad_token_id=VOCAB["[PAD]"], attn_implementation="eager",
    )
    model = BertForTokenClassification(config)

    no_decay = ["bias", "LayerNorm.weight"]
    optimizer_grouped_parameters = [
        {
            "params": [p for n, p in model.named_parameters() if not any(nd in n for nd in no_decay)],
            "weight_decay": args.weight_decay,
        },
        {"params": [p for n, p in model.named_parameters() if any(nd in n for nd in no_decay)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(optimizer_grouped_parameters, lr=args.learning_rate)
    steps_per_epoch = math.ceil(len(train_dataloader) / args.gradient_accumulation_steps)
    lr_scheduler = get_scheduler(
        name="linear",
        optimizer=optimizer,
        num_warmup_steps=args.num_warmup_steps,
        num_training_steps=args.num_train_epochs * steps_per_epoch,
    )
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
    )

    for epoch in range(args.num_train_epochs):
        model.train()
        total_loss = 0.0
        for batch in train_dataloader:
            with accelerator.accumulate(model):
                outputs = model(**batch)
                loss = outputs.loss
                total_loss += loss.detach().float()
                accelerator.backward(loss)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
        metrics = evaluate(accelerator, model, eval_dataloader)
        accelerator.print(
            f"epoch {epoch}: train loss {float(total_loss) / len(train_dataloader):.4f}, "
            f"accuracy {metrics['accuracy']:.4f}, macro F1 {metrics['f1']:.4f}"
        )


if __name__ == "__main__":
    main()
