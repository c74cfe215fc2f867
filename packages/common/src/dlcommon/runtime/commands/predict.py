"""`predict`: an exported model's answers for files, folders, lines of text, rows of CSV or stdin."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dlcommon.runtime.batch_inference.progress import PredictionProgress
from dlcommon.runtime.batch_inference.sources import Format, Sources, find_sources
from dlcommon.runtime.bounds import Count, check_bounds
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.commands.options import parse
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.locate_model import find_model
from dlcommon.runtime.output import Output

if TYPE_CHECKING:
    from dlcommon.runtime.batch_inference.items import Entry, ItemReader
    from dlcommon.runtime.onnx_model import OnnxModel
    from dlcommon.runtime.serving.service import AnyService

Words = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT …")]
Columns = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="COLUMN")]
Values = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=VALUE")]


@dataclass(frozen=True)
class PredictOptions:
    inputs: Words = ()
    """Files, folders (with those below), globs, or - for stdin. Pictures; or texts, one a line; or CSV, TSV (a header,
    an item a row) and JSON Lines (items as /v1/predict takes them)."""
    out: Path | None = None
    """Where the answers go: .jsonl; .csv or .tsv; .txt, a line for each line of the input; or a folder, for pictures.
    By default JSON Lines on stdout."""
    run: Path | None = None
    """Run whose exported model answers; by default that of the newest export, else the one that the package carries."""
    model: Path | None = None
    """Exported ONNX model instead of a run's."""
    format: Format | None = None
    """How the inputs are read; by default by the endings of their names, and by what the model takes."""
    column: str | None = None
    """Column of CSV inputs that holds the texts, or the paths of files."""
    keep: Columns = ()
    """Column of CSV inputs that is copied to the answers, as it is; may be repeated."""
    set: Values = ()
    """A further field of every item, as in tokens=50; may be repeated."""
    batch_size: Count = 32
    """Items that go through the model together."""
    max_pixels: Count = 25_000_000
    """Largest width times height of a picture."""
    threads: Count | None = None
    """Threads of the model; by default one for each core."""
    json: bool = False
    """Print one JSON object on stdout at the end; needs --out."""

    def __post_init__(self) -> None:
        check_bounds(self)


def main(capstone: Capstone[Any], argv: list[str]) -> int:
    options = parse(PredictOptions, argv, f"{capstone.name} predict", f"{capstone.title}: answers for many inputs")
    if not options.inputs:
        raise UsageError("nothing to predict: name files, folders or globs, or - for stdin")
    if options.run and options.model:
        raise UsageError("--run and --model name two models; type one of them")
    if options.json and options.out is None:
        raise UsageError("with --json stdout holds its object alone; say with --out where the answers go")

    # What computes is imported here, so that `--help` does without it.
    from dlcommon.runtime.batch_inference.items import ItemReader, default_format, values_of
    from dlcommon.runtime.batch_inference.writers import check_out
    from dlcommon.runtime.onnx_model import OnnxModel
    from dlcommon.runtime.serving.images import ImageLimits, refuse_decompression_bombs

    model = OnnxModel(find_model(capstone, options.model, options.run), options.threads)
    model.check_capstone(capstone.name)
    service = capstone.service(model)
    service.image_limits = ImageLimits(options.max_pixels)
    refuse_decompression_bombs()
    if options.column is not None and options.format not in (None, "csv"):
        raise UsageError(f"--column names a column of CSV; leave --format {options.format} out")
    forced = "csv" if options.column is not None else options.format
    sources = find_sources(options.inputs, default_format(service, forced), forced, service.suffixes)
    progress = PredictionProgress(sources.size, stdout_is_free=options.out is not None)
    reader = ItemReader(service, options.column, options.keep, values_of(service, options.set), progress.note)
    if options.keep and not any(source.format == "csv" for source in sources.found):
        raise UsageError("--keep copies columns of CSV inputs, and there is none")
    check_out(options.out, service, sources.found)
    for source in sources.found:
        reader.check(source)
    return _predict(capstone, options, model, service, sources, reader, progress)


def _predict(
    capstone: Capstone[Any],
    options: PredictOptions,
    model: "OnnxModel",
    service: "AnyService",
    sources: Sources,
    reader: "ItemReader",
    progress: PredictionProgress,
) -> int:
    from dlcommon.runtime.batch_inference.answers import Answered, Failed, answer_in_order, runner_for
    from dlcommon.runtime.batch_inference.writers import open_writer

    output = Output(as_json=True)  # stdout is for the answers
    inputs = sources.found[0].name if len(sources.found) == 1 else f"{len(sources.found)} inputs"
    output.first_line(capstone.name, "predict", f"data {model.data_name}", model.runtime, inputs)
    output.say(f"model {model.path}")
    if model.data_is_builtin:
        output.say("this model was trained on built-in sample data, not on the real task")
    if passed_over := sources.passed_over():
        output.say(passed_over)
    answered = failed = blank = 0
    started = time.perf_counter()

    def entries() -> Iterator["Entry"]:
        for source in sources.found:
            yield from reader.read(source)

    with progress, open_writer(options.out, service, options.keep) as writer:
        for entry, outcome in answer_in_order(entries(), runner_for(service, options.batch_size)):
            if isinstance(outcome, Answered):
                answered += 1
                writer.write(entry, outcome)
            else:
                writer.pass_over(entry)
                blank += outcome is None
            if isinstance(outcome, Failed):
                failed += 1
                progress.note(f"error: {entry.place}: {outcome.reason}")
            progress.advance(entry.size, answered, failed)
        if not answered and not failed:
            raise UsageError(f"nothing to predict: no item in {inputs}")
        if not answered:
            raise UserError(f"none of {_count(failed, 'item')} could be answered; nothing was written")
    seconds = time.perf_counter() - started
    facts = [f"{answered:,} answered in {seconds:.1f} s ({answered / seconds:,.1f} a second)"]
    facts += [f"{_count(blank, 'blank line')} passed over"] if blank else []
    facts += [f"{failed:,} failed, named above"] if failed else []
    output.say("; ".join(facts) + (f"; answers: {options.out}" if options.out else ""))
    Output(options.json).result(
        {
            "capstone": capstone.name,
            "data": model.data_name,
            "model": str(model.path),
            "n": answered,
            "failed": failed,
            "seconds": round(seconds, 3),
            "out": str(options.out),
        }
    )
    return 1 if failed else 0


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
