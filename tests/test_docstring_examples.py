"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import pytest

import torchbank

# What a user runs, not what they import.
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(torchbank.__path__, prefix="torchbank.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples__run(name: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=flags)
    assert not failed


def test_public_names__have_docstrings_and_exist() -> None:
    packages = [name for name in MODULES if hasattr(importlib.import_module(name), "__path__")]
    for package in map(importlib.import_module, packages):
        for name in package.__all__:
            assert hasattr(package, name), f"{package.__name__}.__all__ names {name}, which is not there"
            value = getattr(package, name)
            if callable(value) and getattr(value, "__module__", "").startswith("torchbank"):
                assert value.__doc__, f"{package.__name__}.{name} has no docstring"
