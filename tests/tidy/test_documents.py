"""What the documents say about the source is so."""

from __future__ import annotations

import ast
import re
import tomllib

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
        re.findall(r"^(\d+|[WGT]\d+)\. \*\*", (DOCS / "durability.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    cited = set()
    for path in source.python_files("vfs"):
        text = path.read_text(encoding="utf-8")
        for kind, first, last in re.findall(r"\b(?:rules? |([WGT]))(\d+)\b(?: to [WGT]?(\d+))?", text):
            cited |= {f"{kind}{number}" for number in range(int(first), int(last or first) + 1)}
    assert rules
    assert cited == rules


def test_rules_variables_and_extras_that_documents_name_exist() -> None:
    durability = (DOCS / "durability.md").read_text(encoding="utf-8")
    rules = set(re.findall(r"^([WGT]\d+)\. \*\*", durability, re.MULTILINE))
    words = {
        word for path in source.python_files("vfs") for word in re.findall(r"VFS_[A-Z_]+", path.read_text("utf-8"))
    }
    project = tomllib.loads((source.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    unknown = []
    for path in [source.ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        named = set(re.findall(r"\b[WGT]\d+\b", text)) - rules
        named |= set(re.findall(r"\bVFS_[A-Z_]+\b", text)) - words
        lists = re.findall(r"'(?:vfs-versions|\.)\[([a-z,]+)\]'", text)
        named |= {extra for found in lists for extra in found.split(",")} - extras
        unknown += [f"{source.relative(path)}: {name}" for name in sorted(named)]
    assert not unknown


def test_each_term_of_the_glossary_stands_once_and_every_document_is_linked() -> None:
    terms = re.findall(r"^- \*\*([^*]+)\*\*: ", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert 25 <= len(terms) == len(set(terms)) <= 35
    documents = [source.ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    linked = {
        (path.parent / target).resolve()
        for path in documents
        for target in re.findall(r"\]\(([^)#\s]+\.md)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    }
    assert [source.relative(path) for path in documents[1:] if path.resolve() not in linked] == []


def test_every_command_is_documented() -> None:
    commands = source.ROOT / "vfs/cli/commands"
    names = {path.stem.strip("_").replace("_", "-") for path in commands.glob("*.py") if path.stem != "__init__"}
    assert names
    rows = re.findall(r"^ {4}([a-z-]+) {2,}[A-Z]", (DOCS / "commands.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert names == set(rows)
