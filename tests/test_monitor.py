"""What somebody sees while an audit works."""

import io

from rich.console import Console

from audit.monitor import LineMonitor, LiveMonitor, monitor_for


def test_a_file_gets_a_line_per_stage_with_its_time_and_no_count() -> None:
    file = io.StringIO()
    with monitor_for(Console(file=file)) as monitor:
        assert isinstance(monitor, LineMonitor)
        with monitor.steps("teacher [vgg5], seed 0", 1), monitor.steps("epochs", 20) as advance:
            advance()
    assert file.getvalue() == "   0:00  teacher [vgg5], seed 0\n"


def test_a_terminal_gets_a_display_that_vanishes() -> None:
    file = io.StringIO()
    with monitor_for(Console(file=file, force_terminal=True, width=100)) as monitor:
        assert isinstance(monitor, LiveMonitor)
        with monitor.steps("teacher", 1):
            pass
    assert file.getvalue().endswith("\x1b[?25h") or "\x1b[2K" in file.getvalue()
