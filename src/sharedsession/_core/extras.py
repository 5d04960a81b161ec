"""What to install for a library that an optional part of this package needs."""

from __future__ import annotations


def missing(error: ModuleNotFoundError, extra: str, *libraries: str) -> ModuleNotFoundError:
    """Return an error that names the extra; an error about another library stays what it is."""
    if (error.name or "").partition(".")[0] not in libraries:
        return error
    return ModuleNotFoundError(
        f"This needs the package {error.name}, which is not installed: "
        f"pip install 'sharedsession[{extra}]'.",
        name=error.name,
    )
