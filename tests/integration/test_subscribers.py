# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import os
import signal
import subprocess
import sys
import threading
import uuid

import pytest
import transaction
import zope.component
import zope.event
from twisted.internet.selectreactor import SelectReactor
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from zope.processlifetime import DatabaseOpenedWithRoot

from zc.async_ import configure, instanceuuid, testing
from zc.async_ import dispatcher as dispatchers
from zc.async_.errors import IdentityInUseError, MissingDatabaseError
from zc.async_.interfaces import (
    KEY,
    DatabaseOpened,
    IDatabaseOpenedEvent,
    IDispatcherActivated,
    IObjectAdded,
)
from zc.async_.queue import Queue
from zc.async_.subscribers import (
    AgentInstaller,
    QueueInstaller,
    ThreadedDispatcherInstaller,
    TwistedDispatcherInstaller,
    agent_installer,
    multidb_queue_installer,
    queue_installer,
    threaded_dispatcher_installer,
    twisted_dispatcher_installer,
)


@pytest.fixture(autouse=True)
def identity(tmp_path, monkeypatch):
    monkeypatch.setenv("ZC_ASYNC_UUID", str(tmp_path / "uuid.txt"))
    instanceuuid.reset()
    yield tmp_path / "uuid.txt"
    instanceuuid.reset()


@pytest.fixture(autouse=True)
def clean_up(identity):
    before = threading.enumerate()
    handlers = {number: signal.getsignal(number) for number in (2, 15)}
    yield
    for dispatcher in list(dispatchers._dispatchers.values()):
        testing.tear_down_dispatcher(dispatcher)
    testing.assert_no_leaked_threads(before)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def db():
    configure.base()
    db = DB(DemoStorage())
    yield db
    db.close()


@pytest.fixture
def two(db):
    """A main database beside one named 'async'."""
    other = DB(DemoStorage(), databases=db.databases, database_name="async")
    yield db, other
    other.close()


def opened(db):
    return DatabaseOpened(db)


def root_of(db):
    transaction.begin()
    return db.open().root()


def never(job):
    return False


def work():
    return 42


# Queues


def test_the_usual_installers_are_there():
    assert (queue_installer.queues, queue_installer.db_name) == (("",), None)
    assert multidb_queue_installer.queues == ("",)
    assert multidb_queue_installer.db_name == "async"
    for installer in (queue_installer, multidb_queue_installer):
        assert isinstance(installer, QueueInstaller)


def test_a_queue_is_installed(db):
    queue_installer(opened(db))
    assert list(root_of(db)[KEY]) == [""]


def test_it_is_installed_when_the_event_is_notified(db):
    zope.component.provideHandler(queue_installer)
    zope.event.notify(opened(db))
    assert list(root_of(db)[KEY]) == [""]


def test_the_other_event_does_as_well(db):
    queue_installer(DatabaseOpenedWithRoot(db))
    assert list(root_of(db)[KEY]) == [""]


def test_installing_twice_changes_nothing(db):
    queue_installer(opened(db))
    root_of(db)[KEY][""].put(work)
    transaction.commit()
    before = db.lastTransaction()
    queue_installer(DatabaseOpenedWithRoot(db))
    assert db.lastTransaction() == before


def test_missing_queues_are_added_to_those_that_are_there(db):
    queue_installer(opened(db))
    QueueInstaller(["", "mail", "index"])(opened(db))
    assert sorted(root_of(db)[KEY]) == ["", "index", "mail"]


def test_the_transaction_of_the_caller_is_not_touched(db):
    root = root_of(db)
    root["mine"] = 1
    queue_installer(opened(db))
    assert root["mine"] == 1
    transaction.abort()
    assert "mine" not in root


def test_a_factory_is_given_the_connection_and_the_name(db):
    calls = []

    def factory(connection, name):
        calls.append((connection.db(), name))
        return Queue()

    QueueInstaller(["a", "b"], factory)(opened(db))
    assert calls == [(db, "a"), (db, "b")]


def test_what_was_added_is_notified_and_logged(db):
    found = []

    def note(event):
        found.append((event.name, event.object, event.parent))

    zope.component.provideHandler(note, (IObjectAdded,))
    with testing.Logs("zc.async.events") as logs:
        queue_installer(opened(db))
        queue_installer(opened(db))
    (key, queues, root), (name, queue, parent) = found
    assert (key, name) == (KEY, "")
    assert (parent is queues, queue.parent is queues) == (True, True)
    assert KEY in root
    assert [record.getMessage() for record in logs.records] == [
        "mapping of queues added to database 'unnamed'",
        "queue '' added",
    ]


def test_queues_can_be_in_another_database(two):
    main, other = two
    multidb_queue_installer(opened(main))
    root = root_of(main)
    queue = root[KEY][""]
    assert root[KEY]._p_jar.db() is other
    queue.put(work)
    transaction.commit()
    assert queue._p_jar.db() is other
    assert queue[0]._p_jar.db() is other


def test_databases_may_be_named_after_they_were_opened():
    """As release 1.0 showed: their pooled connections know them by former names."""
    configure.base()
    main, other = DB(DemoStorage()), DB(DemoStorage())
    main.databases = other.databases = {"": main, "async": other}
    main.database_name, other.database_name = "", "async"
    multidb_queue_installer(opened(main))
    root = root_of(main)
    assert list(root[KEY]) == [""]
    assert root[KEY]._p_jar.db() is other
    transaction.abort()
    main.close()
    other.close()


def test_queues_of_the_other_database_are_found_by_a_new_main_one(two):
    main, other = two
    multidb_queue_installer(opened(main))
    root = root_of(main)
    root[KEY][""].put(work)
    del root[KEY]
    transaction.commit()
    multidb_queue_installer(opened(main))
    assert len(root_of(main)[KEY][""]) == 1


def test_queues_that_are_somewhere_else_stay_there_with_a_warning(two):
    main, other = two
    queue_installer(opened(main))
    with testing.Logs("zc.async.events") as logs:
        multidb_queue_installer(opened(main))
    assert root_of(main)[KEY]._p_jar.db() is main
    assert "WARNING" in str(logs) and "expected them in 'async'" in str(logs)


def test_a_missing_database_is_refused_with_what_to_add(db):
    with pytest.raises(MissingDatabaseError) as caught:
        multidb_queue_installer(opened(db))
    assert (caught.value.name, caught.value.found) == ("async", ("unnamed",))
    message = str(caught.value)
    assert "found the databases ['unnamed'], expected one named 'async'" in message
    assert "<zodb_db async>\n      mount-point /async_mount\n" in message
    assert "database_name='async'" in message
    assert KEY not in root_of(db)


def test_two_that_install_at_once_agree(db):
    both = threading.Barrier(2, timeout=10)
    attempts = []

    def factory(connection, name):
        attempts.append(threading.current_thread())
        if attempts.count(threading.current_thread()) == 1:
            both.wait()  # neither has committed yet
        return Queue()

    installer = QueueInstaller(factory=factory)
    errors = []

    def install():
        try:
            installer(opened(db))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=install) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not errors
    assert list(root_of(db)[KEY]) == [""]


@pytest.mark.parametrize("names", ["mail", [1]])
def test_names_that_are_not_strings_are_refused(names):
    with pytest.raises(TypeError, match="found"):
        QueueInstaller(names)
    with pytest.raises(TypeError, match="found"):
        AgentInstaller("main", queue_names=names)


# Agents


@pytest.fixture
def agents_of(db):
    QueueInstaller(["", "mail"])(opened(db))

    def agents_of(name):
        queue = root_of(db)[KEY][name]
        UUID = uuid.uuid4()
        queue.dispatchers.register(UUID)
        queue.dispatchers[UUID].activate()
        return queue.dispatchers[UUID]

    return agents_of


def test_the_usual_agent_is_called_main():
    assert isinstance(agent_installer, AgentInstaller)
    assert agent_installer.agent_name == "main"
    assert agent_installer.queue_names is None
    assert agent_installer.chooser is None
    assert agent_installer.size == 3


def test_each_queue_gets_an_agent(agents_of):
    zope.component.provideHandler(agent_installer)
    for name in ("", "mail"):
        agents = agents_of(name)
        assert list(agents) == ["main"]
        assert agents["main"].size == 3


def test_only_the_named_queues_get_one(agents_of):
    zope.component.provideHandler(AgentInstaller("mailer", queue_names=["mail"]))
    assert list(agents_of("")) == []
    assert list(agents_of("mail")) == ["mailer"]


def test_an_agent_that_is_there_stays(agents_of):
    agents = agents_of("")
    AgentInstaller("main", size=7)(_Activated(agents))
    AgentInstaller("main", size=8)(_Activated(agents))
    assert agents["main"].size == 7


def test_the_agent_is_made_as_asked(agents_of):
    agents = agents_of("")
    AgentInstaller("a", filter=never, size=9, threads=2)(_Activated(agents))
    agent = agents["a"]
    assert (agent.filter, agent.size, agent.threads) == (never, 9, 2)


@pytest.mark.parametrize(
    "options", [{"chooser": never, "filter": never}, {"size": 0}, {"size": "3"}]
)
def test_an_agent_that_cannot_be_made_is_refused_at_once(options):
    with pytest.raises(ValueError, match="found"):
        AgentInstaller("main", **options)


class _Activated:
    def __init__(self, object):
        self.object = object


# Dispatchers in threads


def test_the_usual_dispatchers_are_there():
    assert isinstance(threaded_dispatcher_installer, ThreadedDispatcherInstaller)
    assert threaded_dispatcher_installer.poll_interval == 5
    assert isinstance(twisted_dispatcher_installer, TwistedDispatcherInstaller)
    assert twisted_dispatcher_installer.poll_interval == 5
    for installer in (threaded_dispatcher_installer, twisted_dispatcher_installer):
        assert installer.__component_adapts__ == (IDatabaseOpenedEvent,)
    assert agent_installer.__component_adapts__ == (IDispatcherActivated,)


@pytest.fixture
def started(db):
    ThreadedDispatcherInstaller(poll_interval=0.5)(opened(db))
    return dispatchers.get()


def test_a_dispatcher_works_and_finds_queues_that_come_later(started, db):
    assert started.poll_interval == 0.5
    assert testing.get_poll(started, 0) == {}
    zope.component.provideHandler(agent_installer)
    queue_installer(opened(db))
    job = root_of(db)[KEY][""].put(work)
    transaction.commit()
    assert testing.wait_for_result(job) == 42


def test_another_reactor_can_drive_it(db):
    zope.component.provideHandler(agent_installer)
    queue_installer(opened(db))
    ThreadedDispatcherInstaller(reactor_factory=SelectReactor)(opened(db))
    assert isinstance(dispatchers.get().reactor, SelectReactor)
    job = root_of(db)[KEY][""].put(work)
    transaction.commit()
    assert testing.wait_for_result(job) == 42


def test_the_second_event_changes_nothing(started, db):
    threads = threading.active_count()
    close = db.close
    ThreadedDispatcherInstaller(poll_interval=3)(DatabaseOpenedWithRoot(db))
    assert dispatchers.get() is started
    assert started.poll_interval == 0.5
    assert (threading.active_count(), db.close) == (threads, close)


def test_a_second_database_is_refused_while_the_first_is_served(started):
    other = DB(DemoStorage())
    try:
        with pytest.raises(ValueError, match="close that database"):
            threaded_dispatcher_installer(opened(other))
        assert dispatchers.get() is started
    finally:
        other.close()


def test_a_second_database_is_served_under_another_identity(started):
    other, UUID = DB(DemoStorage()), uuid.uuid4()
    ThreadedDispatcherInstaller(uuid=UUID)(opened(other))
    assert dispatchers.get(UUID).db is other
    assert dispatchers.get() is started and started.activated
    other.close()
    assert not dispatchers.get(UUID).activated
    assert started.activated


def test_closing_the_database_stops_it_first(started, db):
    zope.component.provideHandler(agent_installer)
    queue_installer(opened(db))
    testing.get_poll(started)
    with testing.Logs("zc.async.events", "ZODB", level=30) as logs:
        db.close()
        db.close()
    assert not started.activated
    assert not started.thread.is_alive()
    assert str(logs) == ""


def test_it_starts_again_after_that_for_another_database(started, db):
    db.close()
    other = DB(DemoStorage())
    try:
        threaded_dispatcher_installer(opened(other))
        assert dispatchers.get() is not started
        assert dispatchers.get().db is other
    finally:
        other.close()


def test_it_starts_again_after_it_was_stopped(started, db):
    started.stop()
    threaded_dispatcher_installer(opened(db))
    again = dispatchers.get()
    assert again is not started
    testing.get_poll(again, 0)
    db.close()
    assert not again.activated


def test_when_it_was_stopped_the_database_is_left_alone(started, db):
    assert "close" in vars(db)
    started.stop()
    assert "close" not in vars(db)


def test_an_interrupt_stops_it_and_goes_on_to_the_handler_before(started, db):
    queue_installer(opened(db))
    testing.get_poll(started)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(20)
    assert not started.activated
    agents = root_of(db)[KEY][""].dispatchers[started.UUID]
    assert not agents.activated
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_termination_stops_it_and_ends_the_process_without_error(started):
    with pytest.raises(SystemExit) as caught:
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(20)
    assert caught.value.code == 0
    assert not started.activated
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_the_application_is_called_afterwards(db):
    found = []

    def handler(number, frame):
        found.append((number, bool(dispatchers.get().activated)))

    signal.signal(signal.SIGTERM, handler)
    threaded_dispatcher_installer(opened(db))
    os.kill(os.getpid(), signal.SIGTERM)
    while not found:
        pass
    assert found == [(signal.SIGTERM, False)]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_an_ignored_signal_stays_ignored(db):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threaded_dispatcher_installer(opened(db))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_outside_of_the_main_thread_signals_are_left_alone(db):
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=threaded_dispatcher_installer, args=[opened(db)])
    thread.start()
    thread.join(20)
    assert dispatchers.get().activated
    assert signal.getsignal(signal.SIGTERM) is before


def test_handlers_do_not_pile_up(started, db):
    handler = signal.getsignal(signal.SIGTERM)
    other = DB(DemoStorage())
    ThreadedDispatcherInstaller(uuid=uuid.uuid4())(opened(other))
    assert signal.getsignal(signal.SIGTERM) is handler
    other.close()
    assert signal.getsignal(signal.SIGTERM) is handler
    db.close()
    assert signal.getsignal(signal.SIGTERM) is not handler


def test_without_registrations_it_says_what_to_call():
    db = DB(DemoStorage())
    try:
        with pytest.raises(LookupError, match=r"configure\.base\(\)"):
            threaded_dispatcher_installer(opened(db))
    finally:
        db.close()


# The identity


HOLDER = """
import sys
sys.path[:0] = {path!r}
from zc.async_ import instanceuuid
lock = instanceuuid.lock()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def another_process():
    """One that works under the same identity."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(path=sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.communicate(timeout=20)


def test_an_identity_that_another_process_has_is_refused(db, another_process, identity):
    with testing.Logs("zc.async.events") as logs:
        with pytest.raises(IdentityInUseError):
            threaded_dispatcher_installer(opened(db))
    (record,) = [each for each in logs.records if each.levelname == "CRITICAL"]
    assert str(identity) in record.getMessage()
    assert f"process {another_process.pid}" in record.getMessage()
    assert dispatchers.get() is None
    assert "close" not in vars(db)


def test_the_identity_is_free_again_when_the_other_process_has_ended(
    db, another_process
):
    with pytest.raises(IdentityInUseError):
        threaded_dispatcher_installer(opened(db))
    another_process.communicate(timeout=20)
    threaded_dispatcher_installer(opened(db))
    assert dispatchers.get().activated


# Processes that end

PROGRAM = """
import os, signal, sys, threading
sys.path[:0] = {path!r}
import transaction
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from zc.async_ import configure, testing
from zc.async_.interfaces import IQueue

db = DB(FileStorage("main.fs"))
dispatcher = configure.start(db)
testing.get_poll(dispatcher, 0)
print("polled", flush=True)
{end}
"""

ENDS = {
    "main thread ends": ("", 0),
    "exit": ("sys.exit(3)", 3),
    "error": ("raise KeyError", 1),
    "close": ("db.close()", 0),
    "stop": ("dispatcher.stop()", 0),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); input()", 0),
    "SIGINT": ("os.kill(os.getpid(), signal.SIGINT); input()", -signal.SIGINT),
    "fork": (
        "pid = os.fork()\n"
        "if not pid: sys.exit(5)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5\n"
        "assert dispatcher.activated\n"
        "assert IQueue(db.open().root()).dispatchers[dispatcher.UUID].activated",
        0,
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_process_that_ends_deactivates_its_dispatcher_and_ends(end, tmp_path):
    code, status = ENDS[end]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(path=sys.path, end=code)],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "polled\n"
    error = process.stderr.read()
    assert process.wait(20) == status, error
    process.communicate()
    assert not activated_dispatchers(tmp_path), error


def activated_dispatchers(folder):
    from ZODB.FileStorage import FileStorage

    configure.base()
    db = DB(FileStorage(str(folder / "main.fs"), read_only=True))
    try:
        dispatchers = db.open().root()[KEY][""].dispatchers
        assert len(dispatchers) == 1
        return [each for each in dispatchers.values() if each.activated]
    finally:
        transaction.abort()
        db.close()


# A reactor of the application


TWISTED = """
import sys
sys.path[:0] = {path!r}
from twisted.internet import selectreactor
selectreactor.install()
from twisted.internet import reactor
import transaction
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from zc.async_ import configure
from zc.async_.interfaces import IQueue
from zc.async_.job import Job

db = DB(FileStorage("main.fs"))
dispatcher = configure.start(db, twisted=True)
assert configure.start(db, twisted=True) is dispatcher
assert dispatcher.reactor is reactor
connection = db.open()
job = IQueue(connection.root()).put(Job(sum, [19, 23]))
transaction.commit()

def look(rest=500):
    connection.sync()
    if job.status == "completed-status" or not rest:
        print(job.status, job.result)
        reactor.stop()
    else:
        reactor.callLater(0.02, look, rest - 1)

reactor.callWhenRunning(look)
reactor.run()
assert not dispatcher.activated
"""


def test_a_dispatcher_can_live_in_the_reactor_of_the_application(tmp_path):
    process = subprocess.run(
        [sys.executable, "-c", TWISTED.format(path=sys.path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout == "completed-status 42\n"
    assert not activated_dispatchers(tmp_path)
