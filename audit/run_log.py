"""The log of a run: a JSON object per line, for whoever watches or bills it."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from audit.errors import AuditError
from audit.records import StageInfo

log = logging.getLogger(__name__)
PACKAGE = "audit"
FOLDER = "logs"
STAGE = "stage"


class JsonLine(logging.Formatter):
    """``time`` in UTC, ``level``, ``message``, and what the event has beside."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line | getattr(record, "event", {}), default=str)


def tell(message: str, **event: Any) -> None:
    """A line of its own; nothing where no log is kept."""
    log.info(message, extra={"event": event})


def tell_stage(line: StageInfo) -> None:
    """What a stage cost, or that it was in the store."""
    tell(STAGE, **line.model_dump())


def default_path(store_root: Path) -> Path:
    """In the store, named by the time and the process."""
    return store_root / FOLDER / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.jsonl"


class _File(logging.FileHandler):
    """Knows whether a stage was told of."""

    stages = False

    def emit(self, record: logging.LogRecord) -> None:
        self.stages |= record.getMessage() == STAGE
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written to, as on a full disk, ends; the run does not."""
        logging.getLogger(PACKAGE).removeHandler(self)
        log.warning("the log %s ends here: %s", self.baseFilename, sys.exc_info()[1])


@contextmanager
def kept_log(path: Path, asked: bool) -> Iterator[None]:
    """Everything that the package tells goes to the end of the file at ``path`` as well, as it happens.

    A file that nobody ``asked`` for goes where no stage was made and nothing unforeseen happened: bad input leaves
    nothing behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _File(path, encoding="utf-8")
    except OSError as error:
        raise AuditError(f"cannot write the log {path}: {error.strerror or error}; pass --log FILE") from error
    handler.setFormatter(JsonLine())
    logger = logging.getLogger(PACKAGE)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    except AuditError:
        raise
    except BaseException:
        asked = True
        raise
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        with suppress(OSError):  # what was not written yet, on a full disk
            handler.close()
        if not asked and not handler.stages:
            with suppress(OSError):
                path.unlink()
                path.parent.rmdir()  # where it is empty
