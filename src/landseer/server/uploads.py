"""What a request brings along: photos and fields, kept in memory only; names of files are dropped unread."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from landseer.pipeline.online import Refused

MOST_FIELDS = 16
_FIELD_BYTES = 8192


@dataclass(frozen=True, kw_only=True)
class Sent:
    """The parts of a form."""

    files: tuple[tuple[str, bytes], ...]
    """(field, content), in order."""
    fields: dict[str, str]

    def one(self, field: str) -> bytes:
        """The only file, which must be of this field.  Raises ``Refused``."""
        if len(self.files) != 1 or self.files[0][0] != field:
            raise Refused(f"send one file, as the form field {field!r} (multipart/form-data)")
        return self.files[0][1]


async def form_of(request: Request, *, most_files: int, most_bytes: int) -> Sent:
    """The multipart form of a request.  Raises ``Refused`` for what is none."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refused("send a form (multipart/form-data) with the photo in it")
    parser = _InMemory(
        request.headers,
        request.stream(),
        max_files=most_files,
        max_fields=MOST_FIELDS,
        max_part_size=_FIELD_BYTES,
    )
    parser.spool_max_size = most_bytes + 1
    try:
        form = await parser.parse()
    except (MultiPartException, UnicodeDecodeError) as error:
        words = getattr(error, "message", "") or "its parts cannot be told apart"
        raise Refused(f"the form cannot be read: {words.rstrip('.').lower()}") from None
    files: list[tuple[str, bytes]] = []
    fields: dict[str, str] = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            fields[name] = value
        else:
            files.append((name, await value.read()))
            await value.close()
    return Sent(files=tuple(files), fields=fields)


async def object_of(request: Request) -> dict[str, Any]:
    """The JSON object that a request brings.  Raises ``Refused`` for anything else."""
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refused("send a JSON object") from None
    if not isinstance(found, dict):
        raise Refused("send a JSON object")
    return found


class _InMemory(MultiPartParser):
    """Keeps every file in memory: the size of a request is limited before, and nothing goes to a disk."""
