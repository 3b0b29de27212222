# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import copy
import gc
import io
import pickle
import pickletools
import weakref

import pytest
import transaction
import ZODB
from persistent import Persistent
from persistent.mapping import PersistentMapping
from twisted.internet import defer
from twisted.python.failure import Failure as TwistedFailure
from twisted.python.failure import NoCurrentExceptionError
from ZODB.POSException import ConflictError, POSError
from zope.interface import implementer
from zope.interface.verify import verifyObject

from zc.async_ import errors, failure, interfaces
from zc.async_.failure import Failure


class Vanishing(LookupError):
    """Deleted by a test."""


class Unpicklable(Exception):
    def __reduce__(self):
        raise TypeError("no")

    def __str__(self):
        return "needs " + self.args[1].name


class Silent(Exception):
    """Tells nothing of itself."""

    def __getattribute__(self, name):
        raise MemoryError(name)


class Faceless(Exception):
    @property
    def __class__(self):
        raise KeyboardInterrupt


class Named(Persistent):
    name = "glasses"


class Big:
    """Can be referred to weakly."""


def divide(big=None, secret="swordfish"):
    return len(secret) / 0


def failed(function=divide, *args):
    try:
        function(*args)
    except BaseException:
        return failure.current()
    raise AssertionError("nothing was raised")


def twisted_failed(function=divide, **options):
    try:
        function()
    except BaseException:
        return TwistedFailure(**options)


def raise_error(error):
    raise error


def reloaded(value):
    return pickle.loads(pickle.dumps(value, 3))


@pytest.fixture
def connection():
    db = ZODB.DB(None)
    connection = db.open()
    yield connection
    transaction.abort()
    connection.close()
    db.close()


def test_a_failure_is_one_of_twisted_and_provides_the_interface():
    found = failed()
    assert isinstance(found, TwistedFailure)
    assert verifyObject(interfaces.IFailure, found)


def test_twisted_failures_provide_the_interface_too():
    assert interfaces.IFailure.providedBy(twisted_failed())


def test_type_value_and_message_are_those_of_the_exception():
    found = failed()
    assert found.type is ZeroDivisionError
    assert type(found.value) is ZeroDivisionError
    assert found.getErrorMessage() == "division by zero"


def test_repr_and_str_have_the_published_form():
    found = failed()
    assert repr(found) == "<zc.async.failure.Failure builtins.ZeroDivisionError>"
    assert str(found).startswith(
        "[Failure instance: Traceback: <class 'ZeroDivisionError'>: division by zero\n"
    )
    assert str(found).endswith(":divide\n]")
    assert repr(Failure(errors.AbortedError())) == (
        "<zc.async.failure.Failure zc.async.interfaces.AbortedError>"
    )


def test_the_traceback_ends_with_the_dotted_name_and_message():
    text = failed().getTraceback()
    assert text.startswith("Traceback (most recent call last):\n  File ")
    assert text.endswith("builtins.ZeroDivisionError: division by zero\n")


def test_a_failure_that_was_never_raised_says_so():
    file = io.StringIO()
    Failure(errors.AbortedError()).printTraceback(file)
    assert file.getvalue() == (
        "Traceback (most recent call last):\n"
        "Failure: zc.async.interfaces.AbortedError: \n"
    )


def test_each_level_of_detail_can_be_printed_or_returned():
    found = failed()
    for detail, method in (
        ("default", found.printTraceback),
        ("brief", found.printBriefTraceback),
        ("verbose", found.printDetailedTraceback),
    ):
        file = io.StringIO()
        method(file)
        assert file.getvalue() == found.getTraceback(detail=detail)
    assert found.getBriefTraceback() == found.getTraceback(detail="brief")
    assert f"*--- Failure #{found.count} (pickled) ---" in file.getvalue()
    with pytest.raises(ValueError, match="found 'more'"):
        found.getTraceback(detail="more")


def test_everything_is_the_same_after_pickling():
    found = failed()
    for other in reloaded(found), reloaded(reloaded(found)), copy.deepcopy(found):
        assert other.getTraceback() == found.getTraceback()
        assert other.frames == found.frames
        assert other.parents == found.parents
        assert (other.type, repr(other.value)) == (found.type, repr(found.value))
        assert repr(other) == repr(found)
        assert str(other) == str(found)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_stored_form_names_nothing_of_twisted(protocol):
    names = [
        argument
        for _op, argument, _at in pickletools.genops(pickle.dumps(failed(), protocol))
        if isinstance(argument, str)
    ]
    assert names
    assert not [name for name in names if "twisted" in name]


def test_a_stored_failure_loads_when_twisted_has_changed(monkeypatch):
    stored = pickle.dumps(failed(), 3)
    names = {"__setstate__", "__getstate__", "frames", "parents", "stack"}
    for name in names.intersection(vars(TwistedFailure)):
        monkeypatch.delattr(TwistedFailure, name)
    monkeypatch.setattr(TwistedFailure, "__init__", None)
    loaded = pickle.loads(stored)
    assert loaded.check(ArithmeticError) is ArithmeticError
    assert loaded.getTraceback().endswith("division by zero\n")
    assert len(loaded.frames) == 2


def test_a_state_with_more_than_we_know_is_kept():
    found = failed()
    found.__setstate__({**found.__getstate__(), "later": 1})
    assert reloaded(found).__getstate__()["later"] == 1


def test_frames_have_the_published_shape_with_strings_for_values():
    for found in failed(), reloaded(Failure(twisted_failed(), captureVars=True)):
        assert found.tb is None
        for codename, filename, lineno, local_items, global_items in found.frames:
            assert isinstance(codename, str)
            assert isinstance(filename, str)
            assert isinstance(lineno, int)
            for _name, value in [*local_items, *global_items]:
                assert isinstance(value, str)
        assert found.frames[-1][0] == "divide"
        assert found.stack == []


def test_variables_are_not_kept_unless_switched_on(monkeypatch):
    assert not failure.KEEP_LOCALS
    found = failed()
    assert not found.captureVars
    stored = pickle.dumps(found)
    assert b"swordfish" not in stored
    assert "swordfish" not in found.getTraceback(detail="verbose")
    careless = twisted_failed(captureVars=True)
    assert b"swordfish" not in pickle.dumps(failure.sanitize(careless))
    monkeypatch.setattr(failure, "KEEP_LOCALS", True)
    for found in reloaded(failed()), failure.sanitize(twisted_failed()):
        assert found.captureVars
        assert ("secret", "'swordfish'") in found.frames[-1][3]
        assert "secret : 'swordfish'" in found.getTraceback(detail="verbose")


def test_a_caller_can_keep_the_variables_of_one_failure():
    try:
        divide()
    except ZeroDivisionError as error:
        found = Failure(error, captureVars=True)
    assert ("secret", "'swordfish'") in found.frames[-1][3]


def test_no_frame_exception_or_argument_stays_alive():
    big = Big()
    alive = weakref.ref(big)
    error = KeyError(big)
    kept = [failed(divide, big), Failure(error), failure.sanitize(error)]
    assert [found.args for found in kept] == [(), (), ()]
    del big, error
    gc.collect()
    assert alive() is None
    assert kept[1].check(KeyError)


def test_raising_a_failure_does_not_make_it_refer_to_frames():
    found = failed()
    big = Big()
    alive = weakref.ref(big)

    def reraise(big):
        with pytest.raises(ZeroDivisionError, match="division by zero"):
            found.raiseException()

    reraise(big)
    del big
    gc.collect()
    assert alive() is None
    assert found.value.__traceback__ is None


def test_check_finds_classes_and_dotted_names_and_their_bases():
    for found in failed(), reloaded(failed()):
        assert found.check(KeyError, ZeroDivisionError) is ZeroDivisionError
        assert found.check(ArithmeticError) is ArithmeticError
        assert found.check("builtins.ArithmeticError") == "builtins.ArithmeticError"
        assert found.check(KeyError, "builtins.KeyError") is None


def test_check_finds_exceptions_that_are_not_errors():
    found = failed(raise_error, SystemExit(3))
    assert found.check(SystemExit) is SystemExit
    assert found.check(BaseException) is BaseException
    assert found.check(Exception) is None
    assert found.value.code == 3


def test_trap_returns_the_match_or_raises_the_exception():
    found = reloaded(failed())
    assert found.trap(KeyError, ArithmeticError) is ArithmeticError
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        found.trap(KeyError)


def test_a_failure_outlives_the_class_of_its_exception(monkeypatch):
    name = f"{__name__}.Vanishing"
    stored = pickle.dumps(failed(raise_error, Vanishing("where")), 3)
    cls = Vanishing
    monkeypatch.delitem(globals(), "Vanishing")
    found = pickle.loads(stored)
    assert repr(found) == f"<zc.async.failure.Failure {name}>"
    assert found.getErrorMessage() == str(found.value) == "where"
    assert found.getTraceback().endswith(f"{name}: where\n")
    assert found.check(cls) is cls
    assert found.check(name, LookupError) == name
    assert found.check(LookupError) is LookupError
    with pytest.raises(LookupError, match="where"):
        found.trap(KeyError)
    monkeypatch.undo()
    assert type(reloaded(found).value) is Vanishing


def test_an_exception_that_cannot_be_stored_has_a_stand_in():
    found = failed(raise_error, Unpicklable(1, Named()))
    assert found.getErrorMessage() == str(found.value) == "needs glasses"
    assert found.type is Unpicklable
    assert found.check(Unpicklable) is Unpicklable


def test_a_failure_is_stored_with_the_object_that_has_it(connection):
    root = connection.root()
    root["doc"] = Named()
    transaction.commit()
    error = KeyError(root["doc"])
    root["result"] = PersistentMapping(failure=failed(raise_error, error))
    transaction.commit()
    other = connection.db().open(transaction.TransactionManager())
    found = other.root()["result"]["failure"]
    assert found.check(KeyError)
    assert "test_failure.Named object at" in found.value.args[0]
    other.close()


def test_a_persistent_argument_keeps_no_connection(connection):
    root = connection.root()
    root["doc"] = PersistentMapping(text="long")
    transaction.commit()
    error = ConflictError(object=root["doc"])
    error.doc = root["doc"]
    found = failed(raise_error, error)
    assert found.check(ConflictError, POSError) is ConflictError
    assert isinstance(found.value.doc, str)
    assert not any(x is root["doc"] for x in gc.get_referents(vars(found.value)))


def test_failures_inside_an_exception_are_sanitized():
    error = defer.FirstError(twisted_failed(), 0)
    found = reloaded(failed(raise_error, error))
    assert type(found.value) is defer.FirstError
    assert type(found.value.subFailure) is Failure
    assert found.value.subFailure.check(ZeroDivisionError)


def test_sanitize_returns_our_failures_as_they_are():
    found = failed()
    assert failure.sanitize(found) is found


@pytest.mark.parametrize("clean", [False, True])
def test_sanitize_takes_failures_of_twisted_live_or_cleaned(clean):
    source = twisted_failed()
    if clean:
        source.cleanFailure()
    found = failure.sanitize(source)
    assert type(found) is Failure
    assert [frame[:3] for frame in found.frames] == [
        list(frame[:3]) for frame in source.frames
    ]
    last_frame_and_message = source.getTraceback()[-150:]
    assert found.getTraceback().endswith(last_frame_and_message)


def test_sanitize_does_not_change_its_source():
    source = twisted_failed()
    tb = source.tb
    failure.sanitize(source)
    assert source.tb is tb is source.value.__traceback__


def test_sanitize_takes_failures_of_failures():
    source = twisted_failed()
    outer = TwistedFailure(ValueError("outer"))
    outer.value = source
    assert failure.sanitize(outer).check(ZeroDivisionError)


def test_sanitize_takes_what_came_over_a_network():
    source = TwistedFailure(ValueError("v"))
    source.type, source.value = b"remote.Broken", "no more"
    source.parents = [b"remote.Broken", "remote.Base"]
    found = reloaded(failure.sanitize(source))
    assert repr(found) == "<zc.async.failure.Failure remote.Broken>"
    assert found.check("remote.Base")
    assert str(found.value) == "no more"


def test_a_failure_that_is_raised_itself_stays_what_it_is():
    found = failed(raise_error, failed())
    assert found.type is ZeroDivisionError


def test_only_exceptions_and_failures_make_failures():
    for make in Failure, failure.sanitize:
        with pytest.raises(TypeError, match="expected an exception or a failure"):
            make(42)


def test_without_a_current_exception_there_is_no_failure():
    with pytest.raises(NoCurrentExceptionError):
        failure.current()


def test_an_explicit_traceback_is_used():
    error = ValueError("v")
    tb = twisted_failed().tb
    assert Failure(error, ValueError, tb).frames[-1][0] == "divide"


def test_a_recursion_error_becomes_a_small_failure():
    def recurse():
        recurse()

    found = failed(recurse)
    assert found.type is RecursionError
    assert len(pickle.dumps(found)) < 50_000


@pytest.mark.parametrize("cls", [Silent, Faceless])
def test_an_exception_that_refuses_to_be_asked_becomes_a_failure(cls):
    try:
        raise cls()
    except BaseException:
        found = failure.current()
    assert found.check(errors.AsyncError)
    assert f"test_failure.{cls.__name__} object at" in found.getErrorMessage()
    assert "cannot be described" in reloaded(found).getTraceback()


def test_a_deferred_fails_with_our_failure_and_leaves_it_alone():
    found = failed()
    results = []
    defer.fail(found).addErrback(results.append)
    assert results == [found]
    assert found.frames


def test_a_generator_receives_the_exception():
    @defer.inlineCallbacks
    def wait():
        try:
            yield defer.fail(found)
        except ZeroDivisionError as error:
            return str(error)

    found = failed()
    results = []
    wait().addCallback(results.append)
    assert results == ["division by zero"]
    assert found.value.__traceback__ is None


def test_twisted_can_make_a_failure_of_its_own_from_ours():
    found = TwistedFailure(failed())
    assert found.check(ZeroDivisionError)
    assert "division by zero" in found.getTraceback()


def test_failures_are_told_from_other_results():
    @implementer(interfaces.IFailure)
    class Other:
        pass

    for value in failed(), twisted_failed(), Other():
        assert failure.is_failure(value)
    for value in None, 42, ValueError("v"), Failure, object():
        assert not failure.is_failure(value)


def test_asking_for_a_failure_does_not_load_a_persistent_object(connection):
    root = connection.root()
    root["doc"] = PersistentMapping()
    transaction.commit()
    root["doc"]._p_deactivate()
    assert not failure.is_failure(root["doc"])
    assert root["doc"]._p_changed is None


def test_explosive_errors_are_the_published_ones():
    assert failure.EXPLOSIVE_ERRORS == (SystemExit, KeyboardInterrupt, POSError)
