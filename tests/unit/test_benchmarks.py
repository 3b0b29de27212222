# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The benchmarks count, compare and report as they say, in runs that are tiny."""

import argparse
import gc
import json
import os
import threading
import types

import pytest
import transaction

from benchmarks import (
    __main__,
    backlog,
    ceiling,
    contention,
    drain,
    idle,
    journal,
    latency,
    measure,
    memory,
    put,
    report,
    rounds,
    runner,
    storages,
)
from benchmarks.plan import AtLeast, AtMost, Case, Figure

# Arithmetic


def test_percentile_is_one_of_the_values():
    values = list(range(1, 101))
    assert measure.percentile(values, 50) == 50
    assert measure.percentile(values, 99) == 99
    assert measure.percentile(values, 100) == 100
    assert measure.percentile(values, 0) == 1


def test_percentile_of_few_values_does_not_hide_the_worst():
    assert measure.percentile([3, 1, 2], 99) == 3
    assert measure.percentile([7], 50) == 7


def test_percentile_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="found no values"):
        measure.percentile([], 50)


def test_wait_until_returns_when_the_condition_holds():
    answers = iter([False, False, True])
    measure.wait_until(lambda: next(answers), "the third answer", interval=0)
    assert list(answers) == []


def test_wait_until_names_what_did_not_happen():
    with pytest.raises(TimeoutError, match="for the moon"):
        measure.wait_until(lambda: False, "the moon", timeout=0.01)


def test_functions_in_threads_run_at_the_same_time():
    meeting = threading.Barrier(3)
    elapsed = measure.in_threads([lambda: meeting.wait(10)] * 3)
    assert 0 < elapsed < 10


def test_error_in_a_thread_is_raised_by_the_caller():
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure.in_threads([fail, lambda: None])


# Bars


def test_bars_compare_the_median():
    assert AtMost(3000).met(3000, None)
    assert not AtMost(3000).met(3001, None)
    assert AtLeast(2).met(2, None)
    assert not AtLeast(2).met(1.9, None)


def test_bars_of_the_ceiling_compare_the_share():
    bar = AtLeast(0.45, aim=0.60, of_ceiling=True)
    assert bar.met(1, 0.5)
    assert not bar.met(1000, 0.44)
    assert bar.aim_met(1, 0.5) is False
    assert bar.aim_met(1, 0.6) is True
    assert str(bar) == ">= 45%, aim 60%"


def test_bar_without_an_aim_has_no_verdict_about_it():
    assert AtMost(1.5).aim_met(1, None) is None
    assert str(AtMost(1.5)) == "<= 1.5"


# Counting


@pytest.fixture
def store(tmp_path):
    with storages.maker("filestorage", str(tmp_path))() as store:
        yield store


@pytest.fixture
def db(store):
    db = store.open()
    yield db
    db.close()


def change(db, times, objects=1):
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    for _ in range(times):
        for number in range(objects):
            connection.root()[number] = ceiling.Small()
        manager.commit()
    connection.close()


def test_count_agrees_with_the_growth_of_the_file(store, db):
    before, size = db.lastTransaction(), store.size(db)
    change(db, times=5, objects=3)
    count = store.count(db, before, db.lastTransaction())
    assert count.transactions == 5
    assert count.records == 5 * (1 + 3)
    assert count.bytes == store.size(db) - size


def test_count_begins_after_the_one_and_ends_with_the_other(store, db):
    change(db, times=2)
    after = db.lastTransaction()
    change(db, times=3)
    until = db.lastTransaction()
    change(db, times=4)
    assert store.count(db, after, until).transactions == 3


def test_count_tells_records_and_bytes_of_each_class(store, db):
    before = db.lastTransaction()
    change(db, times=2, objects=3)
    count = store.count(db, before, db.lastTransaction())
    assert count.records_of == {
        "benchmarks.ceiling.Small": 6,
        "persistent.mapping.PersistentMapping": 2,
    }
    of_transactions = 2 * journal.TRANSACTION_BYTES
    assert sum(count.bytes_of.values()) == count.bytes - of_transactions


def test_counts_add_up_and_divide(store, db):
    first = db.lastTransaction()
    change(db, times=2)
    middle = db.lastTransaction()
    change(db, times=2)
    last = db.lastTransaction()
    whole = store.count(db, first, last)
    assert store.count(db, first, middle) + store.count(db, middle, last) == whole
    assert whole.per(4)["transactions"] == 1
    assert whole.per(4)["records by class"]["benchmarks.ceiling.Small"] == 1


def test_store_leaves_nothing_behind(tmp_path):
    with storages.maker("filestorage", str(tmp_path))() as store:
        store.open().close()
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


# Reports

FIGURE = Figure(
    "rate", "things", "things/s", AtLeast(0.5, of_ceiling=True), ceiling=4, seed="7"
)


def row(figure=FIGURE, values=(100, 200, 400), ceilings=(200, 200, 1000)):
    trials = [
        {"ceilings": {1: 2 * rate, 4: rate}, "figures": {"rate": value}}
        for value, rate in zip(values, ceilings, strict=True)
    ]
    return report.Row.of(figure, trials)


def test_share_is_the_median_of_the_shares_of_each_trial():
    made = row()
    assert made.median == 200
    assert made.shares == (0.5, 1.0, 0.4)
    assert made.share == 0.5
    assert made.met is True


def test_row_without_a_bar_has_no_verdict():
    made = row(Figure("rate", "things", "things/s"))
    assert made.share is None
    assert made.met is None


def test_result_is_met_when_no_bar_is_missed():
    good, missed = row(), row(values=(1, 1, 1))
    neutral = row(Figure("rate", "things", ""))
    assert report.Result("x", "filestorage", [good, neutral]).met
    assert not report.Result("x", "filestorage", [good, missed]).met


def test_table_shows_figure_share_bar_verdict_and_the_seed():
    text = report.table(report.Result("x", "filestorage", [row()]))
    title, _, headings, _, line, _ = text.splitlines()
    assert title.startswith("x on filestorage; ceiling, commits/s: 400 with 1 thread,")
    assert headings.split("  ")[0] == "figure"
    assert line.split() == "things 200 things/s 50.0% >= 50% yes 7".split()


def test_table_says_no_when_a_bar_is_missed():
    text = report.table(report.Result("x", "filestorage", [row(values=(1, 1, 1))]))
    assert " NO " in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (4637.4, "4,637"), (12.345, "12.35"), (2.6987, "2.699"), (8.0, "8")],
)
def test_numbers_have_the_digits_that_matter(value, text):
    assert report.number(value) == text


def test_document_is_json_with_all_values():
    made = report.Result("x", "filestorage", [row()], [{"arguments": {}}])
    found = json.loads(report.as_json([made]))
    assert set(found) == {"environment", "met", "skipped", "benchmarks"}
    [benchmark] = found["benchmarks"]
    assert benchmark["ceilings"] == {"1": 400, "4": 200}
    assert benchmark["details"] == [{"arguments": {}}]
    [figure] = benchmark["figures"]
    assert figure["values"] == [100, 200, 400]
    assert figure["share_of_ceiling"] == 0.5
    assert figure["met"] is True
    assert figure["zc.async 1.5.4"] == "7"


# The command line


@pytest.mark.parametrize("name", __main__.SCRIPTS)
def test_each_script_takes_the_common_options(name):
    options = __main__.parser([name]).parse_args(
        [name, "--json", "--jobs", "7", "--repeat", "2", "--storage", "filestorage"]
    )
    assert (options.names, options.json) == ([name], True)
    cases = __main__.SCRIPTS[name].cases(options)
    assert cases
    if name != "idle":
        assert all(7 in case.arguments.values() for case in cases)


@pytest.mark.parametrize("name", __main__.SCRIPTS)
def test_each_script_says_in_one_line_what_it_measures(name):
    assert 10 < len(__main__.summary(__main__.SCRIPTS[name])) <= 88
    assert name in __main__.parser().format_help()


def test_without_a_name_all_are_meant():
    options = __main__.parser().parse_args([])
    assert options.names == []
    for name in __main__.SCRIPTS:
        kinds = __main__.storages_of(__main__.SCRIPTS[name], options)
        every = ["filestorage", "zeo", "postgresql"]
        assert list(kinds) == (every if name == "rounds" else every[:1])


def test_a_storage_that_is_missing_is_skipped_with_the_reason(
    quick, monkeypatch, capsys
):
    monkeypatch.setattr(storages.PostgresStore, "missing", lambda: "no elephants")
    status = __main__.main(["ceiling", "--json", "--storage", "postgresql"])
    output = capsys.readouterr()
    assert status == 0
    assert output.err == "ceiling on postgresql: skipped, no elephants\n"
    [skipped] = json.loads(output.out)["skipped"]
    assert skipped == {
        "name": "ceiling", "storage": "postgresql", "reason": "no elephants",
    }  # fmt: skip


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["put", "--jobs", "0"], ["put", "--storage", "tape"]]
)
def test_bad_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        __main__.parser(["put"]).parse_args(arguments)
    assert "error: argument" in capsys.readouterr().err


def test_agents_of_other_sizes_can_be_drained():
    options = __main__.parser(["drain"]).parse_args(
        ["drain", "--size", "64", "--threads", "2"]
    )
    [case] = drain.cases(options)
    assert case.arguments["size"], case.arguments["threads"] == (64, 2)
    assert case.figures[0].bar is None


# Trials


def trial(make_store):
    """A benchmark's trial, of this very module."""
    return {"one": 1}


@pytest.fixture
def quick(monkeypatch):
    """Short ceilings and warm-ups."""
    monkeypatch.setattr(ceiling, "BESIDE", 8)
    for module in (ceiling, put, drain, latency, backlog, idle, rounds):
        monkeypatch.setattr(module, "WARM_UP", 4)
    yield
    gc.unfreeze()


def test_every_case_is_repeated_beside_ceilings_of_its_own(quick):
    cases = [Case((Figure("one", "one", "", AtMost(1)),))] * 2
    script = types.SimpleNamespace(
        __name__=__name__, REPEAT=1, cases=lambda options: cases
    )
    options = argparse.Namespace(folder=None, repeat=2, same_process=True)
    result = runner.run("x", script, options, "filestorage")
    assert [row.values for row in result.rows] == [(1, 1), (1, 1)]
    ceilings = [rates[1] for row in result.rows for rates in row.ceilings]
    assert len(set(ceilings)) == 4
    assert result.met


def test_trials_have_processes_of_their_own():
    assert runner.call_in_child(os.getpid) != os.getpid()


def test_error_in_the_process_of_a_trial_is_raised_here():
    with pytest.raises(ValueError, match="invalid literal"):
        runner.call_in_child(int, "x")


def run(capsys, *arguments):
    """The only benchmark in the JSON that a tiny run prints."""
    common = ["--json", "--same-process", "--repeat", "1", "--storage", "filestorage"]
    status = __main__.main([*arguments, *common])
    found = json.loads(capsys.readouterr().out)
    assert status == (0 if found["met"] else 1)
    [benchmark] = found["benchmarks"]
    assert set(benchmark["ceilings"]) == {"1", "4"}
    return benchmark


def medians(benchmark):
    return {figure["key"]: figure["median"] for figure in benchmark["figures"]}


@pytest.fixture
def tiny(quick, monkeypatch):
    """What makes whole scripts end in parts of a second."""
    monkeypatch.setattr(backlog, "FEW", 20)
    monkeypatch.setattr(backlog, "CLAIMS", 5)
    monkeypatch.setattr(contention, "OPEN", 0.002)
    monkeypatch.setattr(latency, "PAUSE", (0, 0))
    monkeypatch.setattr(latency, "AHEAD", 0.05)
    monkeypatch.setattr(latency, "SPACING", 0.002)
    monkeypatch.setattr(memory, "AT_ONCE", 10)
    monkeypatch.setattr(rounds, "SECONDS", 0.011)
    monkeypatch.setattr(rounds, "LONG", 5)
    monkeypatch.setattr(rounds, "IDLE", 6)
    monkeypatch.setattr(rounds, "TURNS", 1)


def test_ceiling(tiny, capsys):
    found = medians(run(capsys, "ceiling", "--jobs", "8"))
    assert found["commits_1"] > 0
    assert found["commits_4"] > 0


def test_put(tiny, capsys):
    benchmark = run(capsys, "put", "--jobs", "10")
    found = medians(benchmark)
    assert found["rate"] > 0
    assert benchmark["details"][0]["a put"]["transactions"] == 1


def test_drain_counts_every_transaction_from_put_to_completed(tiny, capsys):
    benchmark = run(capsys, "drain", "--jobs", "20", "--size", "4", "--threads", "2")
    found = medians(benchmark)
    assert found["rate"] > 0
    assert found["transactions"] > 1
    assert benchmark["details"][0]["put"]["transactions"] == 1


def test_rounds(tiny, capsys):
    benchmark = run(capsys, "rounds", "--jobs", "40")
    titles = {figure["title"] for figure in benchmark["figures"]}
    assert {f"drain, rounds of {size}" for size in (1, 4, 16, 64)} < titles
    assert {"drain, default rounds", "1% fail, 1% conflict"} < titles
    assert all(figure["median"] > 0 for figure in benchmark["figures"])


def test_each_storage_has_a_bar_for_rounds():
    for kind in storages.KINDS:
        options = argparse.Namespace(jobs=None, storage=kind)
        bars = [
            figure.bar
            for case in rounds.cases(options)
            for figure in case.figures
            if figure.title == "drain, default rounds"
        ]
        assert bars == [rounds.BARS[kind]]


def test_latency(tiny, capsys):
    benchmark = run(capsys, "latency", "--jobs", "5")
    titles = {figure["title"] for figure in benchmark["figures"]}
    assert {
        "put -> start, p99",
        "put -> start, load, p99",
        "due -> start, p99",
    } < titles
    assert all(figure["median"] > 0 for figure in benchmark["figures"])


def test_backlog(tiny, capsys):
    found = medians(run(capsys, "backlog", "--jobs", "40", "--blocked", "15"))
    assert set(found) == {figure.key for figure in backlog.FIGURES}
    assert all(value > 0 for value in found.values())


def test_contention(tiny, capsys):
    found = medians(run(capsys, "contention", "--jobs", "24"))
    assert found["conflicts"] == 0
    assert found["rate"] > 0


def test_idle(tiny, capsys):
    found = medians(run(capsys, "idle", "--seconds", "0.1"))
    assert found["others"] == 0
    assert found["cpu"] >= 0


def test_memory(tiny, capsys):
    found = medians(run(capsys, "memory", "--jobs", "30"))
    assert 1 < found["early"] < 10_000
    assert found["growth"] > 0
