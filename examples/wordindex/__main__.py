# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The program: ``python -m examples.wordindex --help``.

Exit status: 0 the index is complete, 1 it cannot be built, 2 bad arguments,
130 and 143 interrupted by Ctrl-C and by SIGTERM; started again, it continues.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from . import trouble
from .build import Build
from .folder import default_folder, relative
from .options import parse
from .place import InUseError, Place, default_place
from .progress import Display, Figures, View
from .searching import ask, found
from .summary import summary
from .working import Stopping, begin, start, watch


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    options = parse(arguments)
    data = options.data or default_place(
        options.folder or default_folder(), options.limit
    )
    place = Place(os.path.abspath(data))
    try:
        with place.locked():
            return Program(options, place).run()
    except (InUseError, OtherIndexError, OSError) as error:
        print(f"wordindex: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


class OtherIndexError(Exception):
    """The data folder holds an index of something else."""


class Program:
    """One run, in a data folder that is locked for it."""

    def __init__(self, options: argparse.Namespace, place: Place):
        self.options = options
        self.place = place
        self.display = Display(sys.stdout, options.quiet)
        self.planted = os.path.join(place.folder, "trouble")

    def run(self) -> int:
        if self.options.again:
            self.place.clear()
            trouble.remove(self.planted)
        db = self.place.open()
        try:
            status = 0 if self._prepare(db) else self._work(db)
            if status == 0:
                self._show(db)
            return status
        finally:
            db.close()  # stops the dispatcher first, if it works still

    # Building.

    def _prepare(self, db: Any) -> bool:
        """Make the build, if there is none; whether it is finished.  Commits."""
        with db.transaction() as connection:
            root = connection.root()
            if "wordindex" not in root:
                root["wordindex"] = Build(self._folders(), self.options.limit)
            build = root["wordindex"]
            self._check(build)
            if build.finished is not None:
                return True
            build.diary.begin_session()
            self._announce(build)
            return False

    def _folders(self) -> list[str]:
        if self.options.folder is not None:
            return [self.options.folder]
        return [self.planted, default_folder()]

    def _check(self, build: Any) -> None:
        """OtherIndexError when this is not the index that was asked for."""
        options = self.options
        if options.folder is None and options.data is not None:
            return  # whatever it is
        if build.settings != (tuple(self._folders()), options.limit):
            limit = f" (the first {build.limit:,} files)" if build.limit else ""
            raise OtherIndexError(
                f"found an index of {', '.join(build.folders)}{limit} in "
                f"{self.place.folder}; give the same FOLDER and --limit, or start over "
                "with --again"
            )

    def _announce(self, build: Any) -> None:
        folders = " and ".join(relative(folder, ()) for folder in build.folders)
        if build.done:
            self.display.say(f"Indexing {folders}, from file {build.done + 1:,} on")
        else:
            self.display.say(f"Indexing {folders}")
        self.display.say(f"Data in {self.place.folder}")

    def _work(self, db: Any) -> int:
        """Have the jobs performed until the index is complete; the exit status."""
        dispatcher = start(db, self.options.threads, self.options.size)
        with Stopping() as stopping:
            writer = self._plant_trouble(db)
            begin(db)
            watch(db, dispatcher, self.display, stopping)
            if stopping.status:
                self.display.say(
                    f"Stopping: running jobs have {dispatcher.grace:.0f} s to end; "
                    "Ctrl-C again ends at once"
                )
            writer.stop()
            dispatcher.stop()
            figures = self._look(db)
        return self._status(figures, stopping.status)

    def _plant_trouble(self, db: Any) -> trouble.Writer:
        writer = trouble.Writer(self.planted)
        with db.transaction() as connection:
            if self.planted in connection.root()["wordindex"].folders:
                trouble.plant(self.planted)
                writer.start()
        return writer

    def _look(self, db: Any) -> Figures:
        view = View(db)
        try:
            return view.look()
        finally:
            view.close()

    def _status(self, figures: Figures, interrupted: int) -> int:
        self.display.clear()
        if figures.finished:
            return 0
        if figures.trouble is not None:
            print(f"wordindex: {figures.trouble}; --again starts over", file=sys.stderr)
            return 1
        self.display.say(
            f"Interrupted: {figures.done:,} of {figures.planned or 0:,} files are "
            "done.  Start it again in the same way to continue."
        )
        return interrupted

    # What there is then.

    def _show(self, db: Any) -> None:
        connection = db.open()
        build = connection.root()["wordindex"]
        for line in summary(build, self.place.size):
            self.display.say(line)
        for query in self.options.search:
            for line in found(build, query):
                print(line)
        if not self.options.search and sys.stdin.isatty() and not self.options.quiet:
            ask(build)
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
