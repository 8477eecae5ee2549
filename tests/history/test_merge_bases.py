"""Goal: the base of a merge is the newest that both sides have, in any graph of commits, and found near the heads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from support.stores import MemorySink
from support.tiny_trees import EMPTY, Files, build, files_of
from vfs.history.merge_bases import is_ancestor, merge_bases
from vfs.history.merge_contents import ContentMerge
from vfs.history.merge_lines import Labels
from vfs.history.merge_trees import Tree, base_tree, merge_trees
from vfs.model.chunking import IngestParams
from vfs.model.ids import CommitId
from vfs.model.objects import Commit, Entry
from vfs.store.trees.content_writer import ContentWriter


class Graph(MemorySink):
    """Commits made one after the other, in memory; counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[CommitId] = []
        self.commits_got = 0

    def add(self, *parents: int, root: Entry = EMPTY) -> CommitId:
        """Makes a commit on earlier ones, given by their place; times grow as slowly as they may."""
        above = [self.get_commit(self.made[parent]) for parent in parents]
        number = above[0].number + 1 if above else 1
        time_ns = max((commit.time_ns for commit in above), default=0) + (len(above) > 1)
        ids = tuple(self.made[parent] for parent in parents)
        made = Commit(number, ids, root, b"", time_ns, "a", f"commit {len(self.made)}")
        self.made.append(self.put_commit(made))
        return self.made[-1]

    def get_commit(self, object_id: CommitId) -> Commit:
        self.commits_got += 1
        return super().get_commit(object_id)


_graphs = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.booleans()), min_size=1, max_size=14)


def reachable(graph: Graph, start: CommitId) -> set[CommitId]:
    found: set[CommitId] = set()
    todo = [start]
    while todo:
        current = todo.pop()
        if current not in found:
            found.add(current)
            todo.extend(CommitId(parent) for parent in graph.get_commit(current).parents)
    return found


@given(_graphs, st.integers(0, 30), st.integers(0, 30))
def test_the_bases_are_the_shared_ancestors_that_no_other_one_has_above_it(
    plan: list[tuple[int, int, bool]], first: int, second: int
) -> None:
    graph = Graph()
    graph.add()
    for a, b, is_merge in plan:
        parents = {a % len(graph.made): None, b % len(graph.made): None} if is_merge else {a % len(graph.made): None}
        graph.add(*parents)
    ours, theirs = graph.made[first % len(graph.made)], graph.made[second % len(graph.made)]
    shared = reachable(graph, ours) & reachable(graph, theirs)
    wanted = {each for each in shared if not any(each in reachable(graph, other) - {other} for other in shared)}
    assert {version.id for version in merge_bases(graph, ours, theirs)} == wanted
    assert is_ancestor(graph, ours, theirs) == (ours in reachable(graph, theirs))


def test_histories_that_share_nothing_have_no_base() -> None:
    graph = Graph()
    assert merge_bases(graph, graph.add(), graph.add(root=build(graph, {b"a": b"1"}))) == []


def test_finding_the_base_reads_no_more_of_a_long_history() -> None:
    graph = Graph()
    graph.add()
    for number in range(500):
        graph.add(number)
    ours, theirs = graph.add(500), graph.add(499)
    graph.commits_got = 0
    assert [version.id for version in merge_bases(graph, ours, theirs)] == [graph.made[499]]
    assert graph.commits_got < 10


def test_of_several_bases_what_both_decided_otherwise_is_a_conflict_again() -> None:
    graph = Graph()

    def tree(files: Files) -> Entry:
        return build(graph, files)

    graph.add(root=tree({b"f": b"0\0", b"g": b"0\0", b"h": b"0\0"}))
    graph.add(0, root=tree({b"f": b"1\0", b"g": b"1\0", b"h": b"0\0"}))
    graph.add(0, root=tree({b"f": b"2\0", b"g": b"0\0", b"h": b"2\0"}))
    # Two people merge the two, crosswise, and decide differently about `f`.
    ours = graph.add(1, 2, root=tree({b"f": b"1\0", b"g": b"1\0", b"h": b"2\0"}))
    theirs = graph.add(2, 1, root=tree({b"f": b"2\0", b"g": b"1\0", b"h": b"2\0", b"n": b"n"}))
    bases = merge_bases(graph, ours, theirs)
    assert {base.id for base in bases} == {graph.made[1], graph.made[2]}
    contents = ContentMerge(ContentWriter(graph, IngestParams()), Labels("o", "b", "t"))
    base = base_tree(graph, bases, contents)
    assert files_of(graph, base.root) == {b"f": b"0\0", b"g": b"1\0", b"h": b"2\0"}
    mine, other = (Tree.of(graph.get_commit(commit_id)) for commit_id in (ours, theirs))
    merged = merge_trees(graph, base, mine, other, contents)
    assert [conflict.path for conflict in merged.conflicts] == [b"f"]
    assert files_of(graph, merged.tree.root) == {b"f": b"1\0", b"g": b"1\0", b"h": b"2\0", b"n": b"n"}
