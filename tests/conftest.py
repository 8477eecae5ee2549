"""What every test has: Hypothesis profiles, and the fixtures that make repositories."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ["support.repositories"]

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
