# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A Zope under waitress, as a process, used through HTTP."""

import base64
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("ZPublisher", reason="Zope is not installed")
pytest.importorskip("waitress", reason="waitress is not installed")

ROOT = Path(__file__).parents[2]
SITE = """\
<configure xmlns="http://namespaces.zope.org/zope"
    xmlns:browser="http://namespaces.zope.org/browser"
    xmlns:five="http://namespaces.zope.org/five">
  <include package="Zope2.App" />
  <five:loadProducts file="meta.zcml" />
  <five:loadProducts />
  <five:loadProductsOverrides />
  <include package="zc.async" file="{policy}_dispatcher_policy.zcml" />
  {pages}
</configure>
"""
PAGE = """\
<browser:page for="*" name="{name}" class="tests.support.zopeapp.Pages"
    attribute="{name}" permission="zope2.View" />
"""
PAGES = "put put_slow put_in_conflict put_page show length"
DATABASE = """\
<zodb_db {name}>
  <filestorage>
    path {folder}/var/{name}.fs
  </filestorage>
  mount-point {mount}
</zodb_db>
"""
INI = """\
[app:main]
use = egg:Zope#main
zope_conf = {folder}/etc/zope.conf
[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = {port}
"""


class Instance:
    """A Zope instance in a folder, with the users admin, and its process."""

    def __init__(self, folder, policy, databases=("main", "async")):
        self.folder = folder
        self.output = folder / "output.txt"
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        for name in ("etc", "var"):
            (folder / name).mkdir(parents=True)
        pages = "".join(PAGE.format(name=name) for name in PAGES.split())
        self.write("site.zcml", SITE.format(policy=policy, pages=pages))
        mounts = {"main": "/", "async": "/async_mount"}
        conf = f"instancehome {folder}\n" + "".join(
            DATABASE.format(folder=folder, name=name, mount=mounts[name])
            for name in databases
        )
        self.write("zope.conf", conf)
        self.write("zope.ini", INI.format(folder=folder, port=self.port))
        # The password of `inituser`, as `mkwsgiinstance` writes it.
        (folder / "inituser").write_text("admin:secret\n")
        self.process = None

    def write(self, name, text):
        (self.folder / "etc" / name).write_text(text)

    def spawn(self):
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        environ = os.environ | {
            "PYTHONPATH": path,
            "ZC_ASYNC_UUID": str(self.folder / "uuid.txt"),
        }
        program = "from Zope2.Startup.serve import main; import sys; sys.exit(main())"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, str(self.folder / "etc/zope.ini")],
                env=environ,
                stdout=output,
                stderr=output,
            )

    def start(self):
        self.spawn()
        deadline = time.monotonic() + 60
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1):
                    return
            except OSError:
                printed = self.output.read_text()
                assert self.process.poll() is None, printed
                assert time.monotonic() < deadline, printed
                time.sleep(0.05)

    def end(self, number):
        """Send a signal; the exit status, within 30 seconds."""
        self.process.send_signal(number)
        return self.process.wait(30)

    def get(self, name, user=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{name}")
        if user is not None:
            token = base64.b64encode(f"{user}:secret".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.read().decode()

    def result(self, oid, seconds=20):
        """What became of a job, when it is completed."""
        deadline = time.monotonic() + seconds
        while True:
            shown = self.get(f"show?oid={oid}")
            if shown.startswith("completed"):
                return shown.partition(": ")[2]
            assert time.monotonic() < deadline, shown
            time.sleep(0.02)


@pytest.fixture(params=["basic", "multidb"])
def instance(request, tmp_path):
    made = Instance(tmp_path / "instance", request.param)
    made.start()
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.wait(30)


pytestmark = pytest.mark.timeout(180)


def test_jobs_are_performed_as_the_visitor_who_put_them(instance):
    oid = instance.get("put", user="admin")
    expected = f"admin http://127.0.0.1:{instance.port} "
    assert instance.result(oid) == expected
    oid = instance.get("put")
    assert instance.result(oid) == expected.replace("admin", "None", 1)


def test_pages_are_refused(instance):
    assert "put(self.context.method)" in instance.get("put_page")


def test_a_request_that_is_repeated_puts_one_job(instance):
    before = int(instance.get("length"))
    instance.result(instance.get("put_in_conflict"))
    assert int(instance.get("length")) == before + 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_jobs_end_and_the_next_start_goes_on(instance, number):
    oid = instance.get("put_slow?seconds=1")
    deadline = time.monotonic() + 20
    while not instance.get(f"show?oid={oid}").startswith("active"):
        assert time.monotonic() < deadline
    assert instance.end(number) == 0
    assert "Traceback" not in instance.output.read_text()
    instance.start()
    assert instance.get(f"show?oid={oid}") == "completed-status: lasted 1.0"
    assert instance.result(instance.get("put")).startswith("None ")


def test_after_a_kill_jobs_go_on_within_two_seconds(instance):
    oid = instance.get("put_slow?seconds=0.5")
    instance.end(signal.SIGKILL)
    instance.start()
    assert instance.result(oid, seconds=2.5) == "lasted 0.5"


def test_a_missing_database_is_told_with_what_to_add(tmp_path):
    instance = Instance(tmp_path / "instance", "multidb", databases=("main",))
    instance.spawn()
    try:
        assert instance.process.wait(60) != 0
    finally:
        if instance.process.poll() is None:
            instance.process.kill()
            instance.process.wait(30)
    printed = instance.output.read_text()
    assert "expected one named 'async'" in printed
    assert "mount-point /async_mount" in printed
