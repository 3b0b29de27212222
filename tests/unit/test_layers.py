# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Imports within the package point downwards, at the top of the file.

A new module goes into `LAYERS`; the test says so when it is missing.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "zc" / "async"

# From the bottom.  A module may import from its own layer and from those before it.
LAYERS = {
    "vocabulary": "errors clock status utils",
    "contracts": "interfaces events",
    "mechanisms": """
        containers failure transactions adapters instanceuuid threadlocal
        callables compact companion frozen ghosts keys standin storable tracebacks
        """,
    "persistent model": """
        retry callbacks quota pending membership job queue agent composition
        call callingback inbox interruption jobcallbacks jobpolicy jobstate jobtimes
        observing performance waiting
        buckets claiming housekeeping selection
        """,
    "runtime": """
        polls totals stats jobinfo records performer pool wakeup dispatcher
        enrolment holding loops orphans pinger poller siblings
        batches culprits durations members rounds shared
        """,
    "wiring": """
        subscribers configure reports zopecontext
        registrations shutdown starting zopejob
        """,
    "edges": """
        monitor monitordb cli browser testing
        testingenvironment testinginline testinglogs testingreactor testingwaits
        """,
}
HEIGHT = {
    module: height
    for height, modules in enumerate(LAYERS.values())
    for module in modules.split()
}

# Imports inside functions: (module, what it imports) -> the reason.
LATE_IMPORTS = {
    ("", "zc.async.*"): "submodules are imported when they are first asked for",
    ("job", "zc.async.*"): "serial and parallel, published here since release 1.5",
    ("", "zc.async.threadlocal"): "`local` is an object of this module",
    ("starting", "twisted.internet"): "importing the application's reactor installs it",
}

# What setup.py requires, by the names that are imported.
REQUIRED = {
    "BTrees",
    "persistent",
    "transaction",
    "twisted",
    "ZODB",
    "zodbpickle",
    "zope.component",
    "zope.configuration",
    "zope.event",
    "zope.i18nmessageid",
    "zope.interface",
    "zope.processlifetime",
}
# Required, though no Python code of the package imports it.
USED_OTHERWISE = {
    "zope.configuration": "reads the ZCML files",
    "zope.i18nmessageid": "makes texts in ZCML files and pages translatable",
}
# What only some installations have: module -> the names it may import.
OPTIONAL: dict[str, set[str]] = {
    "zopecontext": {
        "AccessControl", "Acquisition", "ZPublisher", "zope.globalrequest",
        "zope.publisher", "zope.traversing",
    },
    "zopejob": {"AccessControl", "Acquisition", "ZPublisher", "zope.publisher"},
}  # fmt: skip

# A server that resolves conflicts has no more than this.
SERVER = {"BTrees", "persistent", "ZODB"}


class Import(NamedTuple):
    """`module` imports `target`, a full dotted name, at `line`."""

    module: str
    target: str
    line: int
    late: bool
    absolute: bool

    @property
    def inner(self):
        """The part of our package that is imported; None for other packages."""
        for package in ("zc.async", "zc.async_"):
            if self.target == package:
                return ""
            if self.target.startswith(package + "."):
                return self.target[len(package) + 1 :].split(".")[0]
        return None

    def __str__(self):
        return f"{self.module or '__init__'}, line {self.line}: {self.target}"


def imports_of(module, source, is_package=False):
    """Yield each `Import` of the module `zc.async.<module>` with this source."""
    package = ["zc", "async", *filter(None, module.split("."))]
    if not is_package:
        package.pop()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)

    def visit(node, late):
        for target, absolute in _targets(node, package):
            yield Import(module, target, node.lineno, late, absolute)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, late or isinstance(node, functions))

    yield from visit(ast.parse(source), False)


def _targets(node, package):
    """The dotted names that one syntax node imports, each with: is it absolute?"""
    if isinstance(node, ast.Import):
        return [(name.name, True) for name in node.names]
    if isinstance(node, ast.ImportFrom):
        return _from_targets(node, package)
    if isinstance(node, ast.Call):
        function = ast.unparse(node.func).split(".")[-1]
        if function in ("import_module", "__import__") and node.args:
            return _called_targets(node.args, package)
    return []


def _from_targets(node, package):
    if not node.level:
        if node.module in ("zc", "zope"):  # from zope import component
            return [(f"{node.module}.{name.name}", True) for name in node.names]
        return [(node.module, True)]
    base = package[: len(package) - node.level + 1]
    if node.module:
        return [(".".join([*base, node.module]), False)]
    return [(".".join([*base, name.name]), False) for name in node.names]


def _called_targets(arguments, package):
    """What `import_module` is called for, if that can be told by reading."""
    name = arguments[0]
    if isinstance(name, ast.Constant) and not name.value.startswith("."):
        return [(name.value, True)]
    if len(arguments) == 1:  # a name that came from elsewhere, a callable's maybe
        return []
    inner = name.value.lstrip(".") if isinstance(name, ast.Constant) else "*"
    return [(".".join([*package, inner]), False)]


def _module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _top(module):
    return module.split(".")[0]


def _all_imports():
    for path in sorted(PACKAGE.rglob("*.py")):
        is_package = path.name == "__init__.py"
        yield from imports_of(_module_name(path), path.read_text(), is_package)


IMPORTS = list(_all_imports())


def climbing(imports):
    """Those that import from a layer above their own."""
    return [
        found
        for found in imports
        if found.inner in HEIGHT
        and _top(found.module) in HEIGHT
        and HEIGHT[found.inner] > HEIGHT[_top(found.module)]
    ]


def circle(graph):
    """Return a list of modules that import each other in a circle, or None.

    `graph` maps a module to the modules it imports.
    """
    done = set()

    def walk(module, path):
        if module in path:
            return path[path.index(module) :] + [module]
        if module in done:
            return None
        for other in sorted(graph.get(module, ())):
            found = walk(other, path + [module])
            if found:
                return found
        done.add(module)
        return None

    return next(filter(None, (walk(module, []) for module in sorted(graph))), None)


def graph_of(imports):
    graph = {}
    for found in imports:
        if found.inner and found.inner != _top(found.module):
            graph.setdefault(_top(found.module), set()).add(found.inner)
    return graph


def foreign(found):
    """The name of the package of others that is imported, or None.

    Two parts of it for the namespaces zope and zc; None for the standard library.
    """
    parts = found.target.split(".")
    if found.inner is not None or parts[0] in sys.stdlib_module_names:
        return None
    return ".".join(parts[:2]) if parts[0] in ("zope", "zc") else parts[0]


def listed(imports):
    return "\n".join(str(found) for found in imports)


# The package


def test_every_module_has_its_layer():
    modules = {_top(_module_name(path)) for path in PACKAGE.rglob("*.py")} - {""}
    assert modules <= set(HEIGHT), "add to LAYERS"


def test_imports_point_downwards():
    assert not climbing(IMPORTS), listed(climbing(IMPORTS))


def test_imports_form_no_circle():
    assert circle(graph_of(IMPORTS)) is None


def test_the_package_imports_itself_by_relative_names():
    wrong = [found for found in IMPORTS if found.absolute and found.inner is not None]
    assert not wrong, listed(wrong)


def test_imports_in_functions_have_a_written_reason():
    late = [found for found in IMPORTS if found.late]
    unknown = [
        found for found in late if (found.module, found.target) not in LATE_IMPORTS
    ]
    assert not unknown, listed(unknown)


def test_no_reason_is_left_for_a_late_import_that_went():
    assert set(LATE_IMPORTS) <= {(found.module, found.target) for found in IMPORTS}


def test_only_what_setup_requires_is_imported():
    wrong = [
        found
        for found in IMPORTS
        if foreign(found)
        and foreign(found) not in REQUIRED | OPTIONAL.get(_top(found.module), set())
    ]
    assert not wrong, listed(wrong)


def test_setup_requires_what_is_imported():
    requirements = (ROOT / "setup.py").read_text().partition("install_requires=")[2]
    requirements = requirements.partition("\n    ],")[0].lower()
    for name in REQUIRED:
        assert f'"{name.lower()}' in requirements


def test_what_setup_requires_is_used():
    used = {foreign(found) for found in IMPORTS} | set(USED_OTHERWISE)
    assert REQUIRED <= used


def test_pending_needs_no_more_than_a_conflict_resolving_server_has():
    graph = graph_of(IMPORTS)
    reached, waiting = {""}, ["pending"]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting.extend(graph.get(module, ()))
    wrong = [
        found
        for found in IMPORTS
        if found.module in reached and foreign(found) and foreign(found) not in SERVER
    ]
    assert not wrong, listed(wrong)


def test_pending_can_be_imported_without_the_other_dependencies():
    program = """
import importlib, sys
for name in ("twisted", "zope.component", "zope.configuration", "zope.schema"):
    sys.modules[name] = None  # importing it is an ImportError
importlib.import_module("zc.async.pending")
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", program]
    subprocess.run(command, env=environment, check=True, timeout=60)


# These checks see what they look for


def test_relative_imports_are_resolved():
    source = "from . import job, queue\nfrom .clock import utcnow\nfrom .. import x"
    targets = [found.target for found in imports_of("agent", source)]
    assert targets == ["zc.async.job", "zc.async.queue", "zc.async.clock", "zc.x"]


def test_relative_imports_of_a_subpackage_are_resolved():
    source = "from . import views\nfrom ..reports import overview"
    targets = [found.inner for found in imports_of("browser", source, True)]
    assert targets == ["browser", "reports"]


def test_a_climbing_import_is_seen():
    found = climbing(imports_of("failure", "from .dispatcher import get"))
    assert [str(each) for each in found] == ["failure, line 1: zc.async.dispatcher"]


def test_a_climbing_import_of_a_subpackage_is_seen():
    assert climbing(imports_of("reports", "from .browser.views import Page"))


def test_imports_of_the_same_layer_or_a_lower_one_are_allowed():
    source = "from .job import Job\nfrom . import clock"
    assert not climbing(imports_of("queue", source))


def test_an_import_in_a_function_is_seen():
    source = "class A:\n  def b(self):\n    if self:\n      from . import job"
    assert [found.late for found in imports_of("queue", source)] == [True]


def test_an_import_in_a_condition_of_the_module_is_not_late():
    source = "try:\n  import fcntl\nexcept ImportError:\n  fcntl = None"
    assert [found.late for found in imports_of("queue", source)] == [False]


@pytest.mark.parametrize(
    "source",
    [
        "import zc.async_.job",
        "from zc.async_ import job",
        "from zc import async_",
        "from zc.async_.job import Job",
        "import importlib\nimportlib.import_module('zc.async.job')",
    ],
)
def test_an_absolute_import_of_the_package_is_seen(source):
    found = list(imports_of("queue", source))[-1]
    assert found.absolute and found.inner is not None


def test_a_circle_is_seen():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}}) is None


def test_packages_of_others_are_named():
    source = "import os, twisted.internet.defer, zope.event, zc.lockfile\n"
    source += "from zope import component\nfrom . import job"
    found = [foreign(each) for each in imports_of("agent", source)]
    assert found == [
        None,
        "twisted",
        "zope.event",
        "zc.lockfile",
        "zope.component",
        None,
    ]
