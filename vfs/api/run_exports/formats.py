"""The formats by the names that commands take."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from vfs.api.run_exports.in_toto import in_toto_statement
from vfs.api.run_exports.openlineage import openlineage_events
from vfs.api.run_exports.prov import prov_document
from vfs.api.run_exports.ro_crate import ro_crate
from vfs.model.run_record import RunRecord

_FORMATS: dict[str, Callable[[RunRecord], dict[str, Any] | list[dict[str, Any]]]] = {
    "ro-crate": ro_crate,
    "openlineage": openlineage_events,
    "in-toto": in_toto_statement,
    "prov": prov_document,
}
FORMATS = tuple(_FORMATS)


def exported(record: RunRecord, name: str) -> list[str]:
    """Returns a run in a format, as lines of JSON: one, or of OpenLineage one for each event. Raises InvalidInput."""
    found = _FORMATS[name](record)
    return [json.dumps(each) for each in (found if isinstance(found, list) else [found])]
