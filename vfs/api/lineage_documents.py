"""The JSON document of a lineage: a graph of nodes and edges."""

from __future__ import annotations

from typing import Any, TypedDict

from vfs.api.documents import iso_time
from vfs.model.names import path_text
from vfs.repo.lineage.lineage_nodes import Edge, FileNode, Lineage, Node, RunNode


class LineageDocument(TypedDict):
    """A graph. Edges lead from `later`, which comes from or used `earlier`; both are ids of nodes."""

    direction: str
    target: str
    nodes: list[dict[str, Any]]
    edges: list[dict[str, Any]]
    notes: list[str]


def lineage_document(graph: Lineage) -> LineageDocument:
    """Returns the document of a graph."""
    return {
        "direction": graph.direction,
        "target": graph.target,
        "nodes": [_node(node) for node in graph.nodes.values()],
        "edges": [_edge(edge) for edge in graph.edges],
        "notes": list(graph.notes),
    }


def _node(node: Node) -> dict[str, Any]:
    if isinstance(node, FileNode):
        return {
            "id": node.id,
            "kind": "file",
            "path": path_text(node.path),
            "outside": node.is_outside,
            "content": node.content.hex() or None,
            "sha256": node.sha256 or None,
            "size": node.size,
            "held_by": list(node.held_by),
        }
    if isinstance(node, RunNode):
        record = node.run.record
        return {
            "id": node.id,
            "kind": "run",
            "name": record.name,
            "run": record.id,
            "status": record.status,
            "command": list(record.command),
            "start": iso_time(record.start_ns),
            "end": iso_time(record.end_ns) if record.end_ns else None,
            "code": record.code.commit or None,
            "code_changed": bool(record.code.changed),
            "metrics": dict(record.metrics),
            "outputs": node.run.outputs,
            "written": [
                {
                    "path": path_text(file.path),
                    "outside": file.is_outside,
                    "content": file.content.hex() or None,
                    "size": file.size,
                }
                for file in node.written
            ],
        }
    version = node.version
    return {
        "id": node.id,
        "kind": "version",
        "name": node.label,
        "commit": version.id.hex() if version is not None else None,
        "snapshot": node.is_snapshot,
        "message": version.commit.message if version is not None else None,
        "author": version.commit.author if version is not None else None,
        "time": iso_time(version.commit.time_ns) if version is not None else None,
    }


def _edge(edge: Edge) -> dict[str, Any]:
    return {
        "later": edge.later,
        "earlier": edge.earlier,
        "relation": edge.relation,
        "files": edge.files,
        "total": edge.total,
        "known": edge.known or None,
        "paths": [path_text(path) for path in edge.samples],
        "copy": edge.is_copy,
        "at_least": edge.is_least,
    }
