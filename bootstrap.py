# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Set zc.async up in this folder, and run it.

Needs Python 3.11 or later and nothing else: dependencies go into the folder .venv,
from the package index.  Only the first run takes its time.
"""

# This file has to compile on old Pythons, to tell them that they are too old.

import argparse
import glob
import hashlib
import json
import os
import shutil
import subprocess
import sys

MINIMUM = (3, 11)
ROOT = os.path.dirname(os.path.abspath(__file__))
TIERS = ("unit", "integration", "functional", "crash", "stress")
# What decides whether an environment is still the right one.
SOURCES = ("setup.py", "pyproject.toml")
# Programs that only some tests need: (program, Debian package, who needs it).
SYSTEM_PACKAGES = (("initdb", "postgresql", "the tests on PostgreSQL"),)
# Where Debian keeps programs that are not on the path.
PROGRAMS = "/usr/lib/postgresql/*/bin"
# What the tests of all tiers need.
TEST_EXTRAS = ("test", "zope", "zeo", "relstorage")

COMMANDS = """\
commands:
  demo [FOLDER] ...    build a word index of the texts in FOLDER, by durable jobs;
                       "demo --help" lists its options
  test [TIER ...] ...  run the tests, all or those of some tiers; what follows goes
                       to pytest; tiers: %s
  buildout ...         build bin/test and the interpreter bin/py with zc.buildout
""" % ", ".join(TIERS)


def main(arguments=None):
    check_version()
    parser = argparse.ArgumentParser(
        prog="bootstrap.py",
        description=__doc__,
        epilog=COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--venv",
        metavar="FOLDER",
        help="the environment to make and to use (default: .venv, or .venv-buildout)",
    )
    parser.add_argument(
        "command", choices=["demo", "test", "buildout"], help="what to do"
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the command")
    options = parser.parse_args(arguments)
    command = {"demo": demo, "test": test, "buildout": buildout}[options.command]
    command(options.arguments, options.venv)


def check_version():
    if sys.version_info < MINIMUM:
        sys.exit(
            "zc.async needs Python %d.%d or later; this is Python %d.%d (%s).\n"
            "Start bootstrap.py with a newer one, for instance: python%d.%d %s"
            % (
                MINIMUM
                + tuple(sys.version_info[:2])
                + (sys.executable,)
                + MINIMUM
                + (" ".join(sys.argv),)
            )
        )


def demo(arguments, venv):
    python = prepare(venv or in_root(".venv"), [editable()])
    # The working folder stays, since FOLDER may be relative to it.
    path = [ROOT] + [p for p in [os.environ.get("PYTHONPATH")] if p]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    become([python, "-m", "examples.wordindex"] + arguments)


def test(arguments, venv):
    for program, package, needed_by in SYSTEM_PACKAGES:
        if not is_installed(program):
            apt_install(package, needed_by)
    python = prepare(venv or in_root(".venv"), [editable(*TEST_EXTRAS)])
    os.chdir(ROOT)
    become([python, "-m", "pytest"] + chosen(arguments))


def buildout(arguments, venv):
    python = prepare(venv or in_root(".venv-buildout"), ["zc.buildout>=5"])
    os.chdir(ROOT)
    become([os.path.join(os.path.dirname(python), "buildout")] + arguments)


def chosen(arguments):
    """The arguments for pytest: leading names of tiers become their folders."""
    rest = list(arguments)
    folders = []
    while rest and rest[0] in TIERS:
        folders.append(os.path.join("tests", rest.pop(0)))
    return folders + rest


def in_root(name):
    return os.path.join(ROOT, name)


def editable(*extras):
    """The requirement of this very checkout, with extras."""
    return ROOT + ("[%s]" % ",".join(extras) if extras else "")


def become(command):
    """Run `command` in place of this process, so that signals reach it."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        os.execv(command[0], command)
    sys.exit(subprocess.call(command))


# Environments


def prepare(venv, requirements):
    """Return the Python of an environment that has `requirements`.

    What was installed is noted in the environment, so that this takes no time when
    nothing has changed.
    """
    venv = os.path.abspath(venv)
    python = python_of(venv)
    stamp = os.path.join(venv, "bootstrap.json")
    installed = read_stamp(stamp)
    if set(requirements) <= set(installed):
        return python
    if version_of(python) != list(sys.version_info[:2]):
        make_environment(venv)
    say("installing into %s (only the first time)" % venv)
    pip = [python, "-m", "pip", "-qq", "--disable-pip-version-check", "install"]
    for requirement in requirements:
        pip += ["--editable"] * requirement.startswith(ROOT) + [requirement]
    check(pip)
    write_stamp(stamp, set(installed) | set(requirements))
    return python


def python_of(venv):
    if os.name == "posix":
        return os.path.join(venv, "bin", "python")
    return os.path.join(venv, "Scripts", "python.exe")


def version_of(python):
    """Major and minor version, or None when that Python does not work."""
    program = "import json, sys; print(json.dumps(sys.version_info[:2]))"
    try:
        return json.loads(subprocess.check_output([python, "-c", program]))
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None


def make_environment(venv):
    is_ours = os.path.exists(os.path.join(venv, "pyvenv.cfg"))
    if os.path.exists(venv) and os.listdir(venv) and not is_ours:
        sys.exit("%s is in the way: it is not a virtual environment." % venv)
    need_ensurepip()
    say("making the environment %s for %s" % (venv, sys.executable))
    check([sys.executable, "-m", "venv", "--clear", venv])


def need_ensurepip():
    """Debian ships Python without what `python3 -m venv` needs."""
    works = [sys.executable, "-c", "import ensurepip"]
    if subprocess.call(works, stderr=subprocess.DEVNULL) == 0:
        return
    package = "python%d.%d-venv" % tuple(sys.version_info[:2])
    apt_install(package, "making a virtual environment")
    if subprocess.call(works, stderr=subprocess.DEVNULL) != 0:
        sys.exit("This Python cannot make virtual environments: no ensurepip.")


def read_stamp(path):
    """What `prepare` installed, as far as it is still good."""
    try:
        with open(path) as file:
            noted = json.load(file)
    except (OSError, ValueError):
        return []
    return noted["installed"] if noted.get("sources") == digest() else []


def write_stamp(path, requirements):
    with open(path, "w") as file:
        json.dump({"sources": digest(), "installed": sorted(requirements)}, file)


def digest():
    """Changes with the Python at work and with whatever names dependencies."""
    seen = hashlib.sha256(repr(sys.version_info[:2]).encode())
    for name in SOURCES:
        with open(in_root(name), "rb") as file:
            seen.update(file.read())
    return seen.hexdigest()


# System packages


def is_installed(program):
    return shutil.which(program) or glob.glob(os.path.join(PROGRAMS, program))


def apt_install(package, needed_by):
    """Install a Debian package where that is allowed; else say what is missing."""
    if os.name != "posix" or os.geteuid() != 0 or not shutil.which("apt-get"):
        say("missing for %s: apt-get install %s" % (needed_by, package))
        return
    say("installing the system's package %s for %s" % (package, needed_by))
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    for words in (["update"], ["install", "-y", "--no-install-recommends", package]):
        code = subprocess.call(["apt-get", "-qq"] + words, stdin=subprocess.DEVNULL)
        if code != 0:
            say("apt-get %s failed (%d)" % (" ".join(words), code))


def check(command):
    code = subprocess.call(command)
    if code != 0:
        sys.exit("bootstrap.py: failed (%d): %s" % (code, " ".join(command)))


def say(words):
    sys.stderr.write("bootstrap.py: %s\n" % words)
    sys.stderr.flush()


if __name__ == "__main__":
    main()
