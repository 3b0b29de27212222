# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Metadata, dependencies and files of the distribution `zc.async`.

DEVELOP.txt says what each dependency is for.
"""

from pathlib import Path

from setuptools import find_namespace_packages, setup

HERE = Path(__file__).parent
DOC_TYPES = (".txt", ".png", ".svg")


def text(*names):
    return "\n\n".join((HERE / name).read_text("utf-8") for name in names)


def documents(folder="docs", target="share/doc/zc.async"):
    """The documents as `data_files`: a wheel installs them below its prefix."""
    found = {}
    for path in sorted((HERE / folder).rglob("*")):
        if path.suffix in DOC_TYPES:
            place = Path(target) / path.parent.relative_to(HERE / folder)
            found.setdefault(place.as_posix(), []).append(
                path.relative_to(HERE).as_posix()
            )
    return [*found.items(), (target, ["README.txt", "CHANGES.txt"])]


ZOPE = ["Zope>=6"]
ZEO = ["ZEO>=6"]
RELSTORAGE = ["RelStorage>=4", "psycopg2-binary"]
PLONE = ["Products.CMFPlone>=6.2"]
TEST = [
    "build",
    "coverage[toml]>=7",
    "docutils>=0.20",
    "hypothesis>=6",
    "mypy>=1.11",
    "pytest>=8.3",
    "pytest-timeout>=2.3",
    "pytz",
    "ruff>=0.6",
    "setuptools>=77",
    "waitress",
    "zope.testing",
]

setup(
    name="zc.async",
    version="2.0.0a1",
    description="Durable asynchronous jobs for ZODB applications, Zope and Plone",
    long_description=text("README.txt", "CHANGES.txt"),
    long_description_content_type="text/x-rst",
    author="Zope Foundation and Contributors",
    license="ZPL-2.1",
    license_files=["LICENSE.txt"],
    keywords="asynchronous jobs queue worker ZODB Zope Plone transaction",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Framework :: ZODB",
        "Framework :: Zope",
        "Framework :: Zope :: 5",
        "Intended Audience :: Developers",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Programming Language :: Python :: Implementation :: CPython",
        "Topic :: Database",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    package_dir={"": "src"},
    packages=find_namespace_packages("src", include=["zc.*"]),
    package_data={
        "": ["py.typed", "*.zcml", "*.pt", "*.pyi"],
        "zc.async": ["locales/**/*", "browser/static/**/*"],
    },
    data_files=documents(),
    zip_safe=False,
    install_requires=[
        "BTrees>=5",
        "persistent>=5",
        "transaction>=4",
        "Twisted>=23.8",
        "ZODB>=5.8",
        "zodbpickle",
        "zope.component[zcml]>=6",
        "zope.configuration>=5",
        "zope.event",
        "zope.i18nmessageid",
        "zope.interface>=6",
        "zope.processlifetime",
    ],
    extras_require={
        "zope": ZOPE,
        "zeo": ZEO,
        "relstorage": RELSTORAGE,
        "plone": PLONE,
        "test": TEST,
    },
)
