"""Goal: a tag names one version, until it is moved or removed, and never means anything else."""

from __future__ import annotations

import pytest

from support.repositories import Repositories
from support.trees import write_file
from vfs.errors import AlreadyExists, InvalidInput, NotFound
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.repo.tags import Tag, create_tag, delete_tag, list_tags


@pytest.fixture
def filled(repo: Repository) -> Repository:
    with repo.open_overlay() as overlay:
        for number in (1, 2):
            write_file(overlay, b"f", b"%d" % number)
            commit(repo, overlay, "m", "a")
    return repo


def test_a_tag_is_made_listed_found_and_kept(filled: Repository, repositories: Repositories) -> None:
    first = filled.resolve("v1")
    create_tag(filled, "paper", first, author="me")
    create_tag(filled, "a-tag", filled.resolve("v2"), author="me")
    assert [tag.name for tag in list_tags(filled)] == ["a-tag", "paper"]
    again = repositories.reopen(filled)
    assert again.resolve("@paper") == first
    assert [operation.kind for operation in again.refs.operations()][:2] == ["tag", "tag"]


def test_a_tag_moves_only_when_asked(filled: Repository) -> None:
    one, two = filled.resolve("v1"), filled.resolve("v2")
    create_tag(filled, "t", one, author="me")
    with pytest.raises(AlreadyExists, match="v1"):
        create_tag(filled, "t", two, author="me")
    assert filled.resolve("t") == one
    create_tag(filled, "t", two, author="me", replace=True)
    assert filled.resolve("t") == two


def test_a_deleted_tag_is_gone_and_the_version_is_not(filled: Repository) -> None:
    one = filled.resolve("v1")
    create_tag(filled, "t", one, author="me")
    assert delete_tag(filled, "t", author="me") == Tag("t", one.id)
    assert list(list_tags(filled)) == []
    assert filled.resolve("v1") == one
    with pytest.raises(NotFound):
        delete_tag(filled, "t", author="me")


def test_names_with_another_meaning_are_refused(filled: Repository) -> None:
    one = filled.resolve("v1")
    for name in ("v3", "latest", "2026-11-01", "deadbeef", "a/b"):
        with pytest.raises(InvalidInput):
            create_tag(filled, name, one, author="me")
    with pytest.raises(AlreadyExists, match="branch"):
        create_tag(filled, "main", one, author="me")
