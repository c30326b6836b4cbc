"""Outboxes that are killed: everybody who is to be told is told, and doubles are told by their ids."""

from pathlib import Path

import pytest

from ingestion_platform_tests.sinks.killing import campaign


@pytest.mark.parametrize(("kills", "window_seconds"), [(40, 0.0), (20, 0.05)])
def test_however_often_outboxes_are_killed_everybody_is_told(tmp_path: Path, kills: int, window_seconds: float) -> None:
    """What stands was told at least once, what was withdrawn was told to who knew of it, and nothing that never landed was."""
    told = campaign(tmp_path, kills=kills, window_seconds=window_seconds)
    assert len(told.landed) > kills
    assert set(told.heard) <= set(told.landed)
    believed = {id_: max(ordinals) % 2 == 0 for id_, ordinals in told.heard.items()}
    wrong = {id_ for id_, last in told.landed.items() if believed.get(id_, False) != (last % 2 == 0)}
    assert wrong == set()
    assert told.waiting == 0
