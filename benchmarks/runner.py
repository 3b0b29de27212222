# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Running the cases of a benchmark: processes, repetitions, and the ceiling."""

import argparse
import concurrent.futures
import importlib
import multiprocessing
import os
import statistics
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

from . import ceiling, report, storages
from .plan import Case

#: Seconds after which a trial counts as hanging.
TIMEOUT = 1800


def run(
    name: str, module: ModuleType, options: argparse.Namespace, kind: str
) -> report.Result:
    """Run all cases of a benchmark on a kind of storage, `options.repeat` times.

    In turns, so that what disturbs the machine for a while disturbs all cases.
    """
    cases = module.cases(argparse.Namespace(**{**vars(options), "storage": kind}))
    repeat = options.repeat or module.REPEAT
    trials: list[list[dict]] = [[] for _ in cases]
    for _ in range(repeat):
        for case, found in zip(cases, trials, strict=True):
            found.append(run_case(module.__name__, case, options, kind))
    rows = [
        report.Row.of(figure, found)
        for case, found in zip(cases, trials, strict=True)
        for figure in case.figures
    ]
    return report.Result(name, kind, rows, _details(cases, trials))


def run_case(module: str, case: Case, options: argparse.Namespace, kind: str) -> dict:
    """One trial of a case, by default in a process of its own."""
    arguments = dict(case.arguments)
    call = call_here if options.same_process else call_in_child
    return call(trial, module, kind, options.folder, arguments)


def trial(module: str, kind: str, folder: str | None, arguments: dict) -> dict:
    """Measure the ceiling, the benchmark, the ceiling again; in this process.

    Returns `{"ceilings": {threads: commits a second}, "figures": {key: number},
    "details": whatever else the benchmark tells}`.
    """
    benchmark = importlib.import_module(module)
    make = storages.maker(kind, folder)
    before = ceiling.ceilings(make, ceiling.BESIDE)
    found = benchmark.trial(make, **arguments)
    details = found.pop("details", None)
    after = ceiling.ceilings(make, ceiling.BESIDE)
    means = {
        threads: statistics.mean((rate, after[threads]))
        for threads, rate in before.items()
    }
    return {"ceilings": means, "figures": found, "details": details}


def call_here(function: Callable, *args: Any) -> Any:
    return function(*args)


def call_in_child(function: Callable, *args: Any) -> Any:
    """Call in a new process; an error there is raised here."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=context, initializer=_end_with_parent
    ) as pool:
        future = pool.submit(function, *args)
        try:
            return future.result(timeout=TIMEOUT)
        except TimeoutError:
            for process in list(pool._processes.values()):
                process.kill()
            raise


def _end_with_parent() -> None:
    """Have this process end when the one that started it has ended."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def _details(cases: list[Case], trials: list[list[dict]]) -> list[dict]:
    """What the last trial of each case told beside its figures."""
    return [
        {"arguments": dict(case.arguments), **found[-1]["details"]}
        for case, found in zip(cases, trials, strict=True)
        if found[-1]["details"]
    ]
