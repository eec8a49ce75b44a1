"""Entity tags (RFC 9110, 8.8.3): what a representation is recognised by."""

from __future__ import annotations

import re
from hashlib import sha256

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def tag_of(body: bytes) -> str:
    """The strong tag of a body."""
    return f'"{sha256(body).hexdigest()[:32]}"'


def is_among(tag: str, header: str) -> bool:
    """Whether a tag is one of a header's, or any tag will do. A proxy that compresses may have made it a weak one."""
    return header.strip() == "*" or tag in _TAG.findall(header)
