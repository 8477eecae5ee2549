"""The work of `vfs bisect`: runs on versions, then inside the guilty change, then inside the guilty files."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from vfs.errors import InvalidInput
from vfs.formats.compositions import composed, require_size
from vfs.formats.detail import NotThisFormat
from vfs.history.boundary_bisection import guilty_changes, runs_expected
from vfs.history.composing import Atom, Composition
from vfs.history.merge_bases import merge_bases
from vfs.history.merge_trees import Tree
from vfs.history.read_set import ReadFilter, ReadSet
from vfs.history.version_search import VersionSearch
from vfs.model.ids import CommitId
from vfs.model.names import show_path
from vfs.model.objects import Entry, Form, Kind, Version
from vfs.repo.composed_views import composed_view
from vfs.repo.repository import Repository
from vfs.repo.resumable_runs import KeptRuns
from vfs.repo.trial_verdicts import SKIP_STATUS, Criterion, Judged, Run, judge
from vfs.store.object_store import ObjectSink
from vfs.store.trees.content_writer import ContentWriter
from vfs.store.trees.directories import file_content, resolve_path
from vfs.store.trees.file_reader import FileReader
from vfs.store.trees.hard_links import store_edits
from vfs.text.row_composition import FileComposition, RowChange

_REPEATS_MAX = 3
"""A verdict that the noise makes unsure gets so many times the runs that were asked for, at most."""


class Trial(NamedTuple):
    """One judged commit. `seconds`: of all its runs; `same_as`: the commit whose runs count, as nothing differs.

    `is_end`: a given end whose metric was measured, before it was known what is bad.
    """

    commit_id: CommitId
    words: str
    judged: Judged
    seconds: float
    same_as: str = ""
    is_end: bool = False


class Listener(Protocol):
    """Hears what goes on."""

    def began(self, words: str, runs: int) -> None:
        """A search begins that takes about so many runs."""

    def judged(self, trial: Trial) -> None:
        """A version, or a composed view, was judged."""


class Rows(NamedTuple):
    """The changed rows of a file that are enough, of how many; some of those in `among` are needed as well.

    `reason`: why nothing is known of its rows, empty where it is.
    """

    path: bytes
    changes: tuple[RowChange, ...] = ()
    among: tuple[RowChange, ...] = ()
    of: int = 0
    reason: str = ""


class Guilt(NamedTuple):
    """The changes of a version that are enough to make it bad. `of`: how many it has; `rows`: where known.

    `unsure`: groups of changes of which one or several are needed, and were not told apart.
    """

    atoms: tuple[Atom, ...]
    of: int
    rows: tuple[Rows, ...]
    unsure: tuple[tuple[Atom, ...], ...]


class Bisection:
    """One question: what made it bad. `run` runs the command on a commit; kept runs are not run again."""

    def __init__(
        self,
        repo: Repository,
        kept: KeptRuns,
        run: Callable[[CommitId, str], Run],
        criterion: Criterion,
        repeat: int,
        listener: Listener,
    ) -> None:
        self._repo = repo
        self._kept = kept
        self._run = run
        self.criterion = criterion
        self._repeat = repeat
        self._listener = listener
        self._judged: dict[CommitId, tuple[Version, Judged, str]] = {}
        self.runs_made = 0

    @property
    def trials(self) -> list[Judged]:
        """The verdicts so far."""
        return [judged for _, judged, _ in self._judged.values()]

    # Runs and verdicts.

    def judge(self, version: Version, words: str) -> Judged:
        """Judges a stored commit: from kept runs, from those of one that is the same for the command, or from runs."""
        if version.id in self._judged:
            return self._judged[version.id][1]
        if self._repo.refs.is_forgotten(version.id):
            return Judged("skip", 0, 0)
        same = None if self._kept.of(version.id) else self._equivalent(version)
        if same is not None:
            _, judged, like = same
            self._judged[version.id] = version, judged, words
            self._listener.judged(Trial(version.id, words, judged, 0.0, like))
            return judged
        runs = self._runs_on(version, words)
        judged = judge(runs, self.criterion, self.spread())
        self._judged[version.id] = version, judged, words
        self._listener.judged(Trial(version.id, words, judged, sum(run.seconds for run in runs)))
        return judged

    def measure(self, version: Version) -> Judged:
        """Runs the command on a given end and returns what its metric is; what is bad is decided later."""
        words = self.name(version)
        runs = self._runs_on(version, words)
        judged = judge(runs, self.criterion)
        self._listener.judged(Trial(version.id, words, judged, sum(run.seconds for run in runs), is_end=True))
        return judged

    def _runs_on(self, version: Version, words: str) -> list[Run]:
        runs = list(self._kept.of(version.id))
        while len(runs) < self._repeat or self._is_unsure(runs):
            run = self._run(version.id, words)
            self._kept.add(version.id, run)
            self.runs_made += 1
            runs.append(run)
            if run.status == SKIP_STATUS:
                break
        return runs

    def _is_unsure(self, runs: list[Run]) -> bool:
        if self._repeat < 2 or len(runs) >= _REPEATS_MAX * self._repeat:
            return False
        return not judge(runs, self.criterion, self.spread()).is_sure

    def spread(self) -> float | None:
        """Returns the standard deviation of the metric between runs of the same data, None where it is not known."""
        found = [judged.spread**2 for judged in self.trials if judged.spread is not None]
        return statistics.fmean(found) ** 0.5 if found else None

    def _equivalent(self, version: Version) -> tuple[Version, Judged, str] | None:
        for known in self._judged.values():
            read = self._read_on(known[0].id)
            if read is None or read.is_empty:
                continue
            if not ReadFilter(read).is_affected(self._repo.store, known[0].commit.root, version.commit.root):
                return known
        return None

    def _read_on(self, commit_id: CommitId) -> ReadSet | None:
        """Returns what runs on a commit read, None where that was not recorded."""
        found = ReadSet()
        for run in self._kept.of(commit_id):
            if run.read is None:
                return None
            found |= run.read
        return found

    def _read_anywhere(self) -> ReadSet | None:
        found = ReadSet()
        for commit_id in self._judged:
            read = self._read_on(commit_id)
            if read is None:
                return None
            found |= read
        return None if found.is_empty else found

    def version(self, commit_id: CommitId) -> Version:
        """Returns a stored commit."""
        return Version(commit_id, self._repo.store.get_commit(commit_id))

    # Versions.

    def first_bad(self, goods: Sequence[Version], bad: Version) -> list[Version]:
        """Returns the first bad version, or several where skipped ones leave it open; raises InvalidInput."""
        self._require_good_bases(goods, bad)
        search = VersionSearch(
            lambda commit_id: [CommitId(parent) for parent in self._repo.store.get_commit(commit_id).parents],
            [version.id for version in goods],
            bad.id,
            self._is_same,
        )
        if search.is_contradiction:
            raise InvalidInput(
                f"{self.name(bad)} is older than a good version: it was mended since",
                hint="--good takes an older version, --bad a newer one.",
            )
        between = len(search.candidates()) - 1
        self._listener.began(f"{between} version{'s' if between != 1 else ''} between", search.runs_expected())
        while (found := search.next()) is not None:
            version = self.version(found)
            search.mark(found, self.judge(version, self.name(version)).verdict)
        return [self.version(commit_id) for commit_id in search.suspects()]

    def _require_good_bases(self, goods: Sequence[Version], bad: Version) -> None:
        """As git does: where a good version is on another branch, both come from one that has to be good."""
        for good in goods:
            bases = merge_bases(self._repo.store, good.id, bad.id)
            if not bases:
                raise InvalidInput(f"{self.name(good)} and {self.name(bad)} have no version in common")
            for base in bases:
                if base.id in (good.id, bad.id):
                    continue
                if self.judge(base, self.name(base)).verdict == "bad":
                    raise InvalidInput(
                        f"{self.name(base)}, from which both come, is bad: {self.name(good)} was mended since",
                        hint="Give a version before it as --good.",
                    )

    def _is_same(self, commit_id: CommitId, parent: CommitId) -> bool:
        read = self._read_anywhere()
        refs = self._repo.refs
        if read is None or refs.is_forgotten(commit_id) or refs.is_forgotten(parent):
            return False
        store = self._repo.store
        roots = store.get_commit(parent).root, store.get_commit(commit_id).root
        return not ReadFilter(read).is_affected(store, *roots)

    def name(self, version: Version) -> str:
        """Returns what people call a version: `v12`, or digits of its id."""
        number = self._repo.refs.number_on(self._repo.branch, version.id)
        return f"v{number}" if number is not None else version.id.hex()[:8]

    # Changes of one version.

    def composition(self, good: Version, bad: Version) -> Composition:
        """Returns the changes between two versions."""
        return Composition(self._repo.store, Tree.of(good.commit), Tree.of(bad.commit))

    def guilty(self, good: Version, bad: Version, composition: Composition, *, rows: bool = True) -> Guilt:
        """Returns the changes from a good to a bad version that are enough to make it bad."""
        atoms = composition.atoms
        name = self.name(good)

        def test(chosen: frozenset[int]) -> bool | None:
            words = f"{name} + {len(chosen):,} of {len(atoms):,} changes"
            return self._judge_view(good, words, lambda sink: composition.tree(sink, chosen))

        found = guilty_changes(len(atoms), test, self._row(composition))
        exact = [group[0] for group in found.groups if len(group) == 1]
        unsure = tuple(tuple(atoms[number] for number in group) for group in found.groups if len(group) > 1)
        files = _Files(self._repo, composition, found.changes)
        of_rows = []
        for number in exact if rows else []:
            done = self._guilty_rows(good, files, atoms[number])
            if done is not None:
                of_rows.append(done)
        return Guilt(tuple(atoms[number] for number in exact), len(atoms), tuple(of_rows), unsure)

    def _row(self, composition: Composition) -> list[int]:
        """Returns the changes in the order in which they are tried: those first that the command has not read."""
        read = self._read_anywhere()
        numbers = list(range(len(composition.atoms)))
        if read is None:
            return numbers
        seen = read.opened | read.listed
        return sorted(numbers, key=lambda number: not seen.isdisjoint(composition.atoms[number].paths))

    def _judge_view(self, base: Version, words: str, compose: Callable[[ObjectSink], Tree]) -> bool | None:
        with composed_view(self._repo, base, compose) as view:
            verdict = self.judge(view, words).verdict
        return None if verdict == "skip" else verdict == "bad"

    def _guilty_rows(self, good: Version, files: _Files, atom: Atom) -> Rows | None:
        """Returns the rows of a changed file that are enough, with all other guilty changes; None for no such file."""
        path = files.path_of(atom)
        if path is None:
            return None
        try:
            return self._rows_of(good, files, atom, path)
        except NotThisFormat as reason:
            return Rows(path, reason=str(reason))

    def _rows_of(self, good: Version, files: _Files, atom: Atom, path: bytes) -> Rows | None:
        """Raises NotThisFormat where no file can be made of a part of the changed rows."""
        lines = files.rows_of(atom, path)
        if lines is None:
            return None
        count = len(lines.changes)
        if count > 1:
            self._listener.began(f"Inside {show_path(path)}, {count:,} changed rows", runs_expected(count))

        def test(chosen: frozenset[int]) -> bool | None:
            words = f"{len(chosen):,} of {count:,} rows"
            return self._judge_view(good, words, lambda sink: files.tree(sink, {path: lines.content(chosen)}))

        guilty = guilty_changes(count, test)
        files.settle(path, lines.content(guilty.changes))
        exact = [group[0] for group in guilty.groups if len(group) == 1]
        among = sorted(guilty.changes - set(exact))
        changes = lines.changes
        return Rows(path, tuple(changes[at] for at in exact), tuple(changes[at] for at in among), count)


class _Files:
    """The tree with all guilty changes, in which files get other bytes."""

    def __init__(self, repo: Repository, composition: Composition, chosen: frozenset[int]) -> None:
        self._repo = repo
        self._composition = composition
        self._chosen = chosen
        self._settled: dict[bytes, bytes] = {}
        self._members: dict[bytes, tuple[bytes, ...]] = {}

    def path_of(self, atom: Atom) -> bytes | None:
        """Returns the path of the file that a change concerns, None where those are several, or it is on one side."""
        olds, news = _files(atom)
        if not olds or not news:
            return None
        contents = {entry.content for _, entry in news}
        is_one_file = len(olds) == len(news) == 1 or (len(contents) == 1 and len(atom.changes) == len(atom.links))
        return news[0][0] if is_one_file else None

    def rows_of(self, atom: Atom, path: bytes) -> FileComposition | None:
        """Returns the changed rows of the one file that a change concerns; None where its bytes are the same.

        Raises NotThisFormat where no file can be made of a part of them.
        """
        olds, news = _files(atom)
        (old_path, old), (_, new) = olds[0], news[0]
        require_size(max(old.size, new.size))
        before = self._bytes(self._composition.old.root, old_path, old)
        after = self._bytes(self._composition.new.root, path, new)
        if before == after:
            return None
        self._members[path] = tuple(member for member, _ in news)
        return composed(path, before, after)

    def _bytes(self, root: Entry, path: bytes, entry: Entry) -> bytes:
        directory = resolve_path(self._repo.store, root, path).directory
        assert directory is not None
        content = file_content(self._repo.store, directory, entry)
        return bytes(FileReader(self._repo.store, content).read(0, entry.size))

    def settle(self, path: bytes, data: bytes) -> None:
        """Makes a file's bytes those of all further trees."""
        self._settled[path] = data

    def tree(self, sink: ObjectSink, data: dict[bytes, bytes]) -> Tree:
        """Stores the tree with some files' bytes."""
        tree = self._composition.tree(sink, self._chosen)
        writer = ContentWriter(sink, self._repo.config.ingest)
        edits: dict[bytes, dict[bytes, tuple[Entry, bytes] | None]] = {}
        for path, content_bytes in {**self._settled, **data}.items():
            content = writer.from_bytes(content_bytes)
            for member in self._members[path]:
                directory, _, name = member.rpartition(b"/")
                entry = msgspec.structs.replace(
                    resolve_path(sink, tree.root, member).entry,
                    size=content.size,
                    content=content.id if content.form != Form.EMPTY else b"",
                    form=content.form,
                    hole_bytes=content.hole_bytes,
                )
                edits.setdefault(directory, {})[name] = entry, content.tiny
        return Tree(store_edits(sink, tree.root, edits), tree.links)


def _files(atom: Atom) -> tuple[list[tuple[bytes, Entry]], list[tuple[bytes, Entry]]]:
    """Returns the files of a change before and after it, each with its path."""
    olds = [(each.path, each.old) for each in atom.changes if each.old is not None and each.old.kind == Kind.FILE]
    news = [(each.path, each.new) for each in atom.changes if each.new is not None and each.new.kind == Kind.FILE]
    return olds, news
