"""vLLM versions: parsing, ordering, and reading them from an image reference."""

import re
from dataclasses import dataclass, field
from typing import Self

_VERSION = re.compile(
    r"v?(?P<major>\d{1,4})\.(?P<minor>\d{1,4})(?:\.(?P<patch>\d{1,4}))?(?:\.(?P<micro>\d{1,4}))?"
    r"(?:(?:a|b|rc|\.dev)\d{1,8})?(?:\.?post(?P<post>\d{1,4}))?(?:\.dev\d{1,8})?(?:\+[A-Za-z0-9.]{1,64})?",
    re.ASCII,
)
_PARTS = ("major", "minor", "patch", "micro", "post")
_LONGEST = 128
_IMAGE_TAG = re.compile(r"v?\d{1,4}\.\d{1,4}\.\d{1,4}(?:\.\d{1,4})?(?:(?:rc|\.?post)\d{1,4})?(?=$|[-_.])", re.ASCII)


@dataclass(frozen=True, order=True)
class EngineVersion:
    """A vLLM release. Ordered by its numbers; pre-release and local parts (``rc1``, ``+cpu``) do not count,
    because a release candidate already has the flags of its release.
    """

    major: int
    minor: int
    patch: int = 0
    micro: int = 0
    post: int = 0
    text: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``0.24.0``, ``v0.24.0``, ``0.32.0+cpu`` or ``0.10.2.post2``.

        Raises ValueError, saying what was expected, for anything else.
        """
        wanted = text.strip()
        match = _VERSION.fullmatch(wanted) if len(wanted) <= _LONGEST else None
        if match is None:
            shown = wanted if len(wanted) <= _LONGEST else wanted[:_LONGEST] + "…"
            raise ValueError(f"not a vLLM version: {shown!r} (expected something like 0.24.0)")
        major, minor, patch, micro, post = (int(match[part] or 0) for part in _PARTS)
        return cls(major, minor, patch, micro, post, text=wanted.removeprefix("v"))

    def __str__(self) -> str:
        if self.text:
            return self.text
        micro = f".{self.micro}" if self.micro else ""
        return f"{self.major}.{self.minor}.{self.patch}{micro}" + (f".post{self.post}" if self.post else "")

    @property
    def release(self) -> str:
        """``major.minor``: the step in which flags come and go."""
        return f"{self.major}.{self.minor}"


OLDEST = EngineVersion(0, 9, 2)
"""Oldest version with a table: the one of the published study."""
NEWEST = EngineVersion(0, 33)
"""Newest minor version whose source the tables were read from."""


def is_newer_than_known(version: EngineVersion) -> bool:
    """True for a minor version after ``NEWEST``: it gets the newest known flags, which may no longer fit."""
    return (version.major, version.minor) > (NEWEST.major, NEWEST.minor)


def version_of_image(image: str) -> EngineVersion | None:
    """VLLM's version as the tag of an image reference says it, or None when it cannot be told.

    Only repositories with ``vllm`` in their path are believed: the tag of another image counts that image's
    own releases. ``latest``, ``nightly`` and references by digest alone tell nothing.
    """
    name = image.strip().split("@", 1)[0]
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag or "vllm" not in repository.lower():
        return None
    match = _IMAGE_TAG.match(tag)
    return EngineVersion.parse(match[0]) if match else None
