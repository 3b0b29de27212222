# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""`zc.async_` is `zc.async`: the same modules, whichever name came first.

The tests run in processes of their own, since the order of imports matters.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"


def run(program, *options):
    """Return what a fresh Python prints that runs `program`."""
    path = os.pathsep.join([str(SRC), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, *options, *(["-c", program] if program else [])],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


REAL_FIRST = """
import importlib
real = importlib.import_module("zc.async")
real_clock = importlib.import_module("zc.async.clock")
real_errors = importlib.import_module("zc.async.errors")
import zc.async_
import zc.async_.clock
from zc.async_ import clock
from zc.async_.errors import BadStatusError
"""
ALIAS_FIRST = """
import importlib
import zc.async_.clock
from zc.async_ import clock
from zc.async_.errors import BadStatusError
real = importlib.import_module("zc.async")
real_clock = importlib.import_module("zc.async.clock")
real_errors = importlib.import_module("zc.async.errors")
"""
MIXED = """
import importlib
real_clock = importlib.import_module("zc.async.clock")
from zc.async_.errors import BadStatusError
real_errors = importlib.import_module("zc.async.errors")
import zc.async_.clock
from zc.async_ import clock
real = importlib.import_module("zc.async")
"""
orders = pytest.mark.parametrize(
    "imports",
    [REAL_FIRST, ALIAS_FIRST, MIXED],
    ids=["real first", "alias first", "mixed"],
)


@orders
def test_the_modules_are_identical(imports):
    run(
        imports
        + """
import sys
assert zc.async_ is real
assert zc.async_.clock is clock is real_clock is real.clock
assert sys.modules["zc.async_"] is sys.modules["zc.async"]
assert sys.modules["zc.async_.clock"] is sys.modules["zc.async.clock"]
"""
    )


@orders
def test_the_classes_are_identical(imports):
    run(imports + "assert BadStatusError is real_errors.BadStatusError")


@orders
def test_pickles_name_the_real_module_only(imports):
    run(
        imports
        + """
import pickle
for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
    data = pickle.dumps((BadStatusError, clock.utcnow), protocol)
    assert b"async_" not in data, data
    assert b"zc.async" in data
    assert pickle.loads(data) == (real_errors.BadStatusError, real_clock.utcnow)
"""
    )


@orders
def test_modules_keep_what_the_import_system_knows_of_them(imports):
    run(
        imports
        + """
import sys
for name, module in list(sys.modules.items()):
    if name.startswith("zc.async"):
        real_name = name.replace("zc.async_", "zc.async")
        assert module.__name__ == module.__spec__.name == real_name
        assert module.__loader__ is module.__spec__.loader
        assert type(module.__loader__).__name__ == "SourceFileLoader"
        assert module.__file__ == module.__spec__.origin
        assert module.__package__ == module.__spec__.parent
        assert not module.__spec__._initializing
"""
    )


@orders
def test_each_module_is_executed_once(imports):
    found = run(
        """
import sys
files = []
class Count:
    def find_spec(self, name, path, target=None):
        return None
def audit(event, arguments):
    if event == "exec" and "async" in getattr(arguments[0], "co_filename", ""):
        files.append(arguments[0].co_filename)
sys.addaudithook(audit)
"""
        + imports
        + """
modules = [name for name in files if name.endswith(".py")]
assert len(modules) == len(set(modules)), modules
print(len(modules))
"""
    )
    assert int(found) >= 4  # alias, package, clock, errors


def test_submodules_are_attributes_after_importing_the_package_alone():
    run("import zc.async_; zc.async_.clock.utcnow()")


def test_submodules_are_found_through_a_kept_alias_object():
    run(
        """
import importlib.util, sys
spec = importlib.util.find_spec("zc.async_")
alias = importlib.util.module_from_spec(spec)
spec.loader.exec_module(alias)
from zc.async_ import clock
assert alias is not sys.modules["zc.async_"]
assert alias.clock is clock
assert "clock" in dir(alias)
"""
    )


@pytest.mark.parametrize("name", ["zc.async", "zc.async_"])
def test_an_unknown_name_is_an_attribute_error(name):
    run(
        f"""
import importlib
package = importlib.import_module({name!r})
assert not hasattr(package, "nothing_of_that_name")
assert not hasattr(package, "__nothing__")
"""
    )


def test_an_unknown_module_is_a_module_not_found_error():
    run(
        """
try:
    import zc.async_.nothing_of_that_name
except ModuleNotFoundError as error:
    assert error.name == "zc.async_.nothing_of_that_name"
else:
    raise AssertionError
"""
    )


def test_the_import_error_of_a_submodule_is_not_hidden():
    run(
        """
import importlib, sys
package = importlib.import_module("zc.async")
sys.modules["zc.async.clock"] = None  # as if it could not be imported
sys.modules["datetime"] = None
del sys.modules["zc.async.clock"]
try:
    package.clock
except ModuleNotFoundError as error:
    assert error.name == "datetime", error
else:
    raise AssertionError
"""
    )


def test_looking_for_a_module_does_not_import_it():
    run(
        """
import importlib.util, sys
assert importlib.util.find_spec("zc.async_.clock").origin.endswith("clock.py")
assert "zc.async.clock" not in sys.modules
"""
    )


def test_a_reload_keeps_the_modules_identical():
    run(
        """
import importlib, sys
import zc.async_.clock
importlib.reload(zc.async_.clock)
importlib.reload(zc.async_)
assert sys.modules["zc.async_.clock"] is sys.modules["zc.async.clock"]
assert sys.modules["zc.async_"] is sys.modules["zc.async"]
"""
    )


def test_importing_from_many_threads_gives_one_module():
    run(
        """
import importlib, sys, threading
import zc.async_
names = ["zc.async.clock", "zc.async_.clock", "zc.async_.errors", "zc.async.errors"]
start = threading.Barrier(len(names) * 4)
found = {}
def work(number, name):
    start.wait()
    found[number] = importlib.import_module(name)
threads = [
    threading.Thread(target=work, args=each) for each in enumerate(names * 4)
]
sys.setswitchinterval(1e-6)
[thread.start() for thread in threads]
[thread.join(30) for thread in threads]
assert len(found) == len(threads) and len(set(map(id, found.values()))) == 2
"""
    )


def test_a_module_can_be_run_by_its_alias():
    assert run("", "-m", "zc.async_.status") == run("", "-m", "zc.async.status")


def test_the_package_needs_no_dependency_to_be_imported():
    run(
        """
import sys
known = set(sys.modules)
import zc.async_
new = {name.partition(".")[0] for name in set(sys.modules) - known}
assert new <= {"zc"} | sys.stdlib_module_names, new
"""
    )
