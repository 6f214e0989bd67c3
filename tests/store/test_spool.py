"""A spool gives back what it took, in order, whoever opens it next."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.store.stories import ARRIVED, ENDED, TURN, WHOLE, event, story

from offhook.model.call_events import CallEvent, CallFact, ProviderUsage, UsageAmount
from offhook.store.batches import Entry, SavedLeg
from offhook.store.facts import fact_json, fact_of
from offhook.store.spool import BROKEN_FILE, FILE, REFUSED_FILE, Spool


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path)) as one:
        yield one


def leg(saved: bytes | None) -> SavedLeg:
    return SavedLeg(call_id="c1", leg_id="leg-1", saved=saved)


def waiting(spool: Spool) -> list[Entry | str]:
    return [one.entry for one in spool.first(10_000)]


def test_entries_come_back_in_their_order(spool: Spool) -> None:
    entries: list[Entry] = [*story(*WHOLE), leg(b"\xff\x00"), leg(b""), leg(None), *story(ARRIVED, call_id="c2")]
    spool.append(entries[:4])
    spool.append(entries[4:])
    assert waiting(spool) == entries
    assert len(spool) == len(entries)


def test_the_next_process_finds_them(tmp_path: Path) -> None:
    with closing(Spool(tmp_path)) as spool:
        spool.append(story(*WHOLE))
    with closing(Spool(tmp_path)) as spool:
        assert waiting(spool) == story(*WHOLE)


def test_what_is_dropped_is_gone_and_the_rest_follows(spool: Spool) -> None:
    spool.append(story(*WHOLE))
    first = spool.first(4)
    spool.drop(first[-1])
    assert waiting(spool) == story(*WHOLE)[4:]
    assert len(spool) == len(WHOLE) - 4


def test_an_empty_spool_leaves_no_file(tmp_path: Path) -> None:
    with closing(Spool(tmp_path)) as spool:
        assert not list(tmp_path.iterdir())
        spool.append(story(*WHOLE))
        assert (tmp_path / FILE).stat().st_mode & 0o077 == 0
        spool.drop(spool.first(100)[-1])
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_encoded_is_refused_with_all_that_came_with_it(spool: Spool) -> None:
    with pytest.raises(TypeError):
        spool.append([event(ARRIVED, 1), event(object(), 2)])  # type: ignore[arg-type]
    assert waiting(spool) == []


def test_a_fact_that_this_version_does_not_know_is_shown_as_text(tmp_path: Path) -> None:
    with closing(Spool(tmp_path)) as spool:
        spool.append(story(ARRIVED, ENDED))
    with closing(sqlite3.connect(tmp_path / FILE)) as file:
        file.execute("UPDATE entries SET kind = 'CallBeamed' WHERE seq = 2")
        file.commit()
    with closing(Spool(tmp_path)) as spool:
        known, unknown = waiting(spool)
        assert known == event(ARRIVED, 1)
        assert isinstance(unknown, str)
        assert "CallBeamed" in unknown


def test_what_nothing_takes_is_laid_aside_line_by_line(spool: Spool, tmp_path: Path) -> None:
    spool.lay_aside(event(TURN, 1), "too strange \udcff")
    spool.lay_aside("text", "unreadable")
    first, second = (tmp_path / REFUSED_FILE).read_text().splitlines()
    assert TURN.text in first
    assert "udcff" in first
    assert "unreadable" in second
    assert (tmp_path / REFUSED_FILE).stat().st_mode & 0o077 == 0


def test_a_broken_file_is_kept_aside_and_a_new_one_begun(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all, but long enough to be read as one" * 50)
    with closing(Spool(tmp_path)) as spool:
        spool.append(story(ARRIVED))
        assert waiting(spool) == story(ARRIVED)
    assert (tmp_path / BROKEN_FILE).read_bytes().startswith(b"no database")
    assert BROKEN_FILE in caplog.text


FINITE = st.floats(allow_nan=False, allow_infinity=False)  # JSON has no others


def any_of(fact: type[CallFact]) -> st.SearchStrategy[CallFact]:
    types = get_type_hints(fact)
    figures: dict[str, st.SearchStrategy[Any]] = {
        name: FINITE for name in types if types[name] in (float, float | None)
    }
    if fact is ProviderUsage:
        figures["amounts"] = st.lists(st.builds(UsageAmount, amount=FINITE), max_size=3).map(tuple)
    return st.builds(fact, **figures)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of([any_of(fact) for fact in get_args(CallFact)]))
def test_every_fact_survives_its_json(fact: CallFact) -> None:
    """But for what no text can hold, which is written out once and stays so."""
    once = fact_of(type(fact).__name__, fact_json(fact))
    assert type(once) is type(fact)
    assert fact_of(type(fact).__name__, fact_json(once)) == once


def test_the_facts_of_a_call_survive_as_they_are() -> None:
    for one in story(*WHOLE):
        assert (
            CallEvent(
                call_id=one.call_id,
                leg_id=one.leg_id,
                seq=one.seq,
                at=one.at,
                fact=fact_of(type(one.fact).__name__, fact_json(one.fact)),
            )
            == one
        )


def test_no_fact_is_made_of_another_s_json() -> None:
    with pytest.raises(ValueError, match="no fact"):
        fact_of("CallBeamed", "{}")
    with pytest.raises(ValueError, match="missing required field"):
        fact_of("CallEnded", "{}")
