"""Named entities in made-up news, from scratch with the Hugging Face Trainer: a tiny BERT and a word vocabulary."""

import random
import tempfile
from collections import Counter

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import BertConfig, BertForTokenClassification, Trainer, TrainingArguments, set_seed

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
TAG2ID = {tag: i for i, tag in enumerate(TAGS)}
PAD, UNKNOWN = 0, 1

# words that are people, places or firms, as their neighbors have it
EITHER = "jordan paris chelsea austin sydney georgia florence lincoln madison charlotte hamilton victoria".split()
FIRST = "anna peter maria john olga ahmed".split()
LAST = "smith garcia novak tanaka okoye miller rossi".split()
TOWNS = "lisbon cairo oslo lima dublin".split()
FIRMS = "acme globex initech umbrella".split()
FILLERS = "yesterday meanwhile reportedly however today".split()
TEMPLATES = """
{PER} flew to {LOC} on monday
the mayor of {LOC} met {PER} for lunch
{PER} works for {ORG} in {LOC}
shares of {ORG} fell after {PER} resigned
{ORG} opened an office near {LOC}
{PER} told reporters that {ORG} will leave {LOC}
it rained in {LOC} while {PER} slept
analysts at {ORG} and at {ORG} expect growth
{PER} and her brother {PER} were born in {LOC}
no one from {ORG} could be reached
winter in {LOC} is cold said {PER}
a judge ordered {ORG} to pay {PER}
trains between {LOC} and {LOC} were late
the weather will be fine tomorrow
prices rose again last month
""".strip().split("\n")


def entity(kind, rng):
    if kind == "PER":
        words = [rng.choice(EITHER if rng.random() < 0.6 else FIRST)]
        words += [rng.choice(LAST)] if rng.random() < 0.4 else []
    elif kind == "LOC":
        words = [rng.choice(["new", "north", "port"])] if rng.random() < 0.3 else []
        words += [rng.choice(EITHER if rng.random() < 0.6 else TOWNS)]
    else:
        words = [rng.choice(EITHER if rng.random() < 0.6 else FIRMS)]
        words += [rng.choice(["motors", "bank", "partners"])] if rng.random() < 0.3 else []
    return words, ["B-" + kind] + ["I-" + kind] * (len(words) - 1)


def make_sentences(count, seed):
    rng = random.Random(seed)
    sentences = []
    for _ in range(count):
        words, tags = [], []
        for piece in rng.choice(TEMPLATES).split():
            new_words, new_tags = entity(piece[1:-1], rng) if piece.startswith("{") else ([piece], ["O"])
            words, tags = words + new_words, tags + new_tags
        for _ in range(rng.randint(0, 4)):
            words, tags = [rng.choice(FILLERS)] + words, ["O"] + tags
        sentences.append((words, tags))
    return sentences


def build_vocab(sentences):
    counts = Counter(word for words, _ in sentences for word in words)
    return {"[PAD]": PAD, "[UNK]": UNKNOWN} | {word: i + 2 for i, (word, _) in enumerate(counts.most_common())}


class TaggedSentences(Dataset):
    def __init__(self, sentences, vocab):
        self.rows = [
            {"input_ids": [vocab.get(word, UNKNOWN) for word in words], "labels": [TAG2ID[tag] for tag in tags]}
            for words, tags in sentences
        ]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def collate(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    input_ids = torch.full((len(rows), longest), PAD)
    labels = torch.full((len(rows), longest), -100)
    for i, row in enumerate(rows):
        input_ids[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        labels[i, : len(row["labels"])] = torch.tensor(row["labels"])
    return {"input_ids": input_ids, "attention_mask": (input_ids != PAD).long(), "labels": labels}


def spans(tags):
    """(start, end, kind) of every entity."""
    found, start, kind = set(), None, None
    for i, tag in enumerate(list(tags) + ["O"]):
        if start is not None and tag != f"I-{kind}":
            found.add((start, i, kind))
            start = None
        if tag.startswith("B-"):
            start, kind = i, tag[2:]
    return found


def compute_metrics(prediction):
    guesses, labels = prediction.predictions.argmax(-1), prediction.label_ids
    real = labels != -100
    right = guessed = there = 0
    for row_guesses, row_labels, row_real in zip(guesses, labels, real):
        ours = spans(TAGS[i] for i in row_guesses[row_real])
        theirs = spans(TAGS[i] for i in row_labels[row_real])
        right, guessed, there = right + len(ours & theirs), guessed + len(ours), there + len(theirs)
    accuracy = ((guesses == labels) & real).sum() / real.sum()
    return {"f1": 2 * right / max(1, guessed + there), "token_accuracy": float(accuracy)}


class TaggingTrainer(Trainer):
    """Most words are no names: they count less."""

    loss_function = nn.CrossEntropyLoss(weight=torch.tensor([0.4] + [1.0] * 6), ignore_index=-100)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        loss = self.loss_function(outputs.logits.flatten(0, 1), inputs["labels"].flatten())
        return (loss, outputs) if return_outputs else loss


def main():
    torch.set_num_threads(1)
    set_seed(3)
    train_sentences, valid_sentences = make_sentences(3000, seed=1), make_sentences(500, seed=2)
    vocab = build_vocab(train_sentences)
    train_set = TaggedSentences(train_sentences, vocab)
    valid_set = TaggedSentences(valid_sentences, vocab)

    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=40,
        pad_token_id=PAD,
        num_labels=len(TAGS),
    )
    model = BertForTokenClassification(config)

    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=14,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=100,
        learning_rate=1e-3,
        weight_decay=0.01,
        warmup_steps=100,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        disable_tqdm=True,
        use_cpu=True,
        seed=3,
    )
    trainer = TaggingTrainer(
        model=model,
        args=arguments,
        train_dataset=train_set,
        eval_dataset=valid_set,
        data_collator=collate,
        compute_metrics=compute_metrics,
    )
    trainer.train()
    result = trainer.evaluate()
    print(f"final F1 {result['eval_f1']:.4f}  token accuracy {result['eval_token_accuracy']:.4f}")


if __name__ == "__main__":
    main()
