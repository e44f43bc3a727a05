"""Where a bucket lies; imports nothing, because the Snakefile asks too."""


def is_remote(url: str) -> bool:
    """Whether a bucket lies behind a network (rather than in a folder)."""
    return "://" in url and not url.startswith("file://")
