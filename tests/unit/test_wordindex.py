# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The parts of the example `wordindex` that need no database and no jobs."""

import io
import os
import signal
import time

import pytest

from examples.wordindex import texts, trouble
from examples.wordindex.build import Build
from examples.wordindex.diary import Diary, Entry
from examples.wordindex.folder import printable, relative, text_files
from examples.wordindex.index import Index, Text
from examples.wordindex.options import parse
from examples.wordindex.place import Place, default_place
from examples.wordindex.progress import (
    Display,
    Figures,
    live_line,
    plain_line,
    short_call,
)
from examples.wordindex.searching import found
from examples.wordindex.summary import MOST_FAILURES, sparkline, summary
from examples.wordindex.working import Stopping

LONG_AGO = 1_000_000_000


def write(path, content, changed=LONG_AGO):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (changed, changed))
    return str(path)


# Words


def test_words_are_runs_of_letters_in_lower_case():
    counted = texts.words_of("Queue.put_later(queue2, 'PUT')")
    assert counted == {"queue": 2, "put": 2, "later": 1}


def test_words_of_one_letter_and_of_more_than_forty_are_left_out():
    longest = "a" * texts.LONGEST_WORD
    assert texts.words_of(f"x {longest} {longest}a") == {longest: 1}


def test_composed_and_decomposed_letters_are_the_same_word():
    assert texts.words_of("caf\u00e9 cafe\u0301 CAF\u00c9") == {"caf\u00e9": 3}


# Encodings


@pytest.mark.parametrize(
    "data",
    [
        "na\u00efve".encode(),
        "na\u00efve".encode("utf-8-sig"),
        "na\u00efve".encode("utf-16"),
        "# -*- coding: latin-1 -*-\nna\u00efve".encode("latin-1"),
        "#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\nna\u00efve".encode(
            "cp1252"
        ),
    ],
)
def test_a_text_is_decoded_as_it_declares(data):
    assert texts.decode(data).endswith("na\u00efve")


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"PK\0\0", "binary: a zero at byte 2"),
        (b"one\ntwo \xe9\n", "not utf-8: byte 0xe9 in line 2"),
        (b"# coding: klingon\n", "declared encoding: unknown encoding: klingon"),
        (b"# coding: base64\n", "declared encoding: 'base64' is not a text encoding"),
        ("caf\u00e9".encode("utf-16")[:-1], "not utf-16: byte 0xe9 in line 1"),
    ],
)
def test_what_is_no_text_is_refused_with_the_reason(data, reason):
    with pytest.raises(texts.UnreadableTextError, match=reason):
        texts.decode(data)


def test_a_declaration_below_the_second_line_does_not_count():
    assert texts.encoding_of(b"\n\n# coding: latin-1") == "utf-8"


# Reading


def test_a_file_at_rest_is_read(tmp_path):
    assert texts.read_bytes(write(tmp_path / "a.txt", b"words")) == b"words"


def test_a_file_that_was_written_just_now_is_still_changing(tmp_path, monkeypatch):
    path = write(tmp_path / "a.txt", b"words")
    monkeypatch.setattr(time, "time", lambda: LONG_AGO + texts.AT_REST / 2)
    with pytest.raises(texts.StillChangingError):
        texts.read_bytes(path)


def test_a_file_dated_in_the_future_is_read(tmp_path):
    path = write(tmp_path / "a.txt", b"words", changed=time.time() + 3600)
    assert texts.read_bytes(path) == b"words"


def test_a_file_that_is_too_long_is_refused_unread(tmp_path):
    path = tmp_path / "a.txt"
    write(path, b"")
    os.truncate(path, texts.LONGEST_FILE + 1)
    os.utime(path, (LONG_AGO, LONG_AGO))
    with pytest.raises(texts.UnreadableTextError, match="too long: 8,000,001 bytes"):
        texts.read_bytes(str(path))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(texts.UnreadableTextError, match="not a file"):
        texts.read_bytes(str(tmp_path / "a.txt"))


def test_a_file_that_is_not_there_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        texts.read_bytes(str(tmp_path / "a.txt"))


# Folders


def test_texts_are_found_by_suffix_or_name(tmp_path):
    for name in ("a.py", "b/README", "b/c.TXT", "d.so", "e", ".f/g.py", "h.pyc"):
        write(tmp_path / name, b"")
    write(tmp_path / "__pycache__" / "i.py", b"")
    names = [relative(path, [str(tmp_path)]) for path in text_files(str(tmp_path))]
    assert names == ["a.py", "b/README", "b/c.TXT"]


def test_a_link_to_nowhere_is_among_the_files(tmp_path):
    os.symlink("nowhere", tmp_path / "a.txt")
    assert text_files(str(tmp_path)) == [str(tmp_path / "a.txt")]


def test_a_folder_below_that_cannot_be_listed_is_among_the_files(tmp_path, monkeypatch):
    write(tmp_path / "locked" / "a.txt", b"")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert text_files(str(tmp_path)) == [str(tmp_path / "locked")]


def test_a_folder_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        text_files(str(tmp_path / "gone"))


def test_any_path_can_be_printed():
    assert printable(os.fsdecode(b"caf\xe9\n")) == "caf\\udce9\\x0a"


# The index


def text(content):
    return Text(
        texts.digest_of(content.encode()), len(content), texts.words_of(content)
    )


def index_of(*contents, batch=100):
    index = Index()
    numbered = {n: (f"/{n}", text(each)) for n, each in enumerate(contents)}
    for start in range(0, len(contents), batch):
        numbers = list(numbered)[start : start + batch]
        index.add({number: numbered[number] for number in numbers})
    return index


def test_documents_with_all_words_are_found_the_best_first():
    index = index_of("red green", "red red green", "red", "green green blue red")
    hits = [(hit.path, hit.times) for hit in index.find("Red green")]
    assert hits == [("/1", 3), ("/3", 3), ("/0", 2)]


@pytest.mark.parametrize("query", ["yellow", "red yellow", "", "!"])
def test_a_query_that_nothing_fits_finds_nothing(query):
    assert index_of("red", "green").find(query) == []


def test_a_word_is_found_in_documents_of_all_batches():
    index = index_of(*["common"] * 23, batch=5)
    assert len(index.find("common")) == 23


def test_the_content_does_not_depend_on_batches_or_numbers():
    contents = [f"common word{'x' * n} rare" for n in range(20)]
    one, other = index_of(*contents), index_of(*contents, batch=3)
    assert list(one.dump()) == list(other.dump())


def test_dumps_of_different_contents_differ():
    assert list(index_of("red red").dump()) != list(index_of("red").dump())


def test_a_document_is_not_added_twice():
    index = index_of("red")
    with pytest.raises(ValueError, match="document 0 a second time"):
        index.add({0: ("/0", text("red"))})
    with pytest.raises(ValueError, match="document 0 a second time"):
        index.fail(0, "/0", "gone")


def test_words_are_counted():
    index = index_of("red red green", "green")
    assert (index.indexed, index.all_words, index.bytes) == (2, 4, 18)


def test_words_are_listed_in_order_and_once():
    index = index_of("job key", "jobs key", batch=1)
    assert list(index.words()) == ["job", "jobs", "key"]


def test_words_with_a_prefix_are_listed():
    index = index_of("jam job jobs joke key")
    assert list(index.words("job")) == ["job", "jobs"]
    assert list(index.words("k")) == ["key"]
    assert list(index.words("z")) == []


# What people see


class Finished:
    folders = ("/",)
    index = None


def test_an_answer_names_files_and_counts():
    build = Finished()
    build.index = index_of("red red", "red")
    assert list(found(build, "red")) == [
        "'red': 2 files", "       2  /0", "       1  /1"
    ]  # fmt: skip


def test_words_that_begin_alike_are_offered_when_nothing_is_found():
    build = Finished()
    build.index = index_of("connect connection")
    answer = list(found(build, "connexion"))
    assert answer == ["'connexion': 0 files", "  there are: connect, connection"]


def test_a_line_of_progress_has_counts_and_a_bar():
    figures = Figures(planned=200, indexed=99, failed=1, read_again=2, waiting=7)
    line = live_line(figures, 12.3, "read('/a')")
    assert line.startswith(
        "[############            ]  50%  100 of 200 files, 1 failed"
    )
    assert line.endswith("2 read again, 7 jobs waiting  12 s  read('/a')")


def test_progress_of_no_files_is_complete():
    assert "100%" in live_line(Figures(planned=0), 1, "")


def test_progress_begins_before_the_files_are_known():
    assert plain_line(Figures(), 3) == "    3 s  looking for files"


def test_plain_lines_are_printed_now_and_then_only():
    stream = io.StringIO()
    display = Display(stream)
    for _ in range(5):
        display.show(Figures(planned=1))
    assert stream.getvalue().count("\n") == 1


def test_a_quiet_display_prints_nothing():
    stream = io.StringIO()
    display = Display(stream, quiet=True)
    display.show(Figures(planned=1))
    display.say("words")
    assert stream.getvalue() == ""


def test_a_live_line_covers_the_one_before():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    display = Display(stream)
    display.show(Figures(planned=1), "a long call of a job")
    display.show(Figures(planned=1))
    first, second = stream.getvalue().split("\r")[1:]
    assert len(second) == len(first)


def test_a_call_is_shown_without_the_job_around_it():
    call = "examples.wordindex.build.read('/texts/a')"
    job = f"<zc.async.job.Job (oid 1, db 'x') ``{call}``>"
    assert short_call(job, ["/texts"]) == "build.read('a')"


def test_failures_are_listed_up_to_a_limit():
    build = Build(["/texts"])
    for number in range(MOST_FAILURES + 2):
        build.index.fail(number, f"/texts/{number:02}", "no text")
    lines = list(summary(build, 0))
    assert lines[-MOST_FAILURES - 2] == "Not indexed:"
    assert lines[-MOST_FAILURES - 1] == "  00: no text"
    assert lines[-1] == "  and 2 more"


def diary_of(*entries):
    diary = Diary(None)
    diary.entries.update(dict(enumerate(Entry(*entry) for entry in entries)))
    return diary


def test_the_time_between_sessions_does_not_count():
    diary = diary_of((1, 0.0, 0), (1, 2.0, 10), (2, 1000.0, 15), (2, 1001.0, 25))
    assert diary.seconds() == 3
    assert diary.rates() == [5, 10]
    assert diary.rate() == pytest.approx(20 / 3)


def test_a_build_of_no_time_has_a_rate():
    assert diary_of((1, 5.0, 0)).rate() == 0


def test_rates_are_drawn_relative_to_the_highest():
    assert sparkline([0, 5, 10]) == " =@"
    assert sparkline([]) == ""
    assert len(sparkline([1.0] * 1000)) <= 48


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_waiting_and_gives_the_exit_status(number):
    before = signal.getsignal(number)
    with Stopping() as stopping:
        assert not stopping.wait(0)
        signal.raise_signal(number)
        assert stopping.wait(30)
    assert stopping.status == 128 + number
    assert signal.getsignal(number) is before


def test_a_second_signal_ends_the_process_at_once(monkeypatch):
    ends = []
    monkeypatch.setattr(os, "_exit", ends.append)
    with Stopping():
        signal.raise_signal(signal.SIGINT)
        assert not ends
        signal.raise_signal(signal.SIGINT)
    assert ends == [130]


# Trouble


def test_the_files_that_make_trouble_do_so(tmp_path):
    trouble.plant(str(tmp_path))
    for name in trouble.BAD_FILES:
        path = write(tmp_path / name, (tmp_path / name).read_bytes())
        with pytest.raises(texts.UnreadableTextError):
            texts.decode(texts.read_bytes(path))
    with pytest.raises(FileNotFoundError):
        texts.read_bytes(str(tmp_path / trouble.LINK_TO_NOWHERE))
    trouble.remove(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_a_writer_that_was_stopped_is_continued_by_the_next(tmp_path, monkeypatch):
    path = tmp_path / trouble.BEING_WRITTEN
    monkeypatch.setattr(trouble, "PAUSE", 0)
    trouble.plant(str(tmp_path))
    path.write_bytes(b"Another pro")  # it was killed
    writer = trouble.Writer(str(tmp_path))
    writer.start()
    writer.join(30)
    counted = texts.words_of(path.read_text())
    assert counted["program"] == counted["again"] == trouble.LINES


# Arguments and the data folder


def test_the_agent_holds_four_jobs_for_each_thread():
    options = parse(["--threads", "3"])
    assert (options.threads, options.size) == (3, 12)


def test_the_agent_never_holds_fewer_jobs_than_it_has_threads():
    assert parse(["--threads", "3", "--size", "1"]).size == 3


@pytest.mark.parametrize("bad", [["--threads", "0"], ["/no/such"], ["--limit", "x"]])
def test_bad_arguments_end_with_status_two(bad, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(bad)
    assert caught.value.code == 2
    assert capsys.readouterr().err


def test_the_data_folder_is_named_after_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folders = {
        default_place("/some/texts"),
        default_place("/some/texts", 10),
        default_place("/other/texts"),
        default_place("/"),
    }
    assert len(folders) == 4
    assert default_place("/some/texts").startswith(
        f"{tmp_path}/zc.async-wordindex/texts-"
    )


def test_without_a_home_the_data_folder_is_a_temporary_one(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/no/such/home")
    monkeypatch.setenv("TMPDIR", "/some/tmp")
    assert "/no/such/home" not in default_place("/some/texts")


def test_clearing_leaves_what_others_keep_in_the_folder(tmp_path):
    write(tmp_path / "wordindex.fs", b"")
    write(tmp_path / "letters.txt", b"")
    Place(str(tmp_path)).clear()
    assert os.listdir(tmp_path) == ["letters.txt"]
