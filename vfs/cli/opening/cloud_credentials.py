"""Credentials of Amazon's tools: profiles in the user's files, given to the client library by the environment.

The library itself reads the environment and asks for the machine's role; it reads no profiles.
"""

from __future__ import annotations

import os
from pathlib import Path

_OF_PROFILE = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
    "region": "AWS_DEFAULT_REGION",
    "endpoint_url": "AWS_ENDPOINT_URL",
}
_OTHERS = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")


def use_profile() -> None:
    """Puts the profile that AWS_PROFILE names, or `default`, into this process's environment.

    Does nothing where the environment has credentials and names no profile, or where there are no such files.
    """
    name = os.environ.get("AWS_PROFILE")
    if name is None and any(os.environ.get(variable) for variable in _OTHERS):
        return
    for variable, value in profile(name or "default").items():
        if name is not None or variable not in os.environ:
            os.environ[variable] = value


def profile(name: str) -> dict[str, str]:
    """Returns a profile as variables of the environment; empty where it does not exist or cannot be read."""
    import configparser  # Few commands need it.

    home = Path.home() / ".aws"
    found: dict[str, str] = {}
    for variable, default, section in (
        ("AWS_CONFIG_FILE", home / "config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", home / "credentials", name),
    ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(os.environ.get(variable, default), encoding="utf-8")
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue
        if parser.has_section(section):
            found.update({_OF_PROFILE[key]: value for key, value in parser.items(section) if key in _OF_PROFILE})
    return found
