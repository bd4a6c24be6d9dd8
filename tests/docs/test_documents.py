"""Every Python block of the README and of docs/ runs, in order, and prints what the page says."""

import doctest
import sys
from pathlib import Path
from types import ModuleType

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

# What a user runs: without the run-time checks, which dynamo would trace where a page compiles.
pytestmark = pytest.mark.plain


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document__runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    document = Sybil([PythonCodeBlockParser(doctest_optionflags=FLAGS), SkipParser()]).parse(path)
    # A page is a module of its own: dynamo looks the globals of a function up by the name of its module.
    page = ModuleType(f"page_{path.stem}")
    monkeypatch.setitem(sys.modules, page.__name__, page)
    document.namespace = page.__dict__
    for example in document.examples():
        example.evaluate()


def test_documents__have_examples():
    # A change of the parser that finds nothing would pass every page.
    assert len(DOCUMENTS) > 1
    for path in DOCUMENTS:
        found = len(list(Sybil([PythonCodeBlockParser()]).parse(path).examples()))
        assert found >= path.read_text().count("```python"), path
