"""The import closure of a script, against the standard library's modulefinder."""

from pathlib import Path

import pytest

from closure_oracle import SCRIPTS, reached_modules, scripts_as_they_run
from latentree.code_hash import code_hash, import_closure


@pytest.fixture
def library(tmp_path):
    files = {
        "run.py": "def f():\n    from latentree.top import go\n",
        "latentree/__init__.py": "",
        "latentree/top.py": "from latentree.parts import one\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import latentree.only_types\n",
        "latentree/parts/__init__.py": "",
        "latentree/parts/one.py": "from . import two\nfrom .deep.three import x\n",
        "latentree/parts/two.py": "",
        "latentree/parts/deep/__init__.py": "",
        "latentree/parts/deep/three.py": "x = 1\n",
        "latentree/parts/page.html": "<p>",
        "latentree/only_types.py": "",
        "latentree/unused.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(folder, script):
    return {str(path.relative_to(folder.resolve())) for path in import_closure(script)}


def test_closure_follows_lazy_relative_and_package_imports(library):
    assert names(library, library / "run.py") == {
        "run.py",
        "latentree/__init__.py",
        "latentree/top.py",
        "latentree/parts/__init__.py",
        "latentree/parts/one.py",
        "latentree/parts/two.py",
        "latentree/parts/deep/__init__.py",
        "latentree/parts/deep/three.py",
        "latentree/parts/page.html",
    }


@pytest.mark.parametrize("name", ["run.py", "latentree/parts/deep/three.py", "latentree/parts/page.html"])
def test_hash_changes_with_any_file_reached(library, name):
    before = code_hash(library / "run.py")
    (library / name).write_text((library / name).read_text() + "\n# changed\n")
    assert code_hash(library / "run.py") != before


@pytest.mark.parametrize("name", ["latentree/unused.py", "latentree/only_types.py"])
def test_hash_ignores_what_is_not_reached(library, name):
    before = code_hash(library / "run.py")
    (library / name).write_text("y = 2\n")
    assert code_hash(library / "run.py") == before


def test_a_module_of_the_library_has_a_closure_too(library):
    module = library / "latentree" / "parts" / "one.py"
    reached = {str(path.relative_to(library.resolve())) for path in import_closure(module, library)}
    parts = {"__init__", "one", "two", "deep/__init__", "deep/three"}
    assert reached == {
        "latentree/__init__.py",
        *(f"latentree/parts/{name}.py" for name in parts),
        "latentree/parts/page.html",
    }
    before = code_hash(module, library)
    (library / "latentree" / "top.py").write_text("y = 2\n")
    assert code_hash(module, library) == before
    (library / "latentree" / "parts" / "two.py").write_text("y = 2\n")
    assert code_hash(module, library) != before


def test_hash_does_not_depend_on_where_the_checkout_lies(library, tmp_path_factory):
    other = tmp_path_factory.mktemp("elsewhere") / "copy"
    library.rename(other)
    here = code_hash(other / "run.py")
    other.rename(library)
    assert code_hash(library / "run.py") == here


@pytest.fixture(scope="module")
def as_it_runs(tmp_path_factory):
    return scripts_as_they_run(tmp_path_factory.mktemp("scripts"))


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_closure_of_every_rule_script_equals_modulefinder(script, as_it_runs):
    reached = {path.relative_to(SCRIPTS) for path in import_closure(script) if path.suffix == ".py"}
    expected = set(reached_modules(script.name, as_it_runs).values())
    assert reached == expected | {Path(script.name)}
