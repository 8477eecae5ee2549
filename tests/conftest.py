"""What every test has: Hypothesis profiles, and the fixtures that make repositories."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.memory import memory_directory
from vfs.control.mount_table import MOUNT_TYPE, read_table

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As for what a script runs in the background. What tests start must heed it all the same, and this run must not:
    # other programs get a handled signal back as it is by default, an ignored one they ignore.
    signal.signal(signal.SIGINT, lambda *_: None)

pytest_plugins = ["support.repositories", "support.small_repositories", "support.object_server", "support.faulty_proxy"]

# The same examples in every run: a red test is red for the next person too. The long profile looks for new ones;
# what it finds becomes a named test.
settings.register_profile(
    "default",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("long", parent=settings.get_profile("default"), derandomize=False, max_examples=3000)
settings.load_profile("default")

_TESTS = Path(__file__).parent
_IN_MEMORY = {"cli", "crash", "history", "overlay", "python", "remote", "repo", "stateful", "store", "web"}
"""Folders of tests that ask nothing of a disk."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts slow tests first where several processes share the tests: none waits for one that began last."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session", autouse=True)
def _unmounted(pytestconfig: pytest.Config) -> Iterator[None]:
    """Checks that tests leave no mount of the program behind where no other program has mounts."""
    before = _mounts()
    yield
    assert not hasattr(pytestconfig, "workerinput") or _mounts() <= before


def _mounts() -> set[Path]:
    return {line.path for line in read_table() if line.type == MOUNT_TYPE}


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Returns a directory of the test's own: in memory where the test asks nothing of a disk."""
    if request.path.relative_to(_TESTS).parts[0] in _IN_MEMORY:
        with memory_directory(tmp_path) as directory:
            yield directory
    else:
        yield tmp_path


@pytest.fixture
def disk_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a directory of the test's own on a disk, whose pages the kernel can evict."""
    return tmp_path_factory.mktemp("disk")
