"""Makes a frozen remote of the present format: every later version of the program must go on reading and writing it.

Run once for each format version of remotes, by hand:

    cd tests/format/data
    ../../../.venv/bin/python ../make_frozen_remote.py remote-format-2.tar.gz
    ../../../.venv/bin/python ../make_frozen_remote.py remote-format-2-node-blocks.tar.gz

The archive holds `remote` and `expected.json`: by branch and file, the bytes' BLAKE3. Two branches, a tag, a note, a
purged file, packs that a sweep has given tombstones, packs that are retiring, and since format 2 a run.
"""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.sharing import Person, content, record_run
from vfs.backend.locations import parse_location
from vfs.remote.format import hash_of
from vfs.repo.branches import create_branch
from vfs.repo.describe import describe
from vfs.repo.retention.purge import purge
from vfs.repo.tags import create_tag


def make(directory: Path) -> dict[str, dict[str, str]]:
    """Makes the remote; returns what its branches have."""
    (directory / "remote").mkdir()
    person = Person("A. Author", directory / "repository").init()
    person.add_remote(parse_location(str(directory / "remote")))
    person.write("purged", content(1, 2000))
    first = person.commit("small", content(2, 300))
    create_tag(person.repo, "first", first, author=person.name)
    person.push(tags=True)
    person.commit("large", content(3, 5000))
    person.push()
    create_branch(person.repo, "side", person.repo.resolve("v1"), author=person.name)
    person.push(["side"])
    describe(person.repo, person.repo.resolve("v2"), author=person.name, message="a note")
    person.push()
    person.overlay.close()
    purge(person.repo, [b"purged"], author=person.name, undo_s=0)
    person.reopen()
    person.push()
    person.sweep(thorough=True)
    person.commit("last", content(4, 3000))
    record_run(person, "a", dirty=content(5, 2000), metric=0.75)
    person.push()
    (directory / "remote/packs/data/ff").mkdir(exist_ok=True)
    (directory / f"remote/packs/data/ff/{'f' * 32}.pack").write_bytes(b"of a push that did not end")
    person.sweep(grace_s=24 * 3600)
    person.close()
    return {
        "main": {
            name: hash_of(data)
            for name, data in (
                ("small", content(2, 300)),
                ("large", content(3, 5000)),
                ("last", content(4, 3000)),
            )
        },
        "side": {"small": hash_of(content(2, 300))},
    }


def main(archive: Path) -> None:
    """Makes the archive."""
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        expected = make(directory)
        (directory / "expected.json").write_text(json.dumps(expected, indent=2))
        with tarfile.open(archive, "w:gz") as packed:
            packed.add(directory / "remote", "remote")
            packed.add(directory / "expected.json", "expected.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
