"""What the documents say about the source is so."""

from __future__ import annotations

import ast
import re

from support import source

DOCS = source.ROOT / "docs"
ROW = re.compile(r"^\| `vfs/([a-z]+(?:\.py|/))` \| ([^|]+?) \| [^|]+ \|$", re.MULTILINE)


def test_the_folder_table_is_the_folder_listing_with_the_packages_own_words() -> None:
    table = dict(ROW.findall((DOCS / "architecture.md").read_text(encoding="utf-8")))
    package = source.ROOT / "vfs"
    folders = {path.name + "/" for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(table) == folders | {"errors.py"}
    for name, question in table.items():
        module = package / name if name.endswith(".py") else package / name / "__init__.py"
        assert (ast.get_docstring(source.tree(module)) or "").startswith(question), name


def test_decisions_are_numbered_indexed_and_complete() -> None:
    folder = DOCS / "decisions"
    records = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    numbers = [re.match(r"(\d{4})-[a-z0-9-]+\.md$", path.name) for path in records]
    assert all(numbers)
    assert len({match[1] for match in numbers if match}) == len(records)
    index = (folder / "README.md").read_text(encoding="utf-8")
    for path in records:
        text = path.read_text(encoding="utf-8")
        title = text.splitlines()[0].removeprefix("# ")
        assert f"[{title}]({path.name})" in index
        sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert [name for name in ("Context", "Decision", "Cost", "Alternatives") if name not in sections] == [], (
            path.name
        )


def test_links_between_documents_lead_somewhere() -> None:
    dead = []
    for path in [source.ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]:
        targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
        dead += [f"{source.relative(path)}: {target}" for target in targets if not (path.parent / target).exists()]
    assert not dead


def test_files_and_decisions_that_are_named_exist() -> None:
    decisions = {int(path.name[:4]) for path in (DOCS / "decisions").glob("[0-9]*.md")}
    documents = [source.ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    missing = []
    for path in [*documents, *source.python_files("vfs", "tests", "scripts")]:
        text = path.read_text(encoding="utf-8")
        files = re.findall(r"(?<![\w/.])(?:vfs|tests|scripts|docs)/[\w/-]+\.(?:py|md)\b", text)
        files += re.findall(r"`((?:vfs|tests|scripts|\.ci)/[\w/.-]+)[ `]", text) if path in documents else []
        numbers = [
            int(number) for pair in re.findall(r"\bdecisions? (\d+)(?: and (\d+))?", text) for number in pair if number
        ]
        missing += [f"{source.relative(path)}: {name}" for name in files if not (source.ROOT / name).exists()]
        missing += [f"{source.relative(path)}: decision {number}" for number in numbers if number not in decisions]
    assert not missing


def test_the_source_cites_every_rule_of_durability_and_no_other() -> None:
    rules = set(
        re.findall(r"^(\d+|[WG]\d+)\. \*\*", (DOCS / "durability.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    cited = set()
    for path in source.python_files("vfs"):
        text = path.read_text(encoding="utf-8")
        for kind, first, last in re.findall(r"\b(?:rules? |([WG]))(\d+)\b(?: to [WG]?(\d+))?", text):
            cited |= {f"{kind}{number}" for number in range(int(first), int(last or first) + 1)}
    assert rules
    assert cited == rules


def test_every_command_is_documented() -> None:
    commands = source.ROOT / "vfs/cli/commands"
    names = {path.stem.strip("_").replace("_", "-") for path in commands.glob("*.py") if path.stem != "__init__"}
    assert names
    rows = re.findall(r"^ {4}([a-z-]+) {2,}[A-Z]", (DOCS / "commands.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert names == set(rows)
