"""Which modules a script reaches, by the standard library's modulefinder: the oracle of code_hash."""

import re
from modulefinder import ModuleFinder
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def scripts_as_they_run(target: Path) -> Path:
    """The scripts without what only type checkers read, which modulefinder would follow."""
    for file in SCRIPTS.rglob("*.py"):
        (target / file.relative_to(SCRIPTS)).parent.mkdir(parents=True, exist_ok=True)
        text = re.sub(r"^if TYPE_CHECKING:\n(?:    .*\n|\n)+", "", file.read_text(), flags=re.M)
        (target / file.relative_to(SCRIPTS)).write_text(text)
    return target.resolve()


def reached_modules(script: str, scripts: Path) -> dict[str, Path]:
    """Modules of latentree that a script imports, by name, with the file relative to the scripts."""
    finder = ModuleFinder(path=[str(scripts)])
    finder.run_script(str(scripts / script))
    return {
        name: Path(module.__file__).relative_to(scripts)
        for name, module in finder.modules.items()
        if name.startswith("latentree")
    }
