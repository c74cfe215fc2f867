"""The study: Optuna's record of all trials, in a database that several processes and machines may share."""

import json
import socket
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import psutil
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning.trial_process import end
from dlcommon.training.search_space import Choice, Integers, SearchSpace, Uniform

PROBLEM, OWNER, TRAINER, SEEN, FOLDER, REASON = "problem", "owner", "trainer", "seen", "folder", "reason"
"""Attributes of a study and of its trials."""
STALE_SECONDS = 600
"""A trial of another machine that has not been seen for so long is taken over."""

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


def open_study(name: str, url: str, metric: Metric, sampler: str, pruner: str, seed: int) -> optuna.Study:
    """Opens the study of that name, or makes it.

    Raises:
        UsageError: the database's address is wrong, or its driver is not installed.
        UserError: the database does not answer.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    engine = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        storage = optuna.storages.RDBStorage(url, engine_kwargs=engine)
        return optuna.create_study(
            storage=storage,
            sampler=make_sampler(sampler, seed),
            pruner=make_pruner(pruner),
            study_name=name,
            direction=metric.direction,
            load_if_exists=True,
        )
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise UsageError(f"--storage {url}: {error}; type an address such as postgresql+psycopg://HOST/NAME") from error
    except ImportError as error:
        raise UsageError(f"--storage {url}: its driver is missing ({error}); `uv pip install` it") from error
    except OperationalError as error:
        raise UserError(f"--storage {url}: the database cannot be used: {error.orig}") from error


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """Makes the sampler that proposes settings: `tpe` (Bergstra et al. 2011) or `random` (Bergstra and Bengio 2012)."""
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # Trials that still run count as bad ones, so that parallel ones do not try the same.
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=8)


def make_pruner(name: str) -> optuna.pruners.BasePruner:
    """Makes the pruner that ends hopeless trials: `median`, `halving` (Li et al. 2020, asynchronous) or `none`."""
    match name:
        case "none":
            return optuna.pruners.NopPruner()
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner()
        case _:
            return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1)


# -- what is searched


def label(value: Any) -> str | int | float | bool | None:
    """Returns a value as the database can hold it: a tuple as its items in one text."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else value


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Translates a search space into Optuna's terms."""
    result: dict[str, BaseDistribution] = {}
    for name, span in space.items():
        match span:
            case Uniform(low, high, log):
                result[name] = FloatDistribution(low, high, log=log)
            case Integers(low, high, log):
                result[name] = IntDistribution(low, high, log=log)
            case Choice(values):
                result[name] = CategoricalDistribution([label(value) for value in values])
    return result


def options_of(params: Mapping[str, Any], space: SearchSpace) -> dict[str, Any]:
    """Translates a trial's parameters back into options of `train`."""
    result = dict(params)
    for name, span in space.items():
        if isinstance(span, Choice) and name in result:
            result[name] = next(value for value in span.values if label(value) == result[name])
    return result


def check_problem(study: optuna.Study, problem: Mapping[str, Any]) -> None:
    """Notes what a new study searches; compares it for one that goes on.

    Raises:
        UsageError: the study is about something else.
    """
    wanted = json.loads(json.dumps(problem))
    noted = study.user_attrs.get(PROBLEM)
    if noted is None:
        study.set_user_attr(PROBLEM, wanted)
    elif different := [name for name in wanted if wanted[name] != noted.get(name)]:
        changes = "; ".join(f"{name} was {noted.get(name)}, is {wanted[name]}" for name in different)
        raise UsageError(f"the study {study.study_name} began differently ({changes}); begin another with --study NAME")


# -- whose trials are running


def mark(trial: optuna.Trial, folder: Path, trainer: psutil.Process) -> None:
    """Notes in a trial who runs it, so that it can be taken over if they die."""
    trial.set_user_attr(OWNER, _identity(psutil.Process()))
    trial.set_user_attr(TRAINER, _identity(trainer))
    trial.set_user_attr(FOLDER, str(folder))
    trial.set_user_attr(SEEN, time.time())


def put_back(study: optuna.Study, trial: optuna.Trial | FrozenTrial) -> None:
    """Queues a trial that was stopped to be continued: the same settings, in the same folder."""
    folder = trial.user_attrs.get(FOLDER)
    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except (RuntimeError, ValueError, optuna.exceptions.UpdateFinishedTrialError):
        return  # another process was quicker
    study.enqueue_trial(trial.params, user_attrs={} if folder is None else {FOLDER: folder})


def take_over(study: optuna.Study) -> list[int]:
    """Puts back the trials whose owners are gone; returns their numbers."""
    stale = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner, seen = trial.user_attrs.get(OWNER), trial.user_attrs.get(SEEN)
        if owner is None or seen is None:  # it has just been asked for
            began = trial.datetime_start
            gone = began is None or time.time() - began.timestamp() > STALE_SECONDS
        elif owner["host"] == socket.gethostname():
            gone = _alive(owner) is None
        else:
            gone = time.time() - seen > STALE_SECONDS
        if gone:
            trainer = _alive(trial.user_attrs.get(TRAINER))
            if trainer is not None:  # the owner was killed, its training goes on
                end(trainer)
            put_back(study, trial)
            stale.append(trial.number)
    return stale


def _identity(process: psutil.Process) -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": process.pid, "began": process.create_time()}


def _alive(identity: dict[str, Any] | None) -> psutil.Process | None:
    """Returns the process if it is one of this machine and still runs."""
    if identity is None or identity["host"] != socket.gethostname():
        return None
    try:
        process = psutil.Process(identity["pid"])
        same = abs(process.create_time() - identity["began"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if same else None
