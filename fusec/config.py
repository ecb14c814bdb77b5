"""Settings, read from the environment once and changeable at run time.

>>> import fusec
>>> fusec.config.cache_dir.name
'fusec'
"""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

LOG_TOPICS = ("trace", "passes", "fusion", "plan", "source", "launch", "recompile")


def _default_cache_dir() -> Path:
    named = os.environ.get("FUSEC_CACHE_DIR")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fusec"


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} should be a whole number, not {text!r}") from None


def _flag(name: str) -> bool:
    return os.environ.get(name, "").lower() not in ("", "0", "false", "no")


def _topics() -> frozenset[str]:
    named = {t.strip() for t in os.environ.get("FUSEC_LOG", "").split(",") if t.strip()}
    return frozenset(LOG_TOPICS) if "all" in named else frozenset(named)


@dataclass
class Config:
    """Every environment variable of fusec as an attribute.

    cache_dir: folder of the kernel cache (``FUSEC_CACHE_DIR``).
    cache_bytes: size in bytes at which the oldest entries are removed (``FUSEC_CACHE_BYTES``).
    keep_bytes: of the memory of results and temporaries that nobody needs any more, how much is
        kept for the next, in bytes, where one has 8 MB or more (``FUSEC_KEEP_BYTES``).
    most_nodes: operations of a program whose repetitions have become loops; functions that make
        more are run by NumPy, since compiling would take long (``FUSEC_MOST_NODES``).
    num_threads: most threads a kernel may use, or None for what the machine grants
        (``FUSEC_NUM_THREADS``).
    log: topics that are logged (``FUSEC_LOG=trace,passes,...`` or ``all``).
    dump: folder that receives graphs and sources, or None (``FUSEC_DUMP``).
    disable: run every function through NumPy (``FUSEC_DISABLE=1``).
    verify: check every first call against NumPy (``FUSEC_VERIFY=1``).
    transfers: what a copy between host and device that nobody asked for does: "allow" (it is
        counted), "warn" or "fail" (``FUSEC_TRANSFERS``).
    """

    cache_dir: Path = field(default_factory=_default_cache_dir)
    cache_bytes: int = field(
        default_factory=lambda: _number("FUSEC_CACHE_BYTES", 512 << 20)
    )
    keep_bytes: int = field(
        default_factory=lambda: _number("FUSEC_KEEP_BYTES", 256 << 20)
    )
    most_nodes: int = field(default_factory=lambda: _number("FUSEC_MOST_NODES", 10_000))
    num_threads: int | None = field(
        default_factory=lambda: _number("FUSEC_NUM_THREADS", 0) or None
    )
    log: frozenset[str] = field(default_factory=_topics)
    dump: Path | None = field(
        default_factory=lambda: Path(p) if (p := os.environ.get("FUSEC_DUMP")) else None
    )
    disable: bool = field(default_factory=lambda: _flag("FUSEC_DISABLE"))
    verify: bool = field(default_factory=lambda: _flag("FUSEC_VERIFY"))
    transfers: str = field(default_factory=lambda: os.environ.get("FUSEC_TRANSFERS") or "allow")

    def __setattr__(self, name: str, value: object) -> None:
        """A folder may be a str. Raises ValueError for what is no number of bytes."""
        if name in ("cache_dir", "dump") and isinstance(value, str):
            value = Path(value)
        if name.endswith("_bytes") and not (type(value) is int and 0 <= value < 1 << 62):
            raise ValueError(f"fusec.config.{name} is a number of bytes, an int, not {value!r}")
        super().__setattr__(name, value)


config = Config()
_logger = logging.getLogger("fusec")


def log(topic: str, message: str, *args: object) -> None:
    """Log ``message % args`` on stderr when ``topic`` is one of ``config.log``."""
    if topic in config.log:
        if not _logger.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("fusec %(message)s"))
            _logger.addHandler(handler)
            _logger.setLevel(logging.INFO)
        _logger.info("[%s] " + message, topic, *args)
