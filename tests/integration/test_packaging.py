# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What is built from the project is complete: it works where only it is installed."""

import sys
import tarfile
import zipfile

import pytest

from tests.checkout import TOPS, copy_checkout, run

SOURCES = (".py", ".pyi", ".typed", ".zcml", ".pt", ".txt", ".css", ".js", ".svg")

JOB = """
import transaction, ZODB
from zc.async_ import configure, dispatcher, testing
from zc.async_.interfaces import IQueue
from zc.async_.job import Job

db = ZODB.DB("jobs.fs")
configure.start(db)
job = IQueue(db.open().root()).put(Job(sum, [19, 23]))
transaction.commit()
print("result:", testing.wait_for_result(job))
print("package:", dispatcher.__file__)
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def built(checkout):
    """The folder with the sdist, and the wheel that was built from that."""
    run(sys.executable, "-m", "build", "--no-isolation", ".", cwd=checkout)
    return checkout / "dist"


@pytest.fixture(scope="module")
def in_sdist(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def in_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def files(folder, base):
    """The names of the files of the project below `folder`, relative to `base`."""
    return {
        path.relative_to(base).as_posix()
        for path in folder.rglob("*")
        if path.suffix in SOURCES and ".egg-info" not in str(path)
    }


def test_the_wheel_has_all_files_of_the_package(checkout, in_wheel):
    assert files(checkout / "src", checkout / "src") <= in_wheel


def test_the_wheel_has_the_configuration_files(in_wheel):
    for name in (
        "configure",
        "dispatcher",
        "basic_dispatcher_policy",
        "multidb_dispatcher_policy",
    ):
        assert f"zc/async/{name}.zcml" in in_wheel


def test_the_wheel_says_that_it_is_typed(in_wheel):
    assert {"zc/async/py.typed", "zc/async_/py.typed"} <= in_wheel


def test_the_wheel_has_the_documents(checkout, in_wheel):
    place = "zc_async-2.0.0a1.data/data/share/doc/zc.async/"
    documents = files(checkout / "docs", checkout / "docs")
    documents |= {"README.txt", "CHANGES.txt"}
    assert {place + name for name in documents} <= in_wheel
    assert place + "usage.txt" in in_wheel


def test_the_wheel_leaves_the_namespace_to_all_its_users(in_wheel):
    assert "zc/__init__.py" not in in_wheel
    tops = {name.partition("/")[0] for name in in_wheel}
    assert tops == {
        "zc",
        "zc_async-2.0.0a1.dist-info",
        "zc_async-2.0.0a1.data",
    }


def test_both_have_the_license(in_wheel, in_sdist):
    assert "zc_async-2.0.0a1.dist-info/licenses/LICENSE.txt" in in_wheel
    assert "LICENSE.txt" in in_sdist


def test_the_source_distribution_has_all_one_needs_to_work_on_it(checkout, in_sdist):
    for top in TOPS:
        if (checkout / top).exists():
            assert files(checkout / top, checkout) <= in_sdist
    assert {
        "bootstrap.py",
        "buildout.cfg",
        "tox.ini",
        "pyproject.toml",
        "DEVELOP.txt",
        "MANIFEST.in",
        ".ci/run",
        "tests/conftest.py",
    } <= in_sdist


def test_no_distribution_has_what_running_left(in_wheel, in_sdist):
    for name in in_wheel | in_sdist:
        assert not name.endswith((".pyc", ".fs", ".fs.lock", "uuid.txt")), name


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment that has the wheel and what it requires, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    install = ("-m", "pip", "-qq", "install", wheel)
    run(folder / "bin" / "python", *install, cwd=folder, timeout=300)
    return folder


@pytest.mark.timeout(420)
def test_the_installed_wheel_performs_a_job(environment, tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    printed = run(environment / "bin" / "python", "job.py", cwd=tmp_path)
    assert "result: 42\n" in printed
    assert f"package: {environment}" in printed
    assert (tmp_path / "jobs.fs").stat().st_size > 0


@pytest.mark.timeout(420)
def test_the_installed_wheel_shares_the_namespace(environment, tmp_path):
    program = "import zc.lockfile, zc.async_, zc; print(zc.async_.__file__)"
    printed = run(environment / "bin" / "python", "-c", program, cwd=tmp_path)
    assert printed.startswith(str(environment))


@pytest.mark.timeout(420)
def test_users_can_check_types_through_the_alias(environment, tmp_path):
    source = """
from zc.async_ import job
from zc.async_.clock import utcnow
import zc.async_.status
print(job.Job, utcnow(), zc.async_.status)
"""
    (tmp_path / "application.py").write_text(source)
    options = ("--strict", "--python-executable", environment / "bin" / "python")
    printed = run(
        sys.executable, "-m", "mypy", *options, "application.py", cwd=tmp_path
    )
    assert "Success" in printed
