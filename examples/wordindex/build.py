# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The jobs that build the index.  If you read one module, read this.

    plan    lists the files, and starts some batches
    read    one for each file: returns its `Text`; many at once, in threads
    update  one for each batch, when all of its files have been read or have failed:
            adds them to the index, and starts the next batch
    report  a callback of each update: when it was the last, the build is finished

Each step is a transaction.  A job's effects, the jobs that it puts and the note that
it is done are committed together or not at all.  So the process can be killed at any
moment: the next one goes on with what is in the queue, and nothing is done twice.

Who writes what is chosen so that jobs do not conflict.  Reading, which is done in
parallel, writes nothing but the job's own result.  Updates all write the index, so
they share the quota "index", of which there is one place.
"""

import datetime
import logging
from collections.abc import Sequence
from typing import Any

from BTrees.IOBTree import IOBTree
from persistent import Persistent

from zc.async_ import local
from zc.async_.composition import parallel
from zc.async_.interfaces import AbortedError, IFailure
from zc.async_.job import Job
from zc.async_.retry import RetryWithBackoff

from .diary import Diary
from .folder import text_files
from .index import Index, Text
from .texts import StillChangingError, decode, digest_of, read_bytes, words_of

log = logging.getLogger(__name__)

QUOTA = "index"

#: How many batches are on their way at once.  So the queue stays short, however many
#: files there are, and updates need not wait until the last file has been read.
BATCHES_AT_ONCE = 4
SMALLEST_BATCH, LARGEST_BATCH = 10, 50  # files

#: How often work is put again that was given up because processes died under it.
MOST_ROUNDS = 5


class ReadAgain(RetryWithBackoff):
    """A file that is being written is read again, up to nine times, ever later.

    The job goes back into the queue for then; nobody waits for it.
    """

    errors = (StillChangingError,)
    max_tries = 10
    first_wait = datetime.timedelta(seconds=0.5)
    longest_wait = datetime.timedelta(seconds=30)
    max_interruptions = None  # being stopped is no fault of the job's


def read(path: str) -> Text:
    """Read one file.  The job that there are thousands of."""
    data = read_bytes(path)
    return Text(digest_of(data), len(data), words_of(decode(data)))


def read_job(path: str) -> Job:
    """A job that reads the file at `path`."""
    job = Job(read, path)
    job.retry_policy_factory = ReadAgain
    # Unreadable files are to be expected: they are shown in the summary, and need
    # no traceback in the log.
    job.failure_log_level = logging.INFO
    return job


class Build(Persistent):
    """An index and the state of its building.  Written by `plan` and `update`."""

    started: datetime.datetime | None = None
    finished: datetime.datetime | None = None
    trouble: str | None = None
    planned: int | None = None
    next_number = 0
    batch_size = LARGEST_BATCH
    read_again = 0
    interrupted = 0
    different_words = 0

    def __init__(self, folders: Sequence[str], limit: int | None = None):
        self.folders = tuple(folders)
        self.limit = limit
        self.index = Index()
        self.diary = Diary(self.index)
        self.paths = IOBTree()

    @property
    def settings(self) -> tuple:
        """What the index is of."""
        return self.folders, self.limit

    @property
    def done(self) -> int:
        """How many files have been dealt with."""
        return self.index.indexed + self.index.failed

    def start(self, queue: Any) -> None:
        """Put the first job.  Does not commit."""
        self.started = datetime.datetime.now(datetime.UTC)
        if QUOTA not in queue.quotas:
            queue.quotas.create(QUOTA, size=1)
        # Who comes back after a day goes on, too: no job is ever too old to begin.
        queue.default_begin_by = None
        job = queue.put(self.plan)
        job.addCallbacks(success=self.report, failure=self.give_up)
        self.diary.schedule(queue)

    # Jobs.

    def plan(self) -> None:
        """Number the files, and start the first batches."""
        found = [path for folder in self.folders for path in text_files(folder)]
        self.paths.update(dict(enumerate(found[: self.limit])))
        self.planned = len(self.paths)
        size = self.planned // 40
        self.batch_size = min(max(size, SMALLEST_BATCH), LARGEST_BATCH)
        for _ in range(BATCHES_AT_ONCE):
            self._start_next_batch()

    def _start_next_batch(self) -> None:
        first = self.next_number
        self.next_number = min(first + self.batch_size, self.planned or 0)
        self._start_batch(range(first, self.next_number))

    def _start_batch(self, numbers: Sequence[int], round_: int = 0) -> None:
        if numbers:
            reads = [read_job(self.paths[number]) for number in numbers]
            update = self._update_job(tuple(numbers), round_)
            local.getQueue().put(parallel(*reads, postprocess=update))

    def _update_job(self, numbers: tuple[int, ...], round_: int, *reads: Job) -> Job:
        """A job that adds a batch; `parallel` appends the jobs that have read it."""
        job = Job(self.update, numbers, round_, *reads)
        job.quota_names = (QUOTA,)
        job.addCallbacks(success=self.report, failure=Job(self.put_again, job))
        return job

    def update(self, numbers: tuple[int, ...], round_: int, *reads: Job) -> None:
        """Add a batch to the index, and start the next."""
        texts, given_up = {}, []
        for number, job in zip(numbers, reads, strict=True):
            self.interrupted += job.interruptions
            self.read_again += max(job.attempts - job.interruptions - 1, 0)
            path, result = self.paths[number], job.result
            if not IFailure.providedBy(result):
                texts[number] = path, result
            elif result.check(AbortedError) and round_ < MOST_ROUNDS:
                given_up.append(number)
            else:
                self.index.fail(number, path, reason_of(result))
        self.index.add(texts)
        self._start_batch(given_up, round_ + 1)
        self._start_next_batch()

    # Callbacks.

    def report(self, result: object) -> None:
        """Something is done.  If it was the last, the build is finished."""
        if self.done == self.planned and self.finished is None:
            self.finished = datetime.datetime.now(datetime.UTC)
            self.different_words = sum(1 for word in self.index.words())
            self.diary.close(local.getQueue())
            log.info(
                "index of %s is complete: %d files, %d failures",
                ", ".join(self.folders), self.index.indexed, self.index.failed,
            )  # fmt: skip

    def put_again(self, update: Job, failure: Any) -> None:
        """An update failed: put it again if that is because processes died."""
        numbers, round_, *reads = update.args
        if failure.check(AbortedError) and round_ < MOST_ROUNDS:
            local.getQueue().put(self._update_job(numbers, round_ + 1, *reads))
        else:
            self.give_up(failure)

    def give_up(self, failure: Any) -> None:
        """Something failed without which there will be no index."""
        self.trouble = reason_of(failure)
        self.diary.close(local.getQueue())


def reason_of(failure: Any) -> str:
    """Why something failed, in one line without the path."""
    error = failure.value
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(failure.getErrorMessage().split())
