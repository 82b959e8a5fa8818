"""Backup and restore: `python -m atft_assets.tools.backup save|check|restore FOLDER`.

A backup is a folder: Dagster's history (`pg_dump`, or SQLite's own backup of each of its files, both of one moment and
without stopping anything), and the files of a local data root. What names other files (manifests, `latest`, records) is
copied last, and once more if it changed meanwhile, so that no backup names a file of a later time. `backup.json` holds
every file's SHA-256. A bucket is left to its own versions: its backup is the history alone.

`restore` looks at every hash first, and writes into an empty history and an empty data root, nowhere else.
"""

import argparse
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from atft_assets.failures import Refusal
from atft_assets.home import FOLDER as HOME_FOLDER
from atft_assets.home import VARIABLE as HOME_VARIABLE
from atft_assets.home import check_home, walk
from atft_assets.settings import PG_URL_VARIABLE, SettingsError, data_root_of
from atft_assets.tools.reaper import STAGED
from atft_model.interchange.disk import DiskError, keep_private, writing
from atft_model.interchange.errors import InterchangeError
from atft_model.interchange.records import read_json, write_json

FORMAT = 1
RECORD, DUMP = "backup.json", "history.dump"
HISTORY, DATA = "history", "data"  # folders of a backup
LEFT_OUT = {"retired"}  # what `mend` put aside
POINTERS = (
    ".json",
    ".jsonl",
    ".txt",
    ".members",
    ".sha256",
    "",
)  # small files that name others; `latest` has no ending
ROUNDS = 3
CHUNK = 1 << 20


class BackupError(Refusal):
    """A backup that cannot be made, or not be restored; the text says why and what to do."""


@dataclass(frozen=True)
class Place:
    """What is saved, and where it is restored to.

    Attributes:
        home: Dagster's home.
        data_root: as the settings say it: an absolute path, or a bucket's address.
        pg_url: address of Dagster's database; empty where it is SQLite in the home.
    """

    home: Path
    data_root: str
    pg_url: str = ""

    @property
    def data(self) -> Path | None:
        """The local data root."""
        return None if "://" in self.data_root else Path(self.data_root)

    @staticmethod
    def exported() -> "Place":
        """The place that the environment names.

        Raises:
            SettingsError: it names none, or a home of another data root.
        """
        home, root = Path(os.environ.get(HOME_VARIABLE, "")), data_root_of(os.environ)
        if not home.is_absolute():
            raise SettingsError(f"{HOME_VARIABLE} is not set, so there is no history to look at: . ./env.sh")
        check_home(root)
        return Place(home, root, os.environ.get(PG_URL_VARIABLE, ""))


def save(place: Place, folder: Path, history_only: bool = False) -> dict[str, str]:
    """Back up into a new folder; SHA-256 of each file by its path in it.

    Raises:
        BackupError: the folder is there already, or the history cannot be read.
        DiskFull, Unwritable: no room, or no right.
    """
    if folder.exists():
        raise BackupError(f"{folder} is there already: give each backup a folder of its own")
    found: dict[str, str] = {}
    with writing(folder):
        # The history first: one that is a little older than the files says "not yet", and the next evening builds the
        # month again; one that is younger would tell of files that are not there.
        history = folder / HISTORY
        history.mkdir(mode=0o700, parents=True)
        for file in dump(place, history):
            found[f"{HISTORY}/{file.name}"] = sha256(file)
        if place.data is not None and not history_only:
            found |= {f"{DATA}/{name}": digest for name, digest in copy_data(place.data, folder / DATA).items()}
        write_json(
            folder / RECORD,
            {
                "format": FORMAT,
                "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "data_root": place.data_root,
                "storage": "postgres" if place.pg_url else "sqlite",
                "files": dict(sorted(found.items())),
            },
        )
    return found


def dump(place: Place, folder: Path) -> list[Path]:
    """Dagster's history, of one moment; the files that hold it."""
    if place.pg_url:
        target = folder / DUMP
        run_program(place, "pg_dump", ["--format=custom", "--no-owner", "--no-privileges", f"--file={target}"])
        return [target]
    files = sorted(place.home.rglob("*.db"))
    if not files:
        raise BackupError(f"{place.home} holds no history; is {HOME_VARIABLE} right, or {PG_URL_VARIABLE} missing?")
    made = []
    for file in files:
        target = folder / str(file.relative_to(place.home)).replace("/", "__")
        with (
            closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(target)) as to,
        ):
            source.backup(to)
        made.append(target)
    return made


def copy_data(root: Path, to: Path) -> dict[str, str]:
    """Copy a data root's files, those that name others last; SHA-256 by path.

    Raises:
        BackupError: something goes on writing, so that there was no quiet moment.
    """
    for _ in range(ROUNDS):
        before = {path: stamp(root / path) for path in pointers(root)}
        found = {name: copied(root / name, to / name) for name in sorted(others(root))}
        found |= {name: copied(root / name, to / name) for name in sorted(before)}
        if before == {path: stamp(root / path) for path in pointers(root)}:
            return {name: digest for name, digest in found.items() if digest}
    raise BackupError(
        f"{root} was written to all the while ({ROUNDS} times over): wait for the run that does, or leave the files to "
        "a snapshot of the volume and save the history alone (--history-only)"
    )


def copied(source: Path, target: Path) -> str:
    """Copy a file with its times, unless a round before did; its SHA-256, nothing if it is gone."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        if not (target.exists() and stamp(target) == stamp(source)):
            shutil.copy2(source, target)
    except FileNotFoundError:  # replaced or removed meanwhile; a pointer that names it has changed as well
        target.unlink(missing_ok=True)
        return ""
    return sha256(target)


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file; zeros when it is gone."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def files_of(root: Path) -> Iterator[str]:
    """Files of a data root that are worth keeping, by their path in it: no half-written ones, no locks."""
    for folder, folders, names in walk(root):
        folders[:] = [name for name in folders if not STAGED.match(name)]
        if Path(folder) == root:
            folders[:] = [name for name in folders if name not in LEFT_OUT]
        for name in names:
            if not STAGED.match(name) and not name.endswith("lock"):
                yield str(Path(folder, name).relative_to(root))


def pointers(root: Path) -> list[str]:
    """Files that name others."""
    return [name for name in files_of(root) if Path(name).suffix in POINTERS]


def others(root: Path) -> list[str]:
    """Files that are named."""
    return [name for name in files_of(root) if Path(name).suffix not in POINTERS]


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check(folder: Path) -> dict[str, Any]:
    """Hold every file of a backup against its record, which is returned.

    Raises:
        BackupError: it is no backup, or damaged; the text names the files.
    """
    if not (folder / RECORD).is_file():
        raise BackupError(f"{folder} is no whole backup: it has no {RECORD}, which is written last")
    record = read_json(folder / RECORD, "it was there just now", InterchangeError)
    if not isinstance(record, dict) or record.get("format") != FORMAT or not isinstance(record.get("files"), dict):
        raise BackupError(f"{folder / RECORD} is not of this version of the tool (format {FORMAT})")
    wrong = [
        name
        for name, digest in record["files"].items()
        if not (folder / name).is_file() or sha256(folder / name) != digest
    ]
    if wrong:
        raise BackupError(f"{folder} is damaged, take another backup: {', '.join(wrong[:5])} ({len(wrong)} file(s))")
    return record


def restore(place: Place, folder: Path) -> int:
    """Write a backup into an empty place; the number of files of the data root.

    Raises:
        BackupError: the backup is damaged or of another storage, or the place is not empty.
        DiskFull, Unwritable: no room, or no right.
    """
    record = check(folder)
    storage = "postgres" if place.pg_url else "sqlite"
    if record["storage"] != storage:
        raise BackupError(
            f"{folder} holds a history of {record['storage']}, and here is {storage}: set {PG_URL_VARIABLE} or unset it"
        )
    data = folder / DATA
    refuse_what_is_there(place, restoring_data=data.is_dir())
    keep_private()
    files = 0
    if data.is_dir() and place.data is not None:
        with writing(place.data):
            shutil.copytree(data, place.data, dirs_exist_ok=True)
            place.data.chmod(0o700)
        files = sum(1 for name in record["files"] if name.startswith(f"{DATA}/"))
    if place.pg_url:
        run_program(
            place, "pg_restore", ["--no-owner", "--no-privileges", "--single-transaction", str(folder / HISTORY / DUMP)]
        )
        return files
    with writing(place.home):
        for file in sorted((folder / HISTORY).iterdir()):
            target = place.home / file.name.replace("__", "/")
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copy2(file, target)
    return files


def refuse_what_is_there(place: Place, restoring_data: bool) -> None:
    """Refuse a place that holds a history or data already.

    Raises:
        BackupError: the text names what is there.
    """
    if place.data is not None and restoring_data and place.data.is_dir():
        kept = sorted(path.name for path in place.data.iterdir() if path.name != HOME_FOLDER)
        if kept:
            raise BackupError(
                f"{place.data} is not empty ({', '.join(kept[:5])}): restore into a new folder (ATFT_DATA)"
            )
    if place.pg_url:
        engine = sa.create_engine(driver_url(place.pg_url), poolclass=sa.pool.NullPool)
        try:
            tables = sa.inspect(engine).get_table_names()
        except sa.exc.OperationalError as error:
            raise BackupError(f"the database does not answer: {' '.join(str(error.orig).split())}") from None
        if tables:
            raise BackupError(f"the database of {PG_URL_VARIABLE} is not empty ({len(tables)} tables): make a new one")
    elif any(place.home.rglob("*.db")):
        raise BackupError(f"{place.home} holds a history already: restore into a new {HOME_VARIABLE}")


def driver_url(url: str) -> sa.URL:
    """An address with the driver that we have."""
    return sa.make_url(url).set(drivername="postgresql+psycopg2")


def run_program(place: Place, program: str, arguments: Sequence[str]) -> None:
    """Run one of PostgreSQL's programs on the database; a password goes through the environment, which no `ps` shows.

    Raises:
        BackupError: it is not there, or it failed; with what it said.
    """
    url = sa.make_url(place.pg_url)
    environ = {**os.environ, **({"PGPASSWORD": str(url.password)} if url.password else {})}
    address = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    found = shutil.which(program) or next(
        iter(sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{program}")), reverse=True)), None
    )
    if found is None:
        raise BackupError(f"{program} is not here: install PostgreSQL's client programs (Debian: postgresql-client)")
    done = subprocess.run(
        [found, f"--dbname={address}", *arguments], env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BackupError(f"{program} failed: {done.stderr.strip() or f'exit code {done.returncode}'}")


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 if it was done, 1 if it cannot be."""
    parser = argparse.ArgumentParser(prog="python -m atft_assets.tools.backup", description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=("save", "check", "restore"), help="what to do with the folder")
    parser.add_argument("folder", type=Path, help="the backup's folder; for `save` a new one")
    parser.add_argument("--history-only", action="store_true", help="save Dagster's history, nothing of the data root")
    given = parser.parse_args(arguments)
    keep_private()
    try:
        if given.what == "check":
            record = check(given.folder)
            print(f"whole: {len(record['files'])} files, made {record['made_at']}")
        elif given.what == "save":
            found = save(Place.exported(), given.folder, given.history_only)
            print(f"saved {len(found)} files to {given.folder}")
        else:
            files = restore(Place.exported(), given.folder)
            print(f"restored the history and {files} files of data. Next: python -m atft_assets.tools.mend --check")
    except (BackupError, SettingsError, DiskError, InterchangeError, sqlite3.Error) as error:
        print(f"backup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
