"""The exceptions that Occlum raises: one base, each with its cause and, where there is one, the fix."""

from __future__ import annotations

__all__ = ["EnclaveError", "ImageError", "OcclumError", "OptionError"]


class OcclumError(Exception):
    """Base of all errors; `str()` gives the cause and then the fix."""

    def __init__(self, cause: str, fix: str = "") -> None:
        super().__init__(cause, fix)
        self.cause = cause
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.cause}; {self.fix}" if self.fix else self.cause


class OptionError(OcclumError):
    """An option has a value that makes no sense."""


class ImageError(OcclumError):
    """The enclave image is missing or not usable."""


class EnclaveError(OcclumError):
    """The enclave could not be created, or failed while it ran."""
