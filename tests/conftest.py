"""What holds for every test."""

import signal


def pytest_configure() -> None:
    """Take signals as a terminal's programs do, whoever started the tests.

    A job in the background ignores SIGINT and one of nohup SIGHUP, and so would all that tests start.
    """
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
