"""How commands read and write the database themselves: they work while no server runs, and beside one that does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
import sqlalchemy as sa

from offhook.config import Settings, load_settings
from offhook.model.call_events import DEFAULT_ACCOUNT
from offhook.model.errors import ConfigError
from offhook.store.database import Database
from offhook.store.database_url import FILE

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What every command of the database is told: by which settings it is found, and how to answer."""

    config: Path | None
    data: Path | None
    as_json: bool

    def settings(self) -> Settings:
        return load_settings(self.config, flags={"data_dir": str(self.data) if self.data is not None else None})


def place_options(command: _Command) -> _Command:
    """``--config``, ``--data`` and ``--json``, as one argument ``place``."""

    def placed(config: Path | None, data: Path | None, as_json: bool, **options: Any) -> Any:
        return command(place=Place(config=config, data=data, as_json=as_json), **options)

    placed.__name__, placed.__doc__ = command.__name__, command.__doc__
    placed.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines."),
        click.option(
            "--data", type=click.Path(path_type=Path, file_okay=False), help="Folder of the server's records."
        ),
        click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="config.json to read."),
    ):
        placed = option(placed)
    return placed  # type: ignore[return-value]


def account_option(command: _Command) -> _Command:
    return click.option("--account", "account_id", default=DEFAULT_ACCOUNT, show_default=True, help="Whose.")(command)


@contextlib.contextmanager
def opened(place: Place, *, make: bool = False) -> Iterator[Database]:
    """The database of a server, its tables up to date. Without ``make`` one that is not there is an error, not made.

    Raises ``ConfigError``, ``click.ClickException``.
    """
    settings = place.settings()
    folder = settings.data_folder
    if not make and not settings.database.url and not (folder / FILE).exists():
        hint = "name the server's folder with --data, or its config.json with --config"
        raise click.ClickException(f"there is no database in {folder}: {hint}")
    database = Database.open(settings.database.url, data_dir=folder)
    with contextlib.closing(database):
        database.migrate()
        try:
            yield database
        except sa.exc.SQLAlchemyError as error:
            if not database.is_away(error):
                raise
            fix = "Start it, or correct the URL"
            raise ConfigError("database.url", f"{database.name} cannot be reached", fix) from None


def print_json(value: Any) -> None:
    """On one line, times in ISO 8601."""
    click.echo(msgspec.json.encode(value).decode())


def seconds_of(text: str) -> float:
    """``90s``, ``15m``, ``2h``, ``30d`` as seconds. Raises ``click.BadParameter``."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not number.isdecimal() or not int(number):
        raise click.BadParameter(f"{text!r}; write it as 90s, 15m, 2h or 30d")
    return int(number) * units[unit]


def shown_time(at: float | None) -> str:
    """Local time as people read it; "" for none."""
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
