# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The example `wordindex`: as a program, and its jobs one by one."""

import datetime
import os
import pty
import subprocess
import threading
from contextlib import suppress

import pytest
import transaction

from examples.wordindex.build import MOST_ROUNDS, Build
from examples.wordindex.texts import words_of
from tests.wordindexing import (
    BAD_FILES,
    command,
    dump,
    ended,
    environment,
    looking,
    make_folder,
    run,
    spawn,
    wait_until,
    write,
)
from zc.async_ import testing
from zc.async_.interfaces import AbortedError

COUNT = 40


class Appending:
    """Writes to a file all the time, until it is stopped."""

    def __init__(self, path):
        self.path = path
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.work)

    def work(self):
        while not self.stopping.wait(0.01):
            with open(self.path, "ab") as file:
                file.write(b"growing ")

    def __enter__(self):
        self.path.write_bytes(b"growing ")
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stopping.set()
        self.thread.join(10)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An index, built by the program while one of the files was being written."""
    folder = make_folder(tmp_path_factory.mktemp("texts"), COUNT)
    data = tmp_path_factory.mktemp("data")
    with Appending(folder / "growing.txt") as appending:
        process = spawn(folder, "--data", data, "--search", "growing")
        with ended(process):
            wait_until(lambda: len(entries(data)) > 1)  # there was a snapshot
            appending.stopping.set()
            output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return folder, data, output


def entries(data):
    """What the diary says, as soon as there is one; while the program works, too."""
    with suppress(FileNotFoundError, KeyError), looking(data) as root:
        return list(root["wordindex"].diary.entries.values())
    return []


def expected(folder, word):
    """How often the files of `folder` have `word`, found without an index."""
    counts = {}
    for path in folder.rglob("part*/*.txt"):
        count = words_of(path.read_text()).get(word)
        if count:
            counts[str(path)] = count
    return counts


# The program


def test_the_index_has_the_words_of_all_files(built):
    folder, data, _ = built
    with looking(data) as root:
        index = root["wordindex"].index
        assert index.indexed == COUNT + 1
        words = [word for word in index.words() if word != "growing"]
        for word in words[::40]:
            found = {hit.path: hit.times for hit in index.find(word)}
            assert found == expected(folder, word)
        assert len(words) > 400


def test_files_that_cannot_be_read_are_failures_with_a_reason(built):
    folder, data, output = built
    with looking(data) as root:
        failures = dict(root["wordindex"].index.failures.values())
    assert len(failures) == len(BAD_FILES)
    for name, (_, reason) in BAD_FILES.items():
        assert failures[str(folder / name)].startswith(reason)
        assert f"  {name}: {reason}" in output


def test_a_file_that_is_being_written_is_read_again(built):
    folder, data, output = built
    with looking(data) as root:
        build = root["wordindex"]
        assert build.read_again > 0
        (hit,) = build.index.find("growing")
    assert hit.times == (folder / "growing.txt").read_text().count("growing")
    assert f"{hit.times}  growing.txt" in output


def test_the_summary_has_the_figures(built):
    _, data, output = built
    with looking(data) as root:
        build = root["wordindex"]
        words = f"{build.index.all_words:,}, {build.different_words:,} different ones"
    assert f"Indexed {COUNT + 1} files of " in output
    assert words in output
    assert f"{len(BAD_FILES)} files" in output


def test_progress_is_noted_by_a_scheduled_job(built):
    _, data, _ = built
    noted = entries(data)
    assert len(noted) >= 3  # the beginning, snapshots, and the end
    assert noted[-1].done == COUNT + 1 + len(BAD_FILES)


def test_nothing_is_left_to_do(built):
    _, data, _ = built
    assert dump(data)


def test_a_finished_index_is_only_searched(built):
    folder, data, _ = built
    changed = os.stat(data / "wordindex.fs").st_mtime_ns
    output = run(folder, "--data", data, "--quiet", "--search", "zebra giraffe")
    assert output == "'zebra giraffe': 0 files\n"
    assert os.stat(data / "wordindex.fs").st_mtime_ns == changed


def test_the_data_folder_says_what_the_index_is_of(built):
    _, data, _ = built
    output = run("--data", data, "--quiet", "--search", "growing")
    assert output.startswith("'growing': 1 file\n")


def test_the_index_of_another_folder_is_not_taken_for_this_one(built, tmp_path):
    _, data, _ = built
    output = run(tmp_path, "--data", data, status=2)
    assert "start over with --again" in output


def test_starting_over_forgets_what_there_is(tmp_path):
    write(tmp_path / "texts" / "a.txt", b"first")
    run(tmp_path / "texts", "--data", tmp_path / "data")
    write(tmp_path / "texts" / "a.txt", b"second")
    arguments = [tmp_path / "texts", "--data", tmp_path / "data", "--quiet"]
    search = ["--search", "first", "--search", "second"]
    assert run(*arguments, *search).startswith("'first': 1 file\n")
    output = run(*arguments, *search, "--again")
    assert output.startswith("'first': 0 files\n")
    assert "'second': 1 file\n" in output


def test_a_folder_without_texts_gives_an_empty_index(tmp_path):
    (tmp_path / "texts").mkdir()
    output = run(tmp_path / "texts", "--data", tmp_path / "data", "--search", "word")
    assert "Indexed 0 files" in output
    assert "'word': 0 files" in output


def test_only_the_first_files_are_indexed_on_request(tmp_path):
    folder = make_folder(tmp_path / "texts", 20)
    output = run(folder, "--data", tmp_path / "data", "--limit", 7)
    assert "Indexed 3 files" in output  # after four bad ones, in their order


def test_on_a_terminal_there_is_live_progress_and_a_prompt(tmp_path):
    folder = make_folder(tmp_path / "texts", 10)
    write(folder / "a.txt", b"needle")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(folder, "--data", tmp_path / "data"),
        env={**environment(), "TERM": "dumb", "COLUMNS": "100"},
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    output = b""
    with ended(process, seconds=60):
        while b"search> " not in output:
            output += os.read(ours, 10000)
        os.write(ours, b"needle\n")
        while output.count(b"search> ") < 2:
            output += os.read(ours, 10000)
        os.write(ours, b"\n")
        assert process.wait(30) == 0
    os.close(ours)
    text = output.decode()
    assert "\r[" in text or "\rlooking for files" in text
    assert "'needle': 1 file\r\n       1  a.txt\r\n" in text


def test_two_processes_do_not_work_with_one_data_folder(tmp_path):
    folder = make_folder(tmp_path / "texts", 3)
    with Appending(folder / "growing.txt"):
        # It cannot end as long as the file grows.
        process = spawn(folder, "--data", tmp_path / "data")
        with ended(process):
            assert process.stdout.readline().startswith("Indexing")
            output = run(folder, "--data", tmp_path / "data", status=2)
    assert "another process works with" in output


# The jobs


@pytest.fixture
def fixture():
    with testing.environment() as fixture:
        yield fixture


def start(fixture, folder):
    build = fixture.root["wordindex"] = Build([str(folder)])
    build.diary.begin_session()
    build.start(fixture.queue)
    transaction.commit()
    return build


def later():
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1)


def updates(fixture):
    return [job for job in fixture.queue if job.quota_names]


def test_the_jobs_build_the_index(fixture, tmp_path):
    build = start(fixture, make_folder(tmp_path / "texts", COUNT))
    testing.perform_due(fixture.queue)
    assert build.finished
    assert (build.index.indexed, build.index.failed) == (COUNT, len(BAD_FILES))


def test_only_some_batches_are_in_the_queue_at_once(fixture, tmp_path):
    start(fixture, make_folder(tmp_path / "texts", 120))
    testing.perform_due(fixture.queue, limit=1)
    assert len(fixture.queue) == 5  # four batches, and a snapshot


def test_the_snapshot_is_called_off_at_the_end(fixture, tmp_path):
    start(fixture, make_folder(tmp_path / "texts", 3))
    testing.perform_due(fixture.queue)
    assert len(fixture.queue) == 0


def test_the_snapshot_puts_itself_into_the_queue_again(fixture, tmp_path):
    build = start(fixture, tmp_path)
    fixture.queue.pull(0)  # the planning
    testing.perform_due(fixture.queue, later(), limit=1)
    (snapshot,) = fixture.queue
    assert snapshot.callable == build.diary.snapshot
    assert len(build.diary.entries) == 2


def test_a_folder_that_vanished_ends_the_build_with_the_reason(fixture, tmp_path):
    build = start(fixture, tmp_path / "gone")
    testing.perform_due(fixture.queue)
    assert "No such file or directory" in build.trouble
    assert not build.finished
    assert len(fixture.queue) == 0


def test_jobs_never_become_too_old_to_begin(fixture, tmp_path):
    build = start(fixture, make_folder(tmp_path / "texts", 3))
    in_a_year = later() + datetime.timedelta(days=365)
    testing.perform_due(fixture.queue, in_a_year, limit=100)
    assert build.finished


def until_update(fixture):
    """Perform jobs until the first update waits in the queue; return it."""
    for _ in range(1000):
        if updates(fixture):
            return updates(fixture)[0]
        assert testing.perform_due(fixture.queue, limit=1)


def test_an_update_that_was_given_up_for_dead_processes_is_put_again(fixture, tmp_path):
    build = start(fixture, make_folder(tmp_path / "texts", COUNT))
    for _ in range(MOST_ROUNDS):
        until_update(fixture).fail(AbortedError("the process died"))
    testing.perform_due(fixture.queue)
    assert build.finished
    assert build.done == COUNT + len(BAD_FILES)


def test_an_update_that_is_given_up_again_and_again_ends_the_build(fixture, tmp_path):
    build = start(fixture, make_folder(tmp_path / "texts", 5))
    for _ in range(MOST_ROUNDS + 1):
        until_update(fixture).fail(AbortedError("the process died"))
    testing.perform_due(fixture.queue)
    assert build.trouble == "the process died"
    assert not build.finished


def test_a_reading_that_was_given_up_for_dead_processes_is_put_again(fixture, tmp_path):
    build = start(fixture, make_folder(tmp_path / "texts", 5))
    while not any(job.failure_log_level for job in fixture.queue):
        assert testing.perform_due(fixture.queue, limit=1)
    reading = next(job for job in fixture.queue if job.failure_log_level)
    path = reading.args[0]
    reading.fail(AbortedError("the process died"))
    testing.perform_due(fixture.queue)
    assert build.finished
    failures = dict(build.index.failures.values())
    assert "the process died" not in failures.values()
    assert build.done == 5 + len(BAD_FILES), path
