# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Processes with a dispatcher that are killed: `Nursery`, and what it runs.

One Python starts and imports everything; each life is a fork of it, so that a life
takes some hundredths of a second.  The process that forks has no threads and no
database open.  As a program it reads one plan a line and answers with one report.
"""

import faulthandler
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from . import scenario
from .boundaries import points_of

ROOT = Path(__file__).parents[2]

#: A life that takes longer hangs, which is a failure.
PATIENCE = 20.0

#: Begins the line that tells of the boundary at which a life kills itself.
KILLED = "!"

#: How long a life waits for its jobs, before it tells which are not done.
DRAIN = 10.0


class LifeError(AssertionError):
    """A life ended in a way that nobody wanted."""


class Nursery:
    """Starts lives; used by tests.  A context manager.

    `run(plan)` returns the report of one life, a dict: `ended` is "killed" or
    "done", `boundaries` the list of [number, moment, name] that it came by, `at` a
    list with the one where it was killed, and `text` whatever else it said.  See
    `Life` for plans.
    """

    def __enter__(self):
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.lives"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        return self

    def __exit__(self, *exc_info):
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def run(self, plan):
        self._process.stdin.write(json.dumps(plan) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise LifeError(f"the nursery ended at {plan}")
        report = json.loads(line)
        if report["ended"] not in ("killed", "done", *plan.get("may end", ())):
            raise LifeError(f"{plan} ended as {report['ended']}:\n{report['text']}")
        return report


# The process that forks.


def main():
    for line in sys.stdin:
        report = live(json.loads(line))
        print(json.dumps(report), flush=True)


def live(plan):
    """Fork one life, wait for its end, report."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_alive(plan, writing)
    os.close(writing)
    try:
        text, killed = _attend(pid, reading, plan.get("kill after"))
    finally:
        os.close(reading)
        _, code = os.waitpid(pid, 0)
    return _report(text, code, killed)


def _attend(pid, reading, kill_after):
    """Read what the life tells until it ends; kill it when its time has come."""
    began = time.monotonic()
    limit = PATIENCE if kill_after is None else kill_after
    text, killed = b"", False
    while True:
        remaining = began + limit - time.monotonic()
        ready, _, _ = select.select([reading], [], [], max(remaining, 0))
        if ready:
            chunk = os.read(reading, 65536)
            text += chunk
            if not chunk:
                return text.decode(), killed
        elif not killed:
            if kill_after is None:
                os.kill(pid, signal.SIGABRT)  # faulthandler tells where it hangs
            else:
                os.kill(pid, signal.SIGKILL)
            killed, limit = True, limit + PATIENCE


def _report(text, code, killed):
    lines = text.splitlines()
    boundaries = [json.loads(line) for line in lines if line.startswith("[")]
    killed_at = [json.loads(line[1:]) for line in lines if line.startswith(KILLED)]
    rest = "\n".join(line for line in lines if line[:1] not in ("[", KILLED))
    if os.WIFSIGNALED(code) and os.WTERMSIG(code) == signal.SIGKILL:
        ended = "killed"
    elif os.WIFEXITED(code) and os.WEXITSTATUS(code) == 0:
        ended = "done"
    elif os.WIFEXITED(code):
        ended = f"exit status {os.WEXITSTATUS(code)}"
    else:
        ended = f"wait status {code}{', which hung' if killed else ''}"
    where = killed_at or boundaries[-1:]
    return {"ended": ended, "boundaries": boundaries, "at": where, "text": rest}


# The life.


def _be_alive(plan, writing):
    code = 1
    try:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        faulthandler.enable(2)
        Life(plan, writing).run()
        code = 0
    except BaseException:
        os.write(writing, traceback.format_exc().encode())
    finally:
        os._exit(code)


class Life:
    """Does what its plan says, a dict.

    `folder` is where the database is; `do` what to do: "prepare" a database (with
    `count`, `backlog` and `kinds`), "check" it, or, by default, put and perform all
    that is missing.  It is killed at `kill at`, a boundary [number, moment], or [point,
    count, moment] for the count-th commit of that point, from 1; or `kill after` some
    seconds.  `linger` is how many seconds it stays when all is done.  `instance` is
    the name of the UUID file, `may end` how else it may end than killed or done;
    for the rest see `scenario.adjust`.
    """

    def __init__(self, plan, writing):
        self.plan = plan
        self.writing = writing
        self.path = Path(plan["folder"]) / plan.get("file", "data.fs")
        self.kill_at = plan.get("kill at")
        self._count = 0

    def run(self):
        instance = self.plan.get("instance", "uuid")
        os.environ["ZC_ASYNC_UUID"] = str(self.path.parent / instance)
        scenario.adjust(self.plan)
        getattr(self, self.plan.get("do", "perform"))()

    def prepare(self):
        kinds = self.plan.get("kinds") or scenario.HARMLESS
        count, backlog = self.plan["count"], self.plan["backlog"]
        scenario.prepare(self.path, count, backlog, kinds)

    def check(self):
        for problem in scenario.problems(self.path):
            os.write(self.writing, f"{problem}\n".encode())

    def perform(self):
        with scenario.dispatching(self.path, self._hook) as site:
            site.put_missing()
            site.wait_until_drained(DRAIN)
            if "death" in self.plan:
                site.wait_until_alone(DRAIN)
            threading.Event().wait(self.plan.get("linger", 0))

    def _hook(self, number, moment, name):
        line = json.dumps([number, moment, name]) + "\n"
        if self._is_time(number, moment, name):
            # Other threads may come to a boundary before the signal does.
            os.write(self.writing, f"{KILLED}{line}".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(self.writing, line.encode())

    def _is_time(self, number, moment, name):
        if self.kill_at is None or moment != self.kill_at[-1]:
            return False
        if len(self.kill_at) == 2:
            return number == self.kill_at[0]
        if self.kill_at[0] not in points_of(name):
            return False
        self._count += 1
        return self._count == self.kill_at[1]


if __name__ == "__main__":
    main()
