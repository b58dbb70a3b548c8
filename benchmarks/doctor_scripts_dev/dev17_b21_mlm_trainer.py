"""Masked language model from scratch: a tiny BERT, trained with the Hugging Face Trainer."""

import math
import random
import tempfile

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForMaskedLM, Trainer, TrainingArguments, set_seed

SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
PAD, CLS, SEP, MASK = range(4)

ANIMALS = {
    "cat": ("fish", "sofa", "meows"),
    "dog": ("bones", "yard", "barks"),
    "bee": ("nectar", "hive", "buzzes"),
    "owl": ("mice", "forest", "hoots"),
    "frog": ("flies", "pond", "croaks"),
    "lion": ("zebras", "savanna", "roars"),
}
PATTERNS = [
    "the {animal} eats {food} in the {place} .",
    "in the {place} the {adjective} {animal} {sound} .",
    "a {adjective} {animal} that eats {food} {sound} .",
    "when it {sound} the {animal} wants {food} .",
    "the {animal} {sound} and the {adjective} {animal} likes the {place} .",
]
ADJECTIVES = ["old", "young", "big", "small"]


def make_sentences(count, seed):
    rng = random.Random(seed)
    sentences = []
    for _ in range(count):
        animal = rng.choice(list(ANIMALS))
        food, place, sound = ANIMALS[animal]
        pattern = rng.choice(PATTERNS)
        sentences.append(
            pattern.format(animal=animal, food=food, place=place, sound=sound, adjective=rng.choice(ADJECTIVES))
        )
    return sentences


def build_vocab(sentences):
    words = sorted({word for sentence in sentences for word in sentence.split()})
    return {word: i for i, word in enumerate(SPECIAL + words)}


class SentenceDataset(Dataset):
    """Two sentences a row, so that there is context to look at."""

    def __init__(self, sentences, vocab, max_length=32):
        self.rows = []
        for first, second in zip(sentences[::2], sentences[1::2]):
            ids = [CLS]
            for sentence in (first, second):
                ids += [vocab[word] for word in sentence.split()] + [SEP]
            self.rows.append(ids[:max_length])

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return {"input_ids": self.rows[index]}


class MaskingCollator:
    """Pads and applies the 80/10/10 rule of BERT to 15 % of the words."""

    def __init__(self, vocab_size, probability=0.15):
        self.vocab_size, self.probability = vocab_size, probability

    def __call__(self, features):
        if "labels" in features[0]:  # masked before
            return {name: torch.stack([f[name] for f in features]) for name in features[0]}
        length = max(len(f["input_ids"]) for f in features)
        ids = torch.full((len(features), length), PAD)
        for row, feature in zip(ids, features):
            row[: len(feature["input_ids"])] = torch.tensor(feature["input_ids"])
        attention_mask = (ids != PAD).long()
        special = ids < len(SPECIAL)
        chosen = (torch.rand(ids.shape) < self.probability) & ~special
        labels = ids.masked_fill(~chosen, -100)
        action = torch.rand(ids.shape)
        ids = ids.masked_fill(chosen & (action < 0.8), MASK)
        randomized = chosen & (action >= 0.8) & (action < 0.9)
        random_words = torch.randint(len(SPECIAL), self.vocab_size, ids.shape)
        ids = torch.where(randomized, random_words, ids)
        return {"input_ids": ids, "attention_mask": attention_mask, "labels": labels}


class FixedMasks(Dataset):
    """A validation set that is masked once, so that its numbers can be compared between epochs."""

    def __init__(self, dataset, collator, seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            batch = collator([dataset[i] for i in range(len(dataset))])
        self.rows = [{name: tensor[i] for name, tensor in batch.items()} for i in range(len(dataset))]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def preprocess_logits_for_metrics(logits, labels):
    return logits.argmax(dim=-1)


def compute_metrics(prediction):
    mask = prediction.label_ids != -100
    return {"masked_accuracy": float((prediction.predictions[mask] == prediction.label_ids[mask]).mean())}


def main():
    set_seed(0)
    train_sentences, valid_sentences = make_sentences(5000, seed=1), make_sentences(800, seed=2)
    vocab = build_vocab(train_sentences)
    collator = MaskingCollator(len(vocab))
    train_set = SentenceDataset(train_sentences, vocab)
    valid_set = FixedMasks(SentenceDataset(valid_sentences, vocab), collator, seed=3)

    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=40,
        type_vocab_size=1,
        pad_token_id=PAD,
    )
    model = BertForMaskedLM(config)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=12,
            per_device_train_batch_size=64,
            per_device_eval_batch_size=100,
            learning_rate=2e-3,
            lr_scheduler_type="linear",
            warmup_steps=50,
            weight_decay=0.01,
            eval_strategy="epoch",
            save_strategy="no",
            logging_strategy="epoch",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            seed=0,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=train_set,
            eval_dataset=valid_set,
            data_collator=collator,
            compute_metrics=compute_metrics,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        trainer.train()
        result = trainer.evaluate()
    print(f"validation perplexity {math.exp(result['eval_loss']):.3f}, masked accuracy {result['eval_masked_accuracy']:.3f}")


if __name__ == "__main__":
    main()
