"""The rooms of `pipeline` and `engine`, drawn from their imports: ``python -m tests.rooms ARCHITECTURE.md``.

The drawing stands in ARCHITECTURE.md between two marks. `make map` draws it again; a test fails when it is
not what the imports are.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- rooms: begin (make map) -->", "<!-- rooms: end -->"
PACKAGES = ("engine", "pipeline")


def room_of(module):
    """The room that a module is in: `engine`, a package below `pipeline`, or a file at its root."""
    names = module.split(".")
    return ".".join(names[:2]) if names[0] == "pipeline" and len(names) > 1 else names[0]


def arrows():
    """Which rooms each room imports from, by room."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    found = {room_of(module): set() for module in graph.modules if module != "pipeline"}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            if module != "pipeline" and room_of(module) != room_of(imported) and imported != "pipeline":
                found[room_of(module)].add(room_of(imported))
    return found


def floors(found):
    """The floor of each room: one above the highest that it imports from, from 0; no room is in a circle."""
    heights = {}
    while len(heights) < len(found):
        ready = [r for r in found if r not in heights and all(i in heights for i in found[r])]
        if not ready:
            raise ValueError(f"rooms in a circle: {sorted(set(found) - set(heights))}")
        heights |= {r: 1 + max((heights[i] for i in found[r]), default=-1) for r in ready}
    return heights


def path_of(room):
    """The path of a room below the project's root: a folder, or a module."""
    path = room.replace(".", "/")
    return f"{path}/" if (ROOT / path).is_dir() else f"{path}.py"


def sentence(room):
    """The first line of a room's docstring."""
    path = ROOT / path_of(room)
    path = path / "__init__.py" if path.is_dir() else path
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def drawing():
    """The rooms from the top floor down, with what each imports."""
    found = arrows()
    heights = floors(found)
    lines = ["| floor | room | what it is | imports from |", "| --: | --- | --- | --- |"]
    for room in sorted(found, key=lambda r: (-heights[r], r)):
        imports = ", ".join(i.removeprefix("pipeline.") for i in sorted(found[room]))
        lines.append(f"| {heights[room]} | `{path_of(room)}` | {sentence(room)} | {imports} |")
    return "\n".join(lines)


def drawn(text):
    """A page with the drawing as it has to be now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{drawing()}\n{END}{after}"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(drawn(page.read_text(encoding="utf-8")), encoding="utf-8")
