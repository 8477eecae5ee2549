"""The options for paths that an import or a commit excludes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from vfs.api.hints import notice_text
from vfs.errors import InvalidInput
from vfs.repo.ignore_rules import Excluded, rules_of

F = TypeVar("F", bound=Callable[..., Any])


def _patterns(_ctx: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> list[bytes]:
    patterns = [os.fsencode(text) for text in value]
    try:
        rules_of(Excluded(patterns))
    except InvalidInput as error:
        raise click.BadParameter(notice_text(error.message, error.hint)) from error
    return patterns


def exclude_options(function: F) -> F:
    """Adds `--exclude`, `--exclude-defaults` and `--no-vfsignore`, passed to the function as one value, `excluded`."""

    def with_value(*args: Any, exclude: list[bytes], exclude_defaults: bool, no_vfsignore: bool, **options: Any) -> Any:
        return function(*args, excluded=Excluded(exclude, exclude_defaults, not no_vfsignore), **options)

    with_value.__doc__ = function.__doc__
    with_value.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    for option in (
        click.option("--no-vfsignore", is_flag=True, help="Let `.vfsignore` files have no effect."),
        click.option(
            "--exclude-defaults",
            is_flag=True,
            help="Leave out what editors, notebooks and downloads leave behind, such as `.ipynb_checkpoints/`.",
        ),
        click.option(
            "--exclude",
            metavar="PATTERN",
            multiple=True,
            callback=_patterns,
            help="Leave out what the pattern names, as a line of `.vfsignore` would.",
        ),
    ):
        option(with_value)
    return with_value  # type: ignore[return-value]
