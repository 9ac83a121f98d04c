"""Takes out of whatever is logged what has the shape of a credential, wherever it came from.

No caller hands one over: it is a `Secret`, which prints as `***`. This is for what a client put where no credential
belongs, such as a token in an Origin, and for what a library quotes in an error.
"""

from __future__ import annotations

import re

SHORTEST = 20
# A JWT (RFC 7519); 256 random bits in base64url, as sessions, refresh tokens, tickets and links are, and not the
# thumbprint in the name of a key's file; a password's hash in PHC form.
# The JWT goes with whatever its first part begins with, for which a run of its letters is read once: looked for at each
# of its beginnings, a text made of nothing else took the square of its length.
SHAPES = re.compile(
    r"(?<![\w-])(?>[\w-]*?eyJ)[\w-]*+\.[\w-]++(?:\.[\w-]*+)?"
    r"|(?<![\w-])[A-Za-z0-9_-]{43}(?![\w-]|\.pem)|\$argon2\w+\$[^\s\"']+"
)


def redact(text: str) -> str:
    """Return the text with `***` in the place of what looks like a credential."""
    return text if len(text) < SHORTEST else SHAPES.sub("***", text)
