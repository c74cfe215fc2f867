"""The training loop."""

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from dlcommon.runtime.bucket_batches import BucketBatches
from dlcommon.runtime.data.text_classification import LabelledText
from dlcommon.runtime.errors import DataUnavailableError, UsageError, UserError
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.output import warn
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.training.r_drop import r_drop_loss
from dlcommon.training.schedules import linear
from dlcommon.training.temperature import fit_temperature
from dlcommon.transformer.bert import BertForSequenceClassification
from dlcommon.transformer.fine_tuning import layerwise_param_groups
from torch.nn import functional as F

from sentiment_bert.config import Config
from sentiment_bert.model import PRETRAINED, PRETRAINED_LANGUAGE, Classifier, build
from sentiment_bert.soup import WeightSoup
from sentiment_bert.tokenizer import TOKENIZER, Tokenizer

LONGEST = 128
"""Tokens of a text that are read in training; in use, longer sentences are read in parts."""
LEAST_VALIDATION = 20
"""Texts without which a temperature would be a guess."""


@dataclasses.dataclass(frozen=True)
class Texts:
    """Encoded texts, [CLS] and [SEP] included, and their labels."""

    rows: list[list[int]]
    labels: np.ndarray
    tokenizer: Tokenizer

    def collate(self, indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts texts into a batch, padded to the longest: ids [batch, tokens] and labels [batch]."""
        ids = self.tokenizer.padded([self.rows[index] for index in indices])
        return torch.from_numpy(ids), torch.from_numpy(self.labels[indices])


def encode(tokenizer: Tokenizer, texts: Sequence[str], labels: Sequence[int], max_tokens: int) -> Texts:
    """Encodes texts; of one of more than `max_tokens` the beginning."""
    rows = [tokenizer.row(one.ids[: max_tokens - 2]) for one in tokenizer.encode_batch(texts)]
    return Texts(rows, np.asarray(labels, np.int64), tokenizer)


def choose(text: LabelledText, size: int | None, seed: int) -> LabelledText:
    """Draws `size` texts, equally many of each class where they allow it; all if there is no size.

    Raises:
        UsageError: there are fewer.
    """
    if size is None:
        return text
    if size > len(text.texts):
        raise UsageError(f"--train-size {size} is more than the {len(text.texts):,} training texts; lower it")
    order = list(range(len(text.texts)))
    random.Random(seed).shuffle(order)
    # By turns from each class: the first of every class, then the second, …
    rank: dict[int, int] = {}
    turns = []
    for index in order:
        label = text.labels[index]
        rank[label] = rank.get(label, 0) + 1
        turns.append((rank[label], index))
    turns.sort(key=lambda turn: turn[0])
    chosen = sorted(index for _, index in turns[:size])
    return LabelledText(tuple(text.texts[i] for i in chosen), tuple(text.labels[i] for i in chosen))


def hold_out(text: LabelledText, share: float, seed: int) -> tuple[LabelledText, LabelledText]:
    """Splits training texts at random into those to train on and those to calibrate with."""
    order = list(range(len(text.texts)))
    random.Random(seed).shuffle(order)
    count = int(share * len(order))
    parts = sorted(order[count:]), sorted(order[:count])
    train, validation = (
        LabelledText(tuple(text.texts[i] for i in part), tuple(text.labels[i] for i in part)) for part in parts
    )
    return train, validation


def say(run: TrainingRun[Config], text: str) -> None:
    """Says something once, however many processes train."""
    if run.is_main:
        run.output.say(text)


def find_encoder(run: TrainingRun[Config], language: str) -> Path | None:
    """Returns the pretrained encoder's files, or None for one from scratch, and says which it is.

    Raises:
        UserError: `--encoder pretrained`, and it is neither at hand nor can it be downloaded.
    """
    chosen = run.config.encoder
    if run.resumed and chosen == "auto":  # a resumed run goes on with what it began with
        chosen = "pretrained" if PRETRAINED in run.assets else "scratch"
    if chosen == "auto" and language != PRETRAINED_LANGUAGE:
        say(run, f"{PRETRAINED} reads {PRETRAINED_LANGUAGE!r} only, and the texts are in {language!r}")
        chosen = "scratch"
    if chosen == "scratch":
        say(run, f"encoder: {run.config.layers} layers of {run.config.dim}, from scratch")
        return None
    try:
        located = run.asset(PRETRAINED)
    except DataUnavailableError as error:
        if chosen == "pretrained":
            raise
        if run.is_main:
            warn(f"{error}. Training a small encoder from scratch instead, which is far less accurate")
        return None
    say(run, f"encoder: {located.describe()}, {run.config.adaptation}")
    return located.path


def loss_of(logits: torch.Tensor, labels: torch.Tensor, config: Config) -> torch.Tensor:
    """Computes cross-entropy; with R-Drop the logits are those of two passes, one below the other."""
    logits = logits.float()
    if not config.r_drop:
        return F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
    certain = F.one_hot(labels, logits.size(1)).to(logits.dtype)
    targets = (1 - config.label_smoothing) * certain + config.label_smoothing / logits.size(1)
    first, second = logits.chunk(2)
    return r_drop_loss(first, second, targets, config.r_drop)


def train(run: TrainingRun[Config]) -> None:
    config, data = run.config, run.data.load()
    classes = list(data.classes)
    chosen = choose(data.train, config.train_size, config.seed)
    training, validation = hold_out(chosen, config.validation_share, config.seed)
    language = config.language or data.language
    folder = find_encoder(run, language)
    try:
        tokenizer = (
            Tokenizer.from_pretrained(folder)
            if folder
            else Tokenizer.train(training.texts, config.vocab_size, language)
        )
    except ValueError as error:
        raise UsageError(f"{error}; raise --vocab-size") from error
    if run.is_main:
        write_bytes(run.directory / TOKENIZER, tokenizer.to_json().encode())
    texts = encode(tokenizer, training.texts, training.labels, LONGEST)
    held_out = encode(tokenizer, validation.texts, validation.labels, LONGEST)
    batches = bucket_batches(run, texts)
    try:
        network = build(config, tokenizer, len(classes), folder)
    except ValueError as error:
        raise UserError(str(error)) from error
    network.bert.encoder.gradient_checkpointing = config.gradient_checkpointing
    *body, head = network.parts()
    decayed = config.weight_decay
    groups = [
        *layerwise_param_groups(body, config.learning_rate, decay=config.layer_decay, weight_decay=decayed),
        *layerwise_param_groups([head], config.classifier_lr, decay=1.0, weight_decay=decayed),
    ]
    model, optimizer = run.prepare(
        Classifier(network, tokenizer.pad),
        torch.optim.AdamW(groups, betas=(0.9, 0.98)),
        pretrained=[network.bert] if folder else [],
    )
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    total = sum(p.numel() for p in network.parameters())
    say(run, f"{trained:,} of {total:,} parameters are trained, on {len(texts.rows):,} texts")
    soup = WeightSoup((p for p in run.unwrap_model(model).parameters() if p.requires_grad), config.members)
    run.register_for_checkpointing("soup", soup)
    rate = linear(warmup=config.warmup)
    model.train()
    for input_ids, labels in run.steps(batches):
        soup.begin_step(run.progress, optimizer)
        if config.r_drop:
            input_ids = torch.cat((input_ids, input_ids))
        input_ids, labels = input_ids.to(run.device), labels.to(run.device)
        with run.forward(model):
            logits = model(input_ids)
        loss = loss_of(logits, labels, config)
        run.update(loss, optimizer, schedule=lambda progress: rate(soup.progress(progress)))
        run.flops += training_flops(network, input_ids.numel()) * run.world_size
        if run.should_evaluate:
            found = held_out_logits(run, model, held_out)
            metrics = validation_metrics(found, held_out.labels)
            run.log_evaluation(maximize=None, minimize=None, loss=loss.item(), **metrics)
    soup.finish()
    enough = len(held_out.rows) >= LEAST_VALIDATION
    if not enough and run.is_main:
        warn(f"{len(held_out.rows)} held-out texts are too few to calibrate with; the confidence is the network's own")
    temperature = fit_temperature(held_out_logits(run, model, held_out), held_out.labels) if enough else 1.0
    kind = "all-MiniLM-L6-v2" if folder else f"BERT of {config.layers} layers of {config.dim} from scratch"
    run.finish(
        model,
        classes=classes,
        language=language,
        temperature=temperature,
        encoder="pretrained" if folder else "scratch",
        network=f"{kind}, {config.adaptation}" if folder else kind,
        parameters=total,
        trained_parameters=trained,
        texts=len(texts.rows),
        members=config.members,
    )


def bucket_batches(run: TrainingRun[Config], texts: Texts) -> BucketBatches:
    """Makes batches of texts of similar lengths.

    Raises:
        UsageError: the batch size does not suit the texts.
    """
    config, lengths = run.config, [len(row) for row in texts.rows]
    if config.batch_size > sum(lengths):
        raise UsageError(
            f"batch_size {config.batch_size} is more than the {sum(lengths):,} tokens of the training texts; lower it"
        )
    try:
        batches = BucketBatches(
            lengths,
            config.batch_size,
            texts.collate,
            config.seed,
            weights=[1.0] * len(lengths),
            jitter=0.15,
            rank=run.rank,
            world_size=run.world_size,
        )
    except ValueError as error:
        raise UsageError(f"{error}; raise --batch-size") from error
    batches.unit = "texts"  # what the loss is a mean over
    return batches


def training_flops(network: BertForSequenceClassification, tokens: int) -> int:
    """Counts the floating-point operations of training on tokens.

    Two for each weight of a matrix forward, two for the gradient of its input, and two more where it is trained.
    """
    matrices = [p for p in network.bert.encoder.parameters() if p.dim() == 2]
    return tokens * sum((6 if p.requires_grad else 4) * p.numel() for p in matrices)


@torch.inference_mode()
def held_out_logits(run: TrainingRun[Config], model: Classifier, texts: Texts) -> np.ndarray:
    """Computes the averaged network's logits, float32 [texts, classes]."""
    averaged = run.ema_model(model).eval()
    order = np.argsort([len(row) for row in texts.rows], kind="stable")
    found: list[np.ndarray] = []
    for start in range(0, len(order), 64):
        ids, _ = texts.collate(order[start : start + 64])
        with run.autocast():
            found.append(averaged(ids.to(run.device)).float().cpu().numpy())
    model.train()
    if not found:
        return np.zeros((0, 0), np.float32)
    logits: np.ndarray = np.concatenate(found)[np.argsort(order, kind="stable")]
    return logits


def validation_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns accuracy and mean cross-entropy of held-out texts; nothing where there are none."""
    if not len(labels):
        return {}
    scores = torch.from_numpy(logits)
    return {
        "validation_accuracy": float((logits.argmax(axis=1) == labels).mean()),
        "validation_loss": F.cross_entropy(scores, torch.from_numpy(labels)).item(),
    }
