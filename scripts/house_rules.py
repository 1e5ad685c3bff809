"""Holds the Python files of the repository to the house rules that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 500
NAMES_REFUSED = {"utils", "util", "helpers", "helper", "common", "misc"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")


def broken_rules(path: Path) -> Iterator[str]:
    """One line per broken rule, beginning with the place."""
    text = path.read_text()
    lines = text.splitlines()
    if path.stem in NAMES_REFUSED:
        yield f"{path}: a module is named by a noun of the domain"
    if len(lines) > MODULE_LINES_MAX:
        yield f"{path}: {len(lines)} lines, at most {MODULE_LINES_MAX}"
    for number, line in enumerate(lines, 1):
        if UNFINISHED.search(line) and path.name != Path(__file__).name:
            yield f"{path}:{number}: unfinished"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LINES_MAX}"


def main() -> None:
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.py"]
    names = subprocess.run(listing, capture_output=True, check=True, text=True).stdout.split("\0")
    broken = [line for name in names if name and Path(name).exists() for line in broken_rules(Path(name))]
    if broken:
        sys.exit("\n".join(broken))
    print(f"house rules kept by {len(names) - 1} files")


if __name__ == "__main__":
    main()
