# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""`bootstrap.py` tells what it can do, and does nothing twice."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bootstrap

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "bootstrap.py")


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=100,
        **options,
    )


@pytest.fixture
def calls(monkeypatch):
    """What bootstrap would run; nothing is run."""
    made = []
    monkeypatch.setattr(bootstrap, "check", made.append)
    monkeypatch.setattr(bootstrap, "become", made.append)
    monkeypatch.setattr(bootstrap, "need_ensurepip", lambda: None)
    return made


@pytest.fixture
def apt(monkeypatch):
    """A machine with apt-get on which we are root; apt-get is not called."""
    made = []

    def call(command, **options):
        made.append(command)
        return 0

    monkeypatch.setattr(bootstrap.subprocess, "call", call)
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: "/usr/bin/" + name)
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 0)
    monkeypatch.setenv("DEBIAN_FRONTEND", "dialog")
    return made


# What it says


def test_help_names_the_commands():
    done = run("--help")
    assert done.returncode == 0
    for command in ("demo", "test", "buildout"):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("arguments", [(), ("nonsense",)])
def test_a_missing_or_unknown_command_is_refused_with_the_choice(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert "demo" in done.stderr and "buildout" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_older_python_is_told_which_one_is_needed(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    with pytest.raises(SystemExit) as caught:
        bootstrap.main(["test"])
    assert "needs Python 3.11 or later; this is Python 3.10" in str(caught.value)


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.10"])
def test_a_real_older_python_prints_that_message(version):
    found = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    if not found:
        pytest.skip(f"not applicable: no Python {version} to be turned away")
    done = subprocess.run(
        [str(found[0]), SCRIPT, "test"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert f"needs Python 3.11 or later; this is Python {version}" in done.stderr
    assert "Traceback" not in done.stderr


# What it sets up


def test_an_environment_is_made_once(calls, tmp_path, monkeypatch):
    venv = tmp_path / "env"

    def check(command):
        calls.append(command)
        venv.mkdir(exist_ok=True)

    monkeypatch.setattr(bootstrap, "check", check)
    python = bootstrap.prepare(str(venv), ["something"])
    assert python == str(venv / "bin" / "python")
    make, install = calls
    assert make[1:] == ["-m", "venv", "--clear", str(venv)]
    assert install[0] == python and install[-2:] == ["install", "something"]
    assert bootstrap.prepare(str(venv), ["something"]) == python
    assert len(calls) == 2


def test_this_checkout_is_installed_in_place(calls, tmp_path):
    (tmp_path / "pyvenv.cfg").touch()
    bootstrap.prepare(str(tmp_path), [bootstrap.editable("test")])
    assert calls[-1][-2:] == ["--editable", f"{ROOT}[test]"]


def test_changed_requirements_are_installed_again(calls, tmp_path, monkeypatch):
    (tmp_path / "pyvenv.cfg").touch()
    bootstrap.prepare(str(tmp_path), ["something"])
    before = len(calls)
    monkeypatch.setattr(bootstrap, "digest", lambda: "setup.py was edited")
    bootstrap.prepare(str(tmp_path), ["something"])
    assert len(calls) > before


def test_what_another_command_needs_is_added(calls, tmp_path):
    (tmp_path / "pyvenv.cfg").touch()
    bootstrap.prepare(str(tmp_path), ["something"])
    bootstrap.prepare(str(tmp_path), ["more"])
    before = len(calls)
    bootstrap.prepare(str(tmp_path), ["something", "more"])
    assert len(calls) == before


def test_a_failed_installation_is_not_taken_for_done(tmp_path, monkeypatch):
    (tmp_path / "pyvenv.cfg").touch()

    def fail(command):
        sys.exit("failed")

    monkeypatch.setattr(bootstrap, "check", fail)
    with pytest.raises(SystemExit):
        bootstrap.prepare(str(tmp_path), ["something"])
    assert bootstrap.read_stamp(str(tmp_path / "bootstrap.json")) == []


def test_a_spoilt_note_means_installing_again(tmp_path):
    stamp = tmp_path / "bootstrap.json"
    stamp.write_text('{"sources": "')
    assert bootstrap.read_stamp(str(stamp)) == []


def test_a_folder_that_is_no_environment_is_not_cleared(calls, tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(SystemExit) as caught:
        bootstrap.prepare(str(tmp_path), ["something"])
    assert "not a virtual environment" in str(caught.value)
    assert calls == []


def test_a_second_run_takes_seconds():
    marker = Path(sys.prefix) / "bootstrap.json"
    if not marker.exists():
        pytest.skip("not applicable: this Python is not from bootstrap.py")
    noted = json.loads(marker.read_text())
    if noted["sources"] != bootstrap.digest():
        pytest.skip("not applicable: setup.py was edited since")
    began = time.monotonic()
    done = run("--venv", sys.prefix, "test", "--version")
    assert done.returncode == 0
    assert "pytest" in done.stdout
    assert "installing" not in done.stderr
    assert time.monotonic() - began < 20


# What it starts


def test_tiers_become_folders_and_the_rest_goes_to_pytest():
    assert bootstrap.chosen(["unit", "crash", "-k", "unit"]) == [
        os.path.join("tests", "unit"),
        os.path.join("tests", "crash"),
        "-k",
        "unit",
    ]
    assert bootstrap.chosen(["-x"]) == ["-x"]
    assert bootstrap.chosen([]) == []


def test_the_tiers_are_the_folders_of_the_tests():
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert folders <= set(bootstrap.TIERS)


def test_the_demo_is_started_where_the_caller_is(calls, tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap, "prepare", lambda venv, requirements: "python")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.chdir(tmp_path)
    bootstrap.main(["demo", "folder", "--search", "word"])
    assert calls == [
        ["python", "-m", "examples.wordindex", "folder", "--search", "word"]
    ]
    assert os.getcwd() == str(tmp_path)
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "elsewhere"]


def test_options_of_a_command_are_its_own(calls, monkeypatch):
    monkeypatch.setattr(bootstrap, "prepare", lambda venv, requirements: "python")
    monkeypatch.chdir(ROOT)
    bootstrap.main(["test", "-k", "some thing", "--help"])
    assert calls == [["python", "-m", "pytest", "-k", "some thing", "--help"]]


# System packages


def test_system_packages_are_installed_where_that_is_allowed(apt):
    bootstrap.apt_install("python3-venv", "tests")
    update, install = apt
    assert update[-1] == "update"
    assert install[-1] == "python3-venv" and "-y" in install
    assert os.environ["DEBIAN_FRONTEND"] == "noninteractive"


def test_who_may_not_install_is_told_what_is_missing(apt, monkeypatch, capsys):
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 1000)
    bootstrap.apt_install("postgresql", "tests of RelStorage")
    assert apt == []
    assert "missing for tests of RelStorage" in capsys.readouterr().err


def test_a_missing_program_is_looked_for_before_the_tests(calls, monkeypatch):
    monkeypatch.setattr(bootstrap, "prepare", lambda venv, requirements: "python")
    monkeypatch.setattr(
        bootstrap, "SYSTEM_PACKAGES", [("no-such-program", "package", "some tests")]
    )
    asked = []
    monkeypatch.setattr(bootstrap, "apt_install", lambda *names: asked.append(names))
    monkeypatch.chdir(ROOT)
    bootstrap.main(["test"])
    assert asked == [("package", "some tests")]


def test_a_python_without_ensurepip_gets_it_from_the_system(monkeypatch):
    answers = [1, 0]
    asked = []
    monkeypatch.setattr(
        bootstrap.subprocess, "call", lambda *args, **options: answers.pop(0)
    )
    monkeypatch.setattr(bootstrap, "apt_install", lambda *names: asked.append(names))
    bootstrap.need_ensurepip()
    version = "{}.{}".format(*sys.version_info[:2])
    assert asked == [(f"python{version}-venv", "making a virtual environment")]


def test_a_python_that_stays_without_ensurepip_is_refused(monkeypatch):
    monkeypatch.setattr(bootstrap.subprocess, "call", lambda *args, **options: 1)
    monkeypatch.setattr(bootstrap, "apt_install", lambda *names: None)
    with pytest.raises(SystemExit) as caught:
        bootstrap.need_ensurepip()
    assert "ensurepip" in str(caught.value)
