"""The commands `serve` and `demo`: REST API and page of an exported model."""

import dataclasses
import logging
import os
import sys
import threading
import time
import webbrowser
from functools import partial
from pathlib import Path
from typing import Any

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.commands.options import parse
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.locate_model import find_model
from dlcommon.runtime.output import Output
from dlcommon.runtime.serving.settings import ServeConfig


def _address(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def run(capstone: Capstone[Any], model_path: Path, settings: ServeConfig, open_browser: bool) -> int:
    """Serves until SIGTERM or Ctrl-C; returns the exit code.

    Raises:
        UserError: the model cannot be used, or the address cannot be listened on.
    """
    from dlcommon.runtime.onnx_model import OnnxModel
    from dlcommon.runtime.serving.http import LAST_CALL_SECONDS, finish_threads, listen, run_server

    output = Output(settings.json)
    started = time.perf_counter()
    model = OnnxModel(model_path, settings.threads)
    model.check_capstone(capstone.name)
    command = "demo" if open_browser else "serve"
    with listen(settings.host, settings.port) as bound:
        address = _address(settings.host, bound.getsockname()[1])
        output.first_line(capstone.name, command, f"data {model.data_name}", "onnxruntime cpu", address)
        output.say(f"model {model_path}")
        if model.data_is_builtin:
            output.say("this model was trained on built-in sample data, not on the real task")
        if not settings.is_local and settings.token is None:
            output.say("whoever reaches this address may use it; --token asks for one")

        from dlcommon.runtime.serving.app import create_app
        from dlcommon.runtime.serving.images import refuse_decompression_bombs

        refuse_decompression_bombs()
        logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
        service = capstone.service(model)
        app = create_app(service, model, settings, partial(capstone.page, service))

        def ready() -> None:
            seconds = time.perf_counter() - started
            output.say(f"ready in {seconds:.1f} s; the REST API is described at {address}/docs; stop with Ctrl-C")
            output.result(
                {
                    "capstone": capstone.name,
                    "data": model.data_name,
                    "url": address,
                    "model": str(model_path),
                    "metrics": model.metrics,
                    "seconds": round(seconds, 3),
                }
            )
            if open_browser:
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        run_server(app, app.state.guard, app.state.engine.interrupt, bound, settings, ready)
    if not finish_threads(LAST_CALL_SECONDS):
        output.say("the model is still computing; leaving without waiting for it")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def main(capstone: Capstone[Any], argv: list[str], open_browser: bool) -> int:
    """Runs `serve`, or `demo`, which also opens the page in the browser."""
    command = "demo" if open_browser else "serve"
    settings = parse(ServeConfig, argv, f"{capstone.name} {command}", str(capstone.summary))
    if settings.token is None and (token := os.environ.get("DL_TOKEN")):
        try:
            settings = dataclasses.replace(settings, token=token)
        except ValueError as error:
            raise UsageError(f"DL_TOKEN: {error}") from error
    return run(capstone, find_model(capstone, settings.model), settings, open_browser)
