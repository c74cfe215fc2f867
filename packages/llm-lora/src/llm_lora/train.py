"""The training loop of both stages: supervised fine-tuning on answers, and DPO on preferences."""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from dlcommon.llm.dpo import DPOLoss, dpo_loss
from dlcommon.nlp.lora_checkpoint import load_adapter, save_adapter
from dlcommon.runtime.data.conversations import Conversation
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.output import warn
from dlcommon.runtime.run_directory import WEIGHTS
from dlcommon.runtime.stored_weights import read_weights
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.training.schedules import linear
from torch import nn

from llm_lora.bases import choose_base, load_base
from llm_lora.batches import PackedBatches, TokenSequence, Unit
from llm_lora.config import Config
from llm_lora.model import ADAPTER, AnswerModel, add_adapters, sum_by_sequence, training_flops
from llm_lora.tokenizer import TOKENIZER, Tokenizer


def train(run: TrainingRun[Config]) -> None:
    config, data = run.config, run.data.load()
    located = choose_base(run)
    base = load_base(located)
    tokenizer = base.tokenizer
    if run.is_main:
        write_bytes(run.directory / TOKENIZER, tokenizer.to_json().encode())
    training, validation = hold_out(data.train, config.validation_share, config.seed)
    batches = make_batches(run, tokenizer, training)
    held_out = make_batches(run, tokenizer, validation) if validation else None

    network = base.network.to(run.device)
    if config.quantize == "nf4":
        from llm_lora.quantized import quantize_base  # imports bitsandbytes, which looks for its kernels

        quantize_base(network)
    if config.method != "full":
        network.to(run.dtype)  # frozen weights need no more digits than they are multiplied with
    if config.adapter is None:
        add_adapters(network, config)
    else:
        continue_adapter(network, config)
    trained = [p for p in network.parameters() if p.requires_grad]
    matrices, others = ([p for p in trained if (p.dim() == 2) is wanted] for wanted in (True, False))
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    model, optimizer = run.prepare(
        AnswerModel(network, len(batches.prefix), config.gradient_checkpointing),
        torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98)),
        pretrained=network,
    )
    total, count = (sum(p.numel() for p in parameters) for parameters in (network.parameters(), trained))
    if run.is_main:
        run.output.say(f"{count:,} of {total:,} parameters are trained, on {len(training):,} conversations")
    reference = log_probs_of_pairs(run, model, batches) if config.stage == "dpo" else None
    held_out_reference = log_probs_of_pairs(run, model, held_out) if config.stage == "dpo" and held_out else None

    model.train()
    for tokens, documents, is_answer, numbers in run.steps(batches):
        tokens, documents, is_answer = (part.to(run.device) for part in (tokens, documents, is_answer))
        with run.forward(model):
            log_probs = model(tokens, documents, is_answer)
        if reference is None:
            loss = -log_probs.mean()
        else:
            pairs = sum_by_sequence(log_probs, documents, is_answer).view(-1, 2)
            loss = preference_loss(pairs, reference[numbers.to(run.device)], config).loss.mean()
        run.update(loss, optimizer, schedule=linear(warmup=config.warmup))
        run.flops += training_flops(network, tokens.numel(), len(log_probs)) * run.world_size
        if run.should_evaluate:
            metrics = validate(run, model, held_out, held_out_reference) if held_out else {}
            best = "validation_loss" if metrics and config.patience is not None else None
            run.log_evaluation(maximize=None, minimize=best, loss=loss.item(), **metrics)
    adapters = f"{config.method} of rank {config.rank}" if config.method != "full" else "all weights"
    run.finish(
        model,
        base=located.name if located else config.base if config.base != "auto" else "tiny",
        network=f"{located.title if located else 'a tiny random network'}, {adapters}",
        parameters=total,
        trained_parameters=count,
        conversations=len(training),
        stage=config.stage,
    )
    unwrapped = run.unwrap_model(model)  # by every process, where each holds a part
    if run.is_main and config.method != "full":
        home = located.asset.home.removeprefix("https://huggingface.co/") if located else None
        store_adapter(run.directory, unwrapped, home)


def hold_out(
    conversations: Sequence[Conversation], share: float, seed: int
) -> tuple[list[Conversation], list[Conversation]]:
    """Splits conversations at random into those to train on and those to validate on."""
    order = list(range(len(conversations)))
    random.Random(seed).shuffle(order)
    count = int(share * len(order))
    return [conversations[i] for i in sorted(order[count:])], [conversations[i] for i in sorted(order[:count])]


def make_batches(
    run: TrainingRun[Config], tokenizer: Tokenizer, conversations: Sequence[Conversation]
) -> PackedBatches:
    """Encodes and packs conversations; leaves out, and counts, those that are longer than a row.

    Raises:
        UsageError: none is left, or the options do not suit each other.
    """
    config = run.config
    units = [encode_unit(tokenizer, one, config.stage) for one in conversations]
    if config.stage == "dpo":
        units = [unit for unit in units if len(unit) == 2 and unit[0].tokens != unit[1].tokens]
        if not units:
            raise UsageError(
                f"--stage dpo learns from preferences, and {run.data.name} holds none; each row needs chosen and "
                f"rejected"
            )
    # A batch is shared by the processes row by row, so that many of them get shorter rows.
    row_length = min(config.row_length, config.batch_size // run.world_size)
    short = [unit for unit in units if sum(len(one.tokens) for one in unit) <= row_length]
    if not short:
        longest = min(sum(len(one.tokens) for one in unit) for unit in units)
        raise UsageError(
            f"every conversation is longer than a row of {row_length} tokens: the shortest has {longest}; raise "
            f"--row-length and --batch-size"
        )
    if run.is_main and len(short) < len(units):
        left = len(units) - len(short)
        warn(f"{left:,} of {len(units):,} conversations have more than {row_length} tokens and are left out; "
             f"raise --row-length and --batch-size to use them")  # fmt: skip
    warn_of_costly_text(run, conversations, units)
    try:
        rows = config.batch_size // row_length
        return PackedBatches(short, row_length, rows, config.seed, run.rank, run.world_size)
    except ValueError as error:
        raise UsageError(f"{error}; change --batch-size or --row-length") from error


def encode_unit(tokenizer: Tokenizer, conversation: Conversation, stage: str) -> Unit:
    """Encodes a conversation, or for DPO its two last answers, each alone to be learned; empty without a preference."""
    if stage == "sft":
        return (TokenSequence(*tokenizer.encode_chat(conversation.messages)),)
    if conversation.preference is None:
        return ()
    unit = []
    prompt, _ = tokenizer.encode_chat(conversation.prompt, add_generation_prompt=True)
    for answer in (conversation.preference.chosen, conversation.preference.rejected):
        tokens, is_answer = tokenizer.encode_chat(conversation.with_answer(answer))
        last = [flag and place >= len(prompt) for place, flag in enumerate(is_answer)]
        unit.append(TokenSequence(tokens, last))
    return tuple(unit)


def warn_of_costly_text(run: TrainingRun[Config], conversations: Sequence[Conversation], units: Sequence[Unit]) -> None:
    """Warns where a text takes more tokens than characters: the tokenizer was not made for its language."""
    characters = sum(len(one.content) for conversation in conversations for one in conversation.messages)
    tokens = sum(len(unit[0].tokens) for unit in units if unit)
    if run.is_main and tokens > characters and run.config.base != "tiny" and run.assets:
        warn(
            f"{characters:,} characters take {tokens:,} tokens: the base hardly knows this language, so it learns "
            f"slowly and forgets early; choose a multilingual one with --base, such as Qwen/Qwen2.5-0.5B-Instruct"
        )


def continue_adapter(network: nn.Module, config: Config) -> None:
    """Gives the base the adapter that `--adapter` names, to be trained on.

    Raises:
        UsageError: there is none, or it does not fit.
    """
    folder = Path(config.adapter or "").expanduser()
    try:
        load_adapter(network, folder, dropout=config.lora_dropout)
    except (ValueError, OSError) as error:
        raise UsageError(f"--adapter {folder}: {error}") from error


@torch.inference_mode()
def log_probs_of_pairs(run: TrainingRun[Config], model: AnswerModel, batches: PackedBatches) -> torch.Tensor:
    """Computes the log-probabilities of the chosen and the rejected answer of each unit: float32 [units, 2]."""
    averaged = run.ema_model(model).eval()
    found = torch.zeros(len(batches.units), 2, device=run.device)
    for *parts, numbers in batches.in_order():
        tokens, documents, is_answer = (part.to(run.device) for part in parts)
        with run.autocast():
            log_probs = averaged(tokens, documents, is_answer)
        found[numbers.to(run.device)] = sum_by_sequence(log_probs, documents, is_answer).view(-1, 2)
    model.train()
    return found.clone()


def preference_loss(policy: torch.Tensor, reference: torch.Tensor, config: Config) -> DPOLoss:
    """Computes DPO's loss of pairs of log-probabilities, chosen and rejected, each [pairs, 2]."""
    chosen, rejected = policy.unbind(dim=1)
    known_chosen, known_rejected = reference.unbind(dim=1)
    return dpo_loss(chosen, rejected, known_chosen, known_rejected, config.beta, config.label_smoothing)


@torch.inference_mode()
def validate(
    run: TrainingRun[Config], model: AnswerModel, held_out: PackedBatches, reference: torch.Tensor | None
) -> dict[str, float]:
    """Computes the loss on held-out conversations; of preferences also how often the chosen answer gains more."""
    if reference is not None:
        pairs = log_probs_of_pairs(run, model, held_out)
        found = preference_loss(pairs, reference, run.config)
        margins = found.chosen_reward - found.rejected_reward
        return {
            "validation_loss": found.loss.mean().item(),
            "validation_accuracy": (margins > 0).float().mean().item(),
            "validation_margin": margins.mean().item(),
        }
    averaged = run.ema_model(model).eval()
    total, count = 0.0, 0
    for *parts, _ in held_out.in_order():
        with run.autocast():
            log_probs = averaged(*(part.to(run.device) for part in parts))
        total, count = total - log_probs.sum().item(), count + len(log_probs)
    model.train()
    return {"validation_loss": total / count}


def store_adapter(directory: Path, model: AnswerModel, base: str | None) -> None:
    """Writes the run's final adapter as peft stores it: the one whose weights the run has kept."""
    own = model.state_dict()
    model.load_state_dict({**own, **read_weights(directory / WEIGHTS)})
    save_adapter(model.network, directory / ADAPTER, base_model=base, task_type="CAUSAL_LM")
