"""Composed trees over random histories: all changes give the newer tree, none the older, each subset a whole tree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from support.stores import MemorySink
from vfs.history.composing import Composition
from vfs.history.diff import diff_trees
from vfs.history.merge_trees import EMPTY_ROOT, Tree
from vfs.model.nodes import LINKS
from vfs.model.objects import Entry, Form, Kind
from vfs.store.trees.content_writer import tiny_content
from vfs.store.trees.directories import edit_directory, walk
from vfs.store.trees.hard_links import store_links
from vfs.store.trees.maps import map_items


@dataclass
class Thing:
    """A file, link or directory; names that share one are hard links."""

    kind: Kind = Kind.FILE
    data: bytes = b""
    mode: int = 0o644
    mtime: int = 0
    children: dict[bytes, Thing] = field(default_factory=dict)


NAMES = st.sampled_from([b"a", b"b", b"c", b"d"])
ACTIONS = st.sampled_from(
    ["write", "write", "mkdir", "symlink", "remove", "rename", "rename", "link", "chmod", "touch", "swap"]
)
STEPS = st.lists(
    st.tuples(ACTIONS, st.lists(NAMES, min_size=1, max_size=3), st.lists(NAMES, min_size=1, max_size=3), NAMES),
    max_size=12,
)


def find(root: Thing, path: Iterable[bytes]) -> Thing | None:
    """Returns what is at a path."""
    thing: Thing | None = root
    for name in path:
        thing = thing.children.get(name) if thing is not None else None
    return thing


def act(root: Thing, step: tuple[str, list[bytes], list[bytes], bytes], moment: int) -> None:
    """Does one thing to a tree, where it is possible."""
    action, path, other, word = step
    above, thing = find(root, path[:-1]), find(root, path)
    if above is None or above.kind != Kind.DIR:
        return
    target_above, target = find(root, other[:-1]), find(root, other)
    above.mtime = moment
    if action == "write":
        if thing is not None and thing.kind == Kind.FILE:
            thing.data, thing.mtime = word * (moment % 5), moment
        elif thing is None:
            above.children[path[-1]] = Thing(data=word * (moment % 5), mtime=moment)
    elif action == "mkdir" and thing is None:
        above.children[path[-1]] = Thing(Kind.DIR, mode=0o755, mtime=moment)
    elif action == "symlink":
        above.children[path[-1]] = Thing(Kind.SYMLINK, word, 0o777, moment)
    elif action == "remove":
        above.children.pop(path[-1], None)
    elif action == "chmod" and thing is not None:
        thing.mode = 0o600 + moment % 8
    elif action == "touch" and thing is not None:
        thing.mtime = moment
    elif thing is not None and target_above is not None and target_above.kind == Kind.DIR:
        is_inside = other[: len(path)] == path or path[: len(other)] == other
        if action == "link" and thing.kind == Kind.FILE and (target is None or target.kind == Kind.FILE):
            target_above.children[other[-1]] = thing
        elif action == "rename" and not is_inside:
            target_above.children[other[-1]] = above.children.pop(path[-1])
        elif action == "swap" and target is not None and not is_inside:
            target_above.children[other[-1]], above.children[path[-1]] = thing, target


def copied(thing: Thing, known: dict[int, Thing]) -> Thing:
    """Returns a copy of a tree, links being kept."""
    if id(thing) not in known:
        made = known[id(thing)] = replace(thing, children={})
        made.children = {name: copied(child, known) for name, child in thing.children.items()}
    return known[id(thing)]


def store(sink: MemorySink, root: Thing) -> Tree:
    """Stores a tree afresh."""
    names: dict[int, list[bytes]] = {}

    def collect(thing: Thing, path: bytes) -> None:
        for name, child in thing.children.items():
            below = path + b"/" + name if path else name
            names.setdefault(id(child), []).append(below)
            collect(child, below)

    def entry(thing: Thing, name: bytes) -> tuple[Entry, bytes]:
        base = Entry(name, thing.kind, thing.mode, 0, 0, thing.mtime)
        if thing.kind == Kind.SYMLINK:
            return msgspec.structs.replace(base, size=len(thing.data), content=thing.data), b""
        if thing.kind == Kind.FILE:
            content = tiny_content(thing.data)
            linked = len(names[id(thing)]) > 1
            found = msgspec.structs.replace(
                base, size=content.size, content=content.id, form=content.form, linked=linked
            )
            return found, content.tiny
        made = edit_directory(sink, None, {below: entry(child, below) for below, child in thing.children.items()})
        return msgspec.structs.replace(
            base, content=made.content, tiny=made.tiny, files=made.files, size=made.size
        ), b""

    collect(root, b"")
    groups = [group for group in names.values() if len(group) > 1]
    return Tree(entry(root, b"")[0], store_links(sink, groups))


def check_whole(sink: MemorySink, made: Tree, old: Tree, new: Tree) -> None:
    """Checks that a composed tree is one that a repository may have: its links, its entries, its sums."""
    sides = [{path: entry for path, _, entry in walk(sink, tree.root)} for tree in (old, new)]
    found = {path: entry for path, _, entry in walk(sink, made.root)}
    items = {item.name: item for item in map_items(sink, LINKS, made.links)}
    for path, entry in found.items():
        if entry.kind != Kind.DIR:
            # The very entries, so that a mount gives them the same inode numbers.
            assert entry in (sides[0].get(path), sides[1].get(path)), path
        assert entry.linked == (path in items)
        assert (entry.form == Form.TINY) <= (entry.size > 0)
    for path, item in items.items():
        members = items[item.leader].members
        assert path in members
        assert min(members) == item.leader
        assert len(members) > 1
        assert len({msgspec.msgpack.encode(msgspec.structs.replace(found[name], name=b"")) for name in members}) == 1
    files = [entry for entry in found.values() if entry.kind != Kind.DIR]
    assert made.root.files == len(files)
    assert made.root.size == sum(entry.size for entry in files if entry.kind == Kind.FILE)


@given(STEPS, STEPS, st.randoms(use_true_random=True))
def test_any_subset_of_the_changes_is_a_tree(before: list, after: list, random: object) -> None:  # type: ignore[type-arg]
    sink = MemorySink()
    root = Thing(Kind.DIR, mode=0o755)
    for moment, step in enumerate(before):
        act(root, step, moment + 1)
    root = copied(root, {})
    old = store(sink, root)
    for moment, step in enumerate(after):
        act(root, step, moment + 100)
    new = store(sink, root)
    composition = Composition(sink, old, new)
    every = range(len(composition.atoms))
    assert composition.edited(sink, every) == new
    assert composition.edited(sink, ()) == old
    assert composition.tree(sink, every) == new
    assert composition.tree(sink, ()) == old
    paths = [change.path for atom in composition.atoms for change in atom.changes]
    assert len(paths) == len(set(paths))
    assert set(paths) <= {change.path for change in diff_trees(sink, old.root, new.root, directory_times=True)}
    for _ in range(6):
        chosen = {number for number in every if random.random() < 0.5}  # type: ignore[attr-defined]
        made = composition.edited(sink, chosen)
        check_whole(sink, made, old, new)
        # The way from there to the newer tree is made of what was left out: nothing is half done.
        rest = Composition(sink, made, new)
        assert rest.edited(sink, range(len(rest.atoms))) == new


def tree(sink: MemorySink, things: dict[bytes, Thing]) -> Tree:
    """Stores a tree of one directory level per name in a path."""
    root = Thing(Kind.DIR, mode=0o755)
    for path, thing in things.items():
        *above, name = path.split(b"/")
        at = root
        for directory in above:
            at = at.children.setdefault(directory, Thing(Kind.DIR, mode=0o755))
        at.children[name] = thing
    return store(sink, root)


def test_what_makes_no_sense_by_halves_is_one_change() -> None:
    sink = MemorySink()
    shared, moved = Thing(data=b"shared"), Thing(data=b"moved")
    old = tree(
        sink,
        {
            b"in/a": Thing(data=b"x"),
            b"in/b": Thing(data=b"y"),
            b"link1": shared,
            b"link2": shared,
            b"to": Thing(data=b"file"),
        },
    )
    changed = Thing(data=b"changed")
    new = tree(
        sink,
        {
            b"out/a": Thing(data=b"x"),
            b"out/b": Thing(data=b"y"),
            b"link1": changed,
            b"link2": changed,
            b"new": moved,
            b"to/x": Thing(),
            b"to/y": Thing(),
        },
    )
    atoms = [set(atom.paths) for atom in Composition(sink, old, new).atoms]
    assert atoms == [{b"in/a", b"in/b", b"out/a", b"out/b"}, {b"link1", b"link2"}, {b"new"}, {b"to", b"to/x", b"to/y"}]


def test_attributes_of_directories_are_changes_of_their_own_and_times_are_one() -> None:
    sink = MemorySink()
    names = [b"a", b"b", b"c"]
    old = tree(sink, {name: Thing(Kind.DIR, mode=0o755) for name in names})
    new = tree(
        sink,
        {
            b"a": Thing(Kind.DIR, mode=0o700),
            b"b": Thing(Kind.DIR, mode=0o755, mtime=5),
            b"c": Thing(Kind.DIR, mode=0o755, mtime=7),
        },
    )
    assert [atom.paths for atom in Composition(sink, old, new).atoms] == [(b"a",), (b"b", b"c")]


def test_names_that_are_linked_otherwise_are_one_change() -> None:
    sink = MemorySink()
    one, two = Thing(data=b"same"), Thing(data=b"same")
    old = tree(sink, {b"a": one, b"b": one, b"c": two, b"d": two})
    new = tree(sink, {b"a": one, b"c": one, b"b": two, b"d": two})
    (atom,) = Composition(sink, old, new).atoms
    assert not atom.changes
    assert atom.paths == (b"a", b"b", b"c", b"d")


def test_an_empty_older_tree_is_one_too() -> None:
    sink = MemorySink()
    new = tree(sink, {b"dir/a": Thing(data=b"1"), b"dir/b": Thing(data=b"2"), b"empty": Thing(Kind.DIR, mode=0o755)})
    old = Tree(EMPTY_ROOT, b"")
    composition = Composition(sink, old, new)
    assert [atom.paths for atom in composition.atoms] == [(b"dir/a",), (b"dir/b",), (b"empty",)]
    made = composition.edited(sink, {1})
    assert {path for path, _, _ in walk(sink, made.root)} == {b"dir", b"dir/b"}
