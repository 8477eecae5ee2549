"""Parameters: options of commands, and YAML files of any origin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.errors import InvalidInput
from vfs.model.run_record import METRICS_MAX, TEXT_MAX
from vfs.repo.runs.parameters import PARAMS_BYTES_MAX, options_of, read_params


def test_options_are_parameters() -> None:
    assert options_of(["python", "t.py", "--lr", "0.1", "--seed=3", "--shuffle", "--offset", "-5", "-v", "x"]) == {
        "lr": "0.1",
        "seed": "3",
        "shuffle": "true",
        "offset": "-5",
    }


def test_scalars_of_yaml_as_they_are_written() -> None:
    text = """
    # comment
    lr: 0.10
    train:
      epochs: 3 # few
      opt: {name: 'adam', betas: [0.9, 0.999]}
      note: |
        two
        lines
    layers:
      - {size: 1}
    base: &base
      seed: 0o17
    copy: *base
    after: yes
    date: 2026-01-02
    """
    assert read_params(text.encode()) == {
        "lr": "0.10",
        "train.epochs": "3",
        "train.opt.name": "adam",
        "train.opt.betas": "[0.9, 0.999]",
        "train.note": "two\nlines\n",
        "base.seed": "0o17",
        "copy.seed": "0o17",
        "after": "yes",
        "date": "2026-01-02",
    }
    assert read_params(b"") == {}


def test_a_document_that_would_run_code_makes_texts() -> None:
    assert read_params(b"a: !!python/object/apply:os.system ['exit 1']\nb: !!python/name:os.system ''\n") == {
        "a": "[exit 1]",
        "b": "",
    }


def test_aliases_that_stand_for_more_than_there_is_room_for() -> None:
    lines = ["a0: &a0 {x: {}}"]
    lines += [f"a{n}: &a{n} {{" + ", ".join(f"k{k}: *a{n - 1}" for k in range(9)) + "}" for n in range(1, 12)]
    assert read_params("\n".join(lines).encode()) == {}
    wide = read_params(b"".join(b"m%d: 1\n" % number for number in range(METRICS_MAX + 5)))
    assert len(wide) == METRICS_MAX
    assert len(read_params(b"a: " + b"x" * 10 * TEXT_MAX)["a"]) == TEXT_MAX


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 5000,
        b"{a: " * 5000,
        b"- 1\n- 2\n",
        b"a: *none",
        b"a: 1\n---\nb: 2\n",
        b"\xff\xfe\xff",
        b"a: b: c",
        b"\0",
        b"? [1, 2]\n: 3\n",
        b"a: " + b"x" * PARAMS_BYTES_MAX,
        b"a: &a {b: 1, c: *a}",
    ],
)
def test_what_is_no_mapping_of_yaml_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_params(data)


@given(st.binary(max_size=200))
def test_no_bytes_do_harm(data: bytes) -> None:
    try:
        found = read_params(data)
    except InvalidInput:
        return
    assert all(isinstance(value, str) for value in found.values())
