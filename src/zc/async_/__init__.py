# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""`zc.async_`: the name under which Python code can import `zc.async`.

`import zc.async` is a syntax error, since `async` is a keyword.  This module makes
`zc.async_` and `zc.async_.anything` the very same module objects as `zc.async` and
`zc.async.anything`: one copy of each class, and pickles that name the real module.
"""

# Few imports: another thread that imports `zc.async_.anything` before `_install` has
# run does not find it.  (`from zc.async_ import anything` waits.)
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType

ALIAS = "zc.async_"
REAL = "zc.async"

_IMPORT_ATTRIBUTES = (
    "__spec__",
    "__loader__",
    "__package__",
    "__path__",
    "__file__",
    "__cached__",
)


class AliasLoader(importlib.abc.Loader):
    """Hands out the real module where its alias is imported."""

    def __init__(self, real: str) -> None:
        self.real = real
        self.attributes: dict[str, object] = {}

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.real)
        present = vars(module)
        self.attributes = {
            name: present[name] for name in _IMPORT_ATTRIBUTES if name in present
        }
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Undo what the import system wrote: the module stays the real one."""
        for name in _IMPORT_ATTRIBUTES:
            if name in self.attributes:
                setattr(module, name, self.attributes[name])
            else:
                vars(module).pop(name, None)

    def get_code(self, fullname: str) -> CodeType | None:
        """The code of the real module, for `python -m zc.async_.something`."""
        spec = importlib.util.find_spec(self.real)
        get_code = getattr(spec and spec.loader, "get_code", None)
        if get_code is None:
            raise ImportError(f"no code for {fullname}", name=fullname)
        return get_code(self.real)


class AliasFinder(importlib.abc.MetaPathFinder):
    """Finds `zc.async_.anything` wherever `zc.async.anything` is found."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(ALIAS + "."):
            return None
        real = REAL + fullname[len(ALIAS) :]
        found = importlib.util.find_spec(real)
        if found is None:
            return None
        return importlib.machinery.ModuleSpec(
            fullname,
            AliasLoader(real),
            origin=found.origin,
            is_package=found.submodule_search_locations is not None,
        )


def _install() -> ModuleType:
    """Put the finder first and the real package in the alias's place, once."""
    if not any(isinstance(finder, AliasFinder) for finder in sys.meta_path):
        # Before the path finder: it would find the files through the real
        # package's __path__ and load second copies of them.
        sys.meta_path.insert(0, AliasFinder())
    package = importlib.import_module(REAL)
    sys.modules[ALIAS] = package
    return package


_package = _install()


def __getattr__(name: str) -> object:
    """For tools that hold on to this module object instead of `sys.modules`."""
    return getattr(_package, name)


def __dir__() -> list[str]:
    return dir(_package)
