# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The command line: `python -m benchmarks [NAME ...] [options]`."""

import argparse
import sys
from collections.abc import Sequence
from types import ModuleType

from . import (
    backlog,
    ceiling,
    contention,
    drain,
    idle,
    latency,
    memory,
    put,
    report,
    rounds,
    runner,
    storages,
)

SCRIPTS: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        ceiling, put, drain, rounds, latency, backlog, contention, idle, memory
    )
}  # fmt: skip

#: Where scripts run that do not say it themselves.
STORAGES = ("filestorage",)


def parser(names: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser, with the options of the scripts `names` (of all, if none)."""
    epilog = [f"  {name:<11} {summary(SCRIPTS[name])}" for name in SCRIPTS]
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure zc.async beside what its storage can do.",
        epilog="\n".join(["scripts:", *epilog]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "names", nargs="*", metavar="NAME", choices=[[], *SCRIPTS], help="default: all"
    )
    made.add_argument("--json", action="store_true", help="print one JSON document")
    made.add_argument(
        "--jobs", type=positive, metavar="N", help="how many jobs (or commits)"
    )
    made.add_argument(
        "--repeat", type=positive, metavar="N", help="how many trials; medians count"
    )
    made.add_argument(
        "--storage",
        choices=sorted(storages.KINDS),
        help="default: what the script is for, most often filestorage",
    )
    made.add_argument(
        "--folder", metavar="PATH", help="where databases are made; default: temporary"
    )
    made.add_argument(
        "--same-process",
        action="store_true",
        help="no process for each trial: for profilers and debuggers",
    )
    for name in names or SCRIPTS:
        if hasattr(SCRIPTS[name], "add_arguments"):
            SCRIPTS[name].add_arguments(made.add_argument_group(name))
    return made


def positive(text: str) -> int:
    """The argument as an integer of at least 1; ValueError otherwise."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def summary(module: ModuleType) -> str:
    """The first line of the module's docstring."""
    return (module.__doc__ or "").partition("\n")[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scripts, print their figures; 1 when a bar was not reached."""
    arguments = sys.argv[1:] if arguments is None else arguments
    names = [each for each in arguments if each in SCRIPTS]
    options = parser(names).parse_args(arguments)
    results = []
    skipped: list[dict] = []
    for name in options.names or SCRIPTS:
        for kind in storages_of(SCRIPTS[name], options):
            reason = storages.KINDS[kind].missing()
            if reason is not None:
                skipped.append({"name": name, "storage": kind, "reason": reason})
                print(f"{name} on {kind}: skipped, {reason}", file=sys.stderr)
                continue
            say(f"{name} on {kind}: {summary(SCRIPTS[name])}")
            results.append(runner.run(name, SCRIPTS[name], options, kind))
            if not options.json:
                print(report.table(results[-1]), flush=True)
    if options.json:
        print(report.as_json(results, skipped))
    return 0 if all(result.met for result in results) else 1


def storages_of(module: ModuleType, options: argparse.Namespace) -> Sequence[str]:
    """The kinds of storages to run a script on."""
    if options.storage:
        return (options.storage,)
    return getattr(module, "STORAGES", STORAGES)


def say(words: str) -> None:
    """Tell how far it is, out of the way of the output."""
    if sys.stderr.isatty():
        print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
