# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The command line."""

import argparse
import os
from collections.abc import Sequence

DESCRIPTION = """\
Build an index of the words in all text files of FOLDER, by durable jobs, and search
it.  Interrupt it as you like, with Ctrl-C or kill -9: started again in the same way
it continues, and the index will be the same.  Once complete, it is only searched.
"""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ends the process when there is something wrong with them."""
    parser = argparse.ArgumentParser(
        prog="bootstrap.py demo", description=DESCRIPTION, allow_abbrev=False
    )
    add = parser.add_argument
    add(
        "folder",
        metavar="FOLDER",
        nargs="?",
        help="what to index (default: the Python packages of this environment, and a "
        "few files that make trouble, to show what becomes of them)",
    )
    add(
        "--data",
        metavar="DIR",
        help="where the database is kept (default: a folder in the user's cache that "
        "is named after FOLDER)",
    )
    add(
        "--search",
        metavar="WORD",
        action="append",
        default=[],
        help="print the files that have WORD; several in quotes must all be there; "
        "may be repeated (default: ask, if there is a terminal)",
    )
    add("--again", action="store_true", help="forget what there is, and start over")
    add(
        "--threads",
        metavar="N",
        type=positive,
        default=3,
        help="how many jobs are performed at once (default: 3)",
    )
    add(
        "--size",
        metavar="N",
        type=positive,
        help="how many jobs are claimed at once (default: 4 for each thread)",
    )
    add("--limit", metavar="N", type=positive, help="index only the first N files")
    add("--quiet", action="store_true", help="print only what was searched for")
    options = parser.parse_args(arguments)
    if options.folder is not None:
        if not os.path.isdir(options.folder):
            parser.error(f"{options.folder}: no such folder")
        options.folder = os.path.realpath(options.folder)
    options.size = max(options.size or 4 * options.threads, options.threads)
    return options


def positive(text: str) -> int:
    """An integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {value}, expected at least 1")
    return value
