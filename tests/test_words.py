"""The words of the package: the checker passes, and it sees what it is there for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "check_words.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_package_keeps_the_limits_on_words() -> None:
    checked = run()
    assert checked.returncode == 0, checked.stdout


def test_each_kind_of_bad_word_is_found_where_it_stands(tmp_path: Path) -> None:
    docstring = (
        "Return what a model, whose weights nobody knows, says to us who query; a what-if not."
    )
    (tmp_path / "one.py").write_text(
        f'''"""{docstring}"""

class Twice:
    def run(self, asked):
        found = 1
        raise ValueError(f"{{found}} '''
        + "long " * 50
        + """")
"""
    )
    (tmp_path / "two.py").write_text("class Twice:\n    pass\n")
    checked = run("--list", "", str(tmp_path))
    assert checked.returncode == 1
    assert checked.stdout.count("one.py:1: ") == 3 + 1  # three clauses and one long line
    assert "one.py:4: asked" in checked.stdout
    assert "one.py:5: found" in checked.stdout
    assert "Twice, also" in checked.stdout
    assert "long messages: 1" in checked.stdout
