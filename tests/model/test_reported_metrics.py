"""Metrics of any program: what is read, what is refused, and that nothing breaks the reader."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from vfs.model.reported_metrics import METRICS_BYTES_MAX, NAMES_MAX, POINTS_MAX, Point, parse_metrics


def test_lines_json_lines_and_a_document_say_the_same() -> None:
    lines = parse_metrics(b"# epochs\naccuracy=0.5 step=1\naccuracy=0.93, step=2\nloss=2e-1\n")
    assert lines.points == [Point("accuracy", 0.5, 1), Point("accuracy", 0.93, 2), Point("loss", 0.2)]
    assert lines.last == {"accuracy": 0.93, "loss": 0.2}
    assert lines.refused == 0
    objects = parse_metrics(b'{"accuracy": 0.5, "step": 1}\n{"accuracy": 0.93, "step": 2}\n{"loss": 0.2}\n')
    assert objects.points == lines.points
    nested = parse_metrics(b'{"eval": {"accuracy": 0.93,\n "rows": 7}, "name": "resnet"}')
    assert nested.last == {"eval.accuracy": 0.93, "eval.rows": 7.0}
    assert nested.refused == 1


def test_a_diverged_loss_is_a_value_and_words_are_none() -> None:
    found = parse_metrics(b"loss=nan\nacc=good\nsome words here\nacc=0.5 and more\nbig=inf\n")
    assert math.isnan(found.last["loss"])
    assert found.last["big"] == math.inf
    assert found.refused == 3
    assert set(found.last) == {"loss", "big"}


def test_colons_counters_and_truths() -> None:
    found = parse_metrics(b'acc: 0.5, val:loss=2 epoch=3\nn :4\n{"converged": true}\n')
    assert found.points == [Point("acc", 0.5, 3), Point("val:loss", 2.0, 3), Point("n", 4.0), Point("converged", 1.0)]
    assert found.refused == 0


def test_points_as_lines_are_read_as_the_same_points() -> None:
    found = parse_metrics(b"acc=0.5 loss=inf step=1\nacc=0.6 step=1\nacc=0.7\n")
    assert parse_metrics(found.lines()) == found


def test_a_step_alone_is_a_metric() -> None:
    assert parse_metrics(b"step=3").points == [Point("step", 3.0, 3)]


def test_limits_hold_against_hostile_bytes() -> None:
    deep = parse_metrics(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
    assert deep.points == []
    wide = parse_metrics(b"".join(b"m%d=1\n" % number for number in range(NAMES_MAX + 5)))
    assert len(wide.points) == NAMES_MAX
    assert wide.refused == 5
    many = parse_metrics(b"a=1\n" * POINTS_MAX + b"a=2\n")
    assert len(many.points) == POINTS_MAX
    assert many.refused == 1
    assert many.last == {"a": 2.0}
    assert parse_metrics(b'{"a": 1' + b"0" * 400 + b"}").last in ({}, {"a": math.inf})
    assert parse_metrics(b"a\x1b[2Jb=1").points == []
    for line in (b"a=" + b"1" * 100_000 + b"x", b"x" * 100_000, b"a " * 50_000, b"a" + b" " * 100_000 + b"b"):
        assert parse_metrics(line).points == []
    long = parse_metrics(b"x" * METRICS_BYTES_MAX + b"\nacc=1\n")
    assert long.last == {"acc": 1.0}


@given(st.binary(max_size=400))
def test_no_bytes_raise(data: bytes) -> None:
    found = parse_metrics(data)
    assert all(math.isnan(point.value) or point.value == point.value for point in found.points)
    assert found.refused >= 0


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), st.floats(allow_nan=False), max_size=6))
def test_what_is_written_is_read(values: dict[str, float]) -> None:
    values.pop("step", None)
    text = "\n".join(f"{name}={value!r}" for name, value in values.items())
    assert parse_metrics(text.encode()).last == values
