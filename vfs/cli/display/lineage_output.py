"""A lineage in the terminal, as a tree from its target; and as a graph in the language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vfs.cli.display.run_output import code_text, command_text, metrics_text
from vfs.cli.display.version_format import first_line, one_line, short_id
from vfs.cli.terminal.columns import cut
from vfs.cli.terminal.output import style
from vfs.formats.quantities import human_count, human_size
from vfs.model.ids import SHORT_HEX
from vfs.model.names import show_path
from vfs.repo.lineage.lineage_nodes import Edge, FileNode, Lineage, Node, RunNode, VersionNode
from vfs.repo.runs.run_tables import Written

_CAME_WITH_SHOWN = 5
_WRITTEN_SHOWN = 5
_DOT_LABEL_MAX = 80
_EXACT = frozenset({"pinned", "working", "snapshot"})
_CHANGED = "exact, with uncommitted changes over it"
_HOW = {
    "seen": "by the names that it used",
    "first-seen": "not exact: equal files in several versions",
    "by-number": "not exact: by number, its commit is not here",
}


class _Line(NamedTuple):
    text: str
    node: str
    """The node whose edges follow it, empty for none."""


def tree_lines(graph: Lineage, width: int | None) -> Iterator[str]:
    """Yields the lines of a graph as a tree, cut to a width if there is one; what is below a node comes once."""
    children: dict[str, list[Edge]] = {}
    for edge in graph.edges:
        children.setdefault(_from(graph, edge), []).append(edge)
    yield _fit(_node_text(graph, graph.nodes[graph.target]), width)
    shown = {graph.target}
    # A stack, as chains of runs may be longer than Python's.
    stack = [(iter(_lines_below(graph, graph.target, children)), "")]
    while stack:
        lines, indent = stack[-1]
        line, is_last = next(lines, (None, True))
        if line is None:
            stack.pop()
            continue
        again = bool(line.node) and line.node in shown and _has_below(graph, line.node, children)
        mark = f"  {style('(above)', 'dim')}" if again else ""
        yield _fit(f"{indent}{'└─' if is_last else '├─'} {line.text}{mark}", width)
        if line.node and not again:
            shown.add(line.node)
            below = indent + ("   " if is_last else "│  ")
            stack.append((iter(_lines_below(graph, line.node, children)), below))


def _has_below(graph: Lineage, node: str, children: dict[str, list[Edge]]) -> bool:
    found = graph.nodes[node]
    return bool(children.get(node)) or (
        graph.direction == "used-by" and isinstance(found, RunNode) and bool(found.written)
    )


def _fit(line: str, width: int | None) -> str:
    # What has colours is left to the terminal to break.
    return line if width is None or "\x1b" in line else cut(line, width)


def _from(graph: Lineage, edge: Edge) -> str:
    return edge.later if graph.direction == "made-by" else edge.earlier


def _to(graph: Lineage, edge: Edge) -> str:
    return edge.earlier if graph.direction == "made-by" else edge.later


def _lines_below(graph: Lineage, node: str, children: dict[str, list[Edge]]) -> Iterator[tuple[_Line, bool]]:
    """Yields the lines below a node, each with whether it is the last one."""
    edges = children.get(node, [])
    came_with = [edge for edge in edges if edge.relation == "came-with"]
    lines = [_Line(_edge_text(graph, edge), _to(graph, edge)) for edge in edges if edge.relation != "came-with"]
    lines += [_Line(_edge_text(graph, edge), "") for edge in came_with[:_CAME_WITH_SHOWN]]
    if more := came_with[_CAME_WITH_SHOWN:]:
        files = human_count(sum(edge.files for edge in more), "file")
        lines.append(_Line(f"{files} came with {human_count(len(more), 'more version')}", ""))
    found = graph.nodes[node]
    if graph.direction == "used-by" and isinstance(found, RunNode) and found.written:
        lines.insert(0, _Line(_written_text(found.written, found.run.outputs), ""))
    for place, line in enumerate(lines):
        yield line, place == len(lines) - 1


def _written_text(written: tuple[Written, ...], count: int) -> str:
    names = ", ".join(f"{_path_text(each.path)} ({human_size(each.size)})" for each in written[:_WRITTEN_SHOWN])
    more = f" and {count - _WRITTEN_SHOWN:,} more" if count > _WRITTEN_SHOWN else ""
    return f"wrote {names}{more}"


def _path_text(path: bytes) -> str:
    return show_path(path) or "/"


def _edge_text(graph: Lineage, edge: Edge) -> str:
    other = graph.nodes[_to(graph, edge)]
    text = _node_text(graph, other)
    least = "at least " if edge.is_least else ""
    if edge.relation == "read":
        opened = f"{edge.files:,} of {human_count(edge.total, 'file')} opened"
        how = _CHANGED if edge.known == "snapshot" and graph.direction == "used-by" else ""
        how = how or "exact" if edge.known in _EXACT else _HOW.get(edge.known, one_line(edge.known))
        return f"{text}  {opened}, {how}"
    if edge.relation == "came-with":
        return f"{human_count(edge.files, 'file')} came with {text}"
    if edge.relation == "committed-by":
        return f"{text}  named by the commit"
    if edge.relation == "used":
        paths = _samples_text(edge)
        how = "" if edge.known in _EXACT else f", {_HOW.get(edge.known, '')}"
        return f"{text}  opened {least}{paths}{' (a copy)' if edge.is_copy else ''}{how.rstrip(', ')}"
    later = graph.nodes[edge.later]
    if isinstance(later, FileNode):
        copied = f"  wrote it as {_path_text(edge.samples[0])}" if edge.is_copy and edge.samples else ""
        return f"{text}{copied}"
    copied = ", as copies" if edge.is_copy else ""
    return f"{_samples_text(edge)} written by {text}{copied}"


def _samples_text(edge: Edge) -> str:
    if edge.files == 1 and edge.samples:
        return _path_text(edge.samples[0])
    return human_count(edge.files, "file")


def _node_text(graph: Lineage, node: Node) -> str:
    if isinstance(node, FileNode):
        digits = node.content.hex()[:SHORT_HEX]
        held = f"  in {', '.join(node.held_by)}" if node.held_by else ""
        size = f"  {human_size(node.size)}" if node.content else ""
        return " ".join(filter(None, [style(_path_text(node.path), "bold"), digits])) + size + held
    if isinstance(node, VersionNode):
        return _version_text(node)
    record = node.run.record
    parts = [style(record.name, "yellow"), command_text(record)]
    if record.status != "ok":
        parts.append(record.status)
    if code := code_text(record):
        parts.append(f"code {code}")
    if record.metrics:
        parts.append(metrics_text(record, 2))
    return "  ".join(filter(None, parts))


def _version_text(node: VersionNode) -> str:
    if node.version is None:
        return f"{style(one_line(node.label), 'cyan')}  gone"
    if node.is_snapshot:
        return f"{style(one_line(node.label), 'cyan')} with uncommitted changes, kept with the run"
    message = first_line(node.version.commit.message)
    text = f"{style(one_line(node.label), 'cyan')} {short_id(node.version.id)}"
    return f'{text}  "{message}"' if message else text


def dot_lines(graph: Lineage) -> Iterator[str]:
    """Yields the graph for Graphviz, earlier ones on the left."""
    yield "digraph lineage {"
    yield "  rankdir=LR;"
    names = {node_id: f"n{number}" for number, node_id in enumerate(graph.nodes)}
    for node_id, node in graph.nodes.items():
        shape = "note" if isinstance(node, FileNode) else "box" if isinstance(node, RunNode) else "folder"
        bold = ", penwidth=2" if node_id == graph.target else ""
        yield f"  {names[node_id]} [shape={shape}{bold}, label={_quoted(_dot_label(node))}];"
    for edge in graph.edges:
        label = edge.relation if edge.files < 2 else f"{edge.relation} {edge.files:,}"
        yield f"  {names[edge.earlier]} -> {names[edge.later]} [label={_quoted(label)}];"
    yield "}"


def _dot_label(node: Node) -> str:
    if isinstance(node, FileNode):
        return cut(_path_text(node.path), _DOT_LABEL_MAX)
    if isinstance(node, RunNode):
        return cut(f"{node.run.record.name}  {command_text(node.run.record)}", _DOT_LABEL_MAX)
    message = first_line(node.version.commit.message) if node.version is not None and not node.is_snapshot else ""
    return cut(f"{one_line(node.label)}  {message}".rstrip(), _DOT_LABEL_MAX)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
