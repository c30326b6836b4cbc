"""Notices of libraries that a user of the platform can't act on: which ones, and how they are kept from him."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import stamina
from dagster_shared.utils.warnings import SupersessionWarning

NOT_FOR_USERS: tuple[type[Warning], ...] = (dg.BetaWarning, dg.PreviewWarning, SupersessionWarning)
"""We chose those features, and hold the version still; who runs the platform can do nothing about them."""


def quieten() -> None:
    """Show none of these notices from now on, in this process; nor stamina's of each retry: who waits tells that himself."""
    stamina.instrumentation.set_on_retry_hooks([])
    for category in NOT_FOR_USERS:
        warnings.filterwarnings("ignore", category=category)


@contextmanager
def quiet() -> Iterator[None]:
    """Show none of these notices within, and leave the process's filters as they were."""
    with warnings.catch_warnings():
        quieten()
        yield
