"""The catalogue: the SQLite database that holds the truth of a living index.

Every change is one transaction, synced before it is acknowledged.  What decides answers carries a checksum,
because SQLite keeps none: the state and the list of segments share a seal; the removed rows are counted and
hashed; each 256 photo records have a crc32, checked when a process first reads them.

Beside the database lies ``generation``, the number of the last acknowledged change.  A catalogue that is
behind it has lost changes (a damaged write-ahead log ends early, without a word) and is refused.

SQLite's log wants to make files beside the database.  Where the folder cannot be written, as on a mounted
archive, a database whose log is empty is read as a file that does not change, and opened again if it does.
"""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from landseer.search.living.filters import Filter, Kind, json_path
from landseer.search.living.segments import SegmentFacts
from landseer.search.living.state import (
    FIXED,
    ModelFacts,
    Snapshot,
    State,
    hash_of_rows,
    seal_of,
    state_of,
    text_of,
)

FILE = "catalogue.sqlite"
GENERATION = "generation"
_GROUP = 8
"""Photo records are checked in groups of 2 ** 8 row numbers."""
_AT_ONCE = 500
_SCHEMA = """
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 0), facts TEXT NOT NULL, seal TEXT NOT NULL);
CREATE TABLE segments (number INTEGER PRIMARY KEY, facts TEXT NOT NULL, block_crcs BLOB NOT NULL);
CREATE TABLE photos (row INTEGER PRIMARY KEY, id TEXT NOT NULL, path TEXT, landmark INTEGER, kind TEXT,
    country TEXT, taken TEXT, latitude REAL, longitude REAL, extra TEXT);
CREATE TABLE photo_groups (number INTEGER PRIMARY KEY, crc INTEGER NOT NULL);
CREATE TABLE live (id TEXT PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE removed (row INTEGER PRIMARY KEY);
"""


class Catalogue:
    """An open catalogue; its methods may be called by several threads."""

    def __init__(self, folder: Path, *, write: bool) -> None:
        self._folder = folder
        self._file = folder / FILE
        self._lock = threading.RLock()
        self._checked: dict[int, int] = {}
        if not self._file.is_file():
            raise ValueError(
                f"{self._file} is missing; the index is lost without it: restore it or build anew"
            )
        self._frozen: tuple[int, ...] | None = None
        """What the files looked like when they were opened as unchanging; None: SQLite sees changes itself."""
        self._times_opened = 0
        with self._plainly():
            if write or os.access(folder, os.W_OK):
                self._db = self._connected("mode=rw")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("PRAGMA secure_delete = ON")  # what is forgotten is gone
                self._db.execute(f"PRAGMA query_only = {int(not write)}")
            else:
                self._open_unwritable()

    def _connected(self, how: str) -> sqlite3.Connection:
        uri = f"file:{self._file.absolute().as_posix().replace('%', '%25').replace('?', '%3f').replace('#', '%23')}"
        return sqlite3.connect(
            f"{uri}?{how}", uri=True, isolation_level=None, check_same_thread=False, timeout=30
        )

    def _open_unwritable(self) -> None:
        self._db, self._frozen = self._connected("mode=ro"), None
        self._times_opened += 1
        try:
            self._db.execute("SELECT facts FROM state").fetchone()  # it can where a writer has made the files
        except sqlite3.OperationalError:
            self._db.close()
            if self._log_bytes():
                raise ValueError(
                    f"{self._file}-wal holds changes that are not folded in yet, and {self._folder} cannot be written; "
                    "open the index once where it can be (landseer index info), or ask for permission to write"
                ) from None
            self._frozen = self._looks()
            self._db = self._connected("mode=ro&immutable=1")

    def _log_bytes(self) -> int:
        log = self._file.with_name(f"{FILE}-wal")
        return log.stat().st_size if log.exists() else 0

    def _looks(self) -> tuple[int, ...]:
        facts = self._file.stat()
        return facts.st_ino, facts.st_mtime_ns, facts.st_size, self._log_bytes()

    @staticmethod
    def create(folder: Path, model: ModelFacts) -> None:
        """An empty catalogue in *folder*, synced."""
        with sqlite3.connect(folder / FILE, isolation_level=None) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.executescript(_SCHEMA)
            state = State(model=model)
            db.execute("INSERT INTO state VALUES (0, ?, ?)", (text_of(state), seal_of(text_of(state), [])))
        db.close()
        _write_generation(folder, 0)

    def close(self) -> None:
        """Let go of the database; the last process to do so folds its log away."""
        with self._lock, suppress(sqlite3.Error):  # a damaged file was or will be told where it is read
            self._db.close()

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """SQLite's words as one line for people."""
        try:
            with self._lock:
                yield
        except sqlite3.OperationalError as error:
            hint = "free some room" if "full" in str(error) else "check its folder's permissions and disk"
            raise ValueError(f"{self._file} cannot be used ({error}); {hint}") from None
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
            raise ValueError(
                f"{self._file} is damaged ({error}); restore it or build the index anew"
            ) from None

    @contextmanager
    def _transaction(self, how: str) -> Iterator[sqlite3.Connection]:
        with self._plainly():
            self._open_again_if_changed()
            frozen = self._frozen
            self._db.execute(f"BEGIN {how}")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            if frozen is not None and self._looks() != frozen:
                raise ValueError(
                    f"{self._file} changed while it was read without permission to write {self._folder}; try again"
                )

    def _open_again_if_changed(self) -> None:
        if self._frozen is not None and self._looks() != self._frozen:
            self._db.close()
            self._open_unwritable()

    # --- reading -----------------------------------------------------------------------------------------

    def version(self) -> int:
        """A number that changes when another process commits; cheap."""
        with self._plainly():
            self._open_again_if_changed()
            (version,) = self._db.execute("PRAGMA data_version").fetchone()
            return (self._times_opened << 32) + int(version)

    def snapshot(self) -> Snapshot:
        """The committed state, its checksums compared."""
        with self._transaction("DEFERRED") as db:
            promised = self._promised()
            state, segments = self._state(db)
            removed_R = np.fromiter(
                (row for (row,) in db.execute("SELECT row FROM removed ORDER BY row")), np.int64
            )
        if (len(removed_R), hash_of_rows(removed_R)) != (state.num_removed, state.removed_hash):
            raise self._damaged("the list of removed photos")
        if state.generation < promised:
            raise ValueError(
                f"{self._file} has lost acknowledged changes ({promised - state.generation} of {promised}): "
                f"its log {FILE}-wal is damaged or missing; restore it or build the index anew"
            )
        return Snapshot(state, segments, removed_R)

    def _state(self, db: sqlite3.Connection) -> tuple[State, tuple[SegmentFacts, ...]]:
        found = db.execute("SELECT facts, seal FROM state").fetchone() or ("", "")
        listed = db.execute("SELECT number, facts, block_crcs FROM segments ORDER BY number").fetchall()
        if seal_of(found[0], listed) != found[1]:
            raise self._damaged("the state")
        return state_of(found[0]), tuple(
            SegmentFacts(**json.loads(text), block_crcs=crcs) for _, text, crcs in listed
        )

    def _damaged(self, what: str) -> ValueError:
        return ValueError(f"{self._file} is damaged: {what} changed; restore it or build the index anew")

    def copy_to(self, folder: Path) -> Snapshot:
        """Put a copy of the committed catalogue into *folder*; its snapshot, the checksums compared."""
        _write_generation(folder, self._promised())
        with self._plainly(), closing(sqlite3.connect(folder / FILE)) as copy:
            self._open_again_if_changed()
            self._db.backup(copy)
        with closing(Catalogue(folder, write=False)) as copied:
            snapshot = copied.snapshot()
        _write_generation(folder, snapshot.state.generation)
        return snapshot

    def _promised(self) -> int:
        file = self._folder / GENERATION
        for _ in range(3):  # the writer may be at it
            try:
                number, _, crc = file.read_bytes().partition(b" ")
                if zlib.crc32(number) == int(crc):
                    return int(number)
            except FileNotFoundError:
                raise ValueError(f"{file} is missing; restore it or build the index anew") from None
            except ValueError:
                continue
        raise ValueError(f"{file} is damaged; restore it or build the index anew")

    def columns(self, state: State) -> dict[str, tuple[str, Kind]]:
        """What a filter may name: the SQL of each column, and its kind."""
        found: dict[str, tuple[str, Kind]] = {name: (name, kind) for name, kind in FIXED.items()}
        for name in state.columns:
            path = json_path(name).replace("'", "''")
            found[name] = (f"json_extract(extra, '{path}')", "any")
        return found

    def rows_where(self, where: Filter, *, generation: int) -> np.ndarray | None:
        """Row numbers the filter selects, removed ones among them; ``None`` if the state has moved on."""
        with self._transaction("DEFERRED") as db:
            state, _ = self._state(db)
            if state.generation != generation:
                return None
            condition, parameters = where.compile(self.columns(state))
            self._check_groups(db, range(-(-state.next_row // 2**_GROUP)))
            # not indexed: the table itself is what was checked
            query = f"SELECT row FROM photos NOT INDEXED WHERE {condition}"  # noqa: S608 - built by the compiler
            return np.fromiter((row for (row,) in db.execute(query, parameters)), np.int64)

    def groups(
        self, state: State, by: str, *, any_of: Sequence[str], mean_of: Sequence[str]
    ) -> list[tuple[Any, ...]]:
        """For each value of the column *by*: value, photos, id of the oldest photo, and what was asked besides.

        That is some value of each of *any_of* and the mean of each of *mean_of*, None where there is none.
        """
        known = self.columns(state)
        asked = [
            *(f"max({known[name][0]})" if name in known else "NULL" for name in any_of),
            *(f"avg({known[name][0]})" if name in known else "NULL" for name in mean_of),
        ]
        column = known[by][0]
        # of the columns that are no aggregate SQLite takes the row that min() found
        query = f"""SELECT {", ".join([column, "count(*)", "id", *asked, "min(row)"])} FROM photos NOT INDEXED
            WHERE {column} IS NOT NULL AND row NOT IN (SELECT row FROM removed)
            GROUP BY {column} ORDER BY {column}"""  # noqa: S608 - built of known columns
        with self._transaction("DEFERRED") as db:
            self._check_groups(db, range(-(-state.next_row // 2**_GROUP)))
            return [found[:-1] for found in db.execute(query)]

    def photos(self, row_M: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Row number -> record, for those that are there."""
        wanted = list(row_M)
        with self._transaction("DEFERRED") as db:
            self._check_groups(db, sorted({row >> _GROUP for row in wanted}))
            query = "SELECT * FROM photos WHERE row IN ({})"
            return {found[0]: _record(found[1:]) for found in _in_parts(db, query, wanted)}

    def live_rows(self, ids: Sequence[str]) -> dict[str, int]:
        """Row numbers by id, for those the index has."""
        query = """SELECT live.id, live.row, photos.id FROM live LEFT JOIN photos ON photos.row = live.row
            WHERE live.id IN ({})"""
        with self._transaction("DEFERRED") as db:
            found = list(_in_parts(db, query, ids))
        if any(photo != recorded for photo, _, recorded in found):
            raise self._damaged("the table of ids")
        return {photo: row for photo, row, _ in found}

    def _check_groups(self, db: sqlite3.Connection, numbers: Sequence[int]) -> None:
        """Compare groups of photo records with their crc32, where this process has not done so."""
        if not numbers:
            return
        first, last = numbers[0], numbers[-1]
        span = (first, last)
        crcs = dict(db.execute("SELECT number, crc FROM photo_groups WHERE number BETWEEN ? AND ?", span))
        due = [number for number in numbers if self._checked.get(number, -1) != crcs.get(number, -2)]
        for low, high in _runs(due):
            for number, crc in _group_crcs(db, low, high).items():
                if crcs.get(number) != crc:
                    raise self._damaged(f"photo records {number << _GROUP} to {(number + 1 << _GROUP) - 1}")
                self._checked[number] = crc

    # --- writing -----------------------------------------------------------------------------------------

    @contextmanager
    def change(self) -> Iterator[Change]:
        """One transaction: synced and visible to all when the block ends, or nothing at all."""
        with self._lock:
            with self._transaction("IMMEDIATE") as db:
                state, segments = self._state(db)
                change = Change(db, state, segments)
                yield change
                change.seal()
            _write_generation(self._folder, change.state.generation)

    def problems(self) -> Iterator[str]:
        """What is wrong with the database, as far as the database can tell."""
        with self._transaction("DEFERRED") as db:
            for (line,) in db.execute("PRAGMA integrity_check(20)"):
                if line != "ok":
                    yield str(line).replace("\n", " ")
            state, _ = self._state(db)
            stored = dict(db.execute("SELECT number, crc FROM photo_groups"))
            found = _group_crcs(db, 0, max([-1, *stored, (state.next_row - 1) >> _GROUP]))
            for number in sorted(set(stored) | set(found)):
                if stored.get(number, _EMPTY) != found.get(number, _EMPTY):
                    yield f"photo records {number << _GROUP} to {(number + 1 << _GROUP) - 1} changed"
            query = """SELECT count(*) FROM photos p LEFT JOIN live l ON l.id = p.id AND l.row = p.row
                LEFT JOIN removed r ON r.row = p.row WHERE (l.row IS NULL) = (r.row IS NULL)"""
            (strange,) = db.execute(query).fetchone()
            (num_live,) = db.execute("SELECT count(*) FROM live").fetchone()
            if strange or num_live != state.num_photos:
                yield f"the table of ids disagrees with the photo records ({strange or 'their number'})"


class Change:
    """What one transaction does; ``state`` is what it will leave behind."""

    def __init__(self, db: sqlite3.Connection, state: State, segments: tuple[SegmentFacts, ...]) -> None:
        self._db = db
        self.state = replace(state, generation=state.generation + 1)
        self.segments = segments

    def add_photos(self, first_row: int, records: Sequence[Mapping[str, Any]]) -> None:
        """Records of new photos, numbered from *first_row*; none of their ids may be live."""
        names = [name for name in records[0] if name not in FIXED] if records else []
        self._db.executemany(
            "INSERT INTO photos VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (first_row + place, *(record[name] for name in FIXED), _extra(record))
                for place, record in enumerate(records)
            ),
        )
        self._db.executemany(
            "INSERT INTO live VALUES (?, ?)",
            ((record["id"], first_row + place) for place, record in enumerate(records)),
        )
        new = {name for record in records for name in record if name not in FIXED} - set(self.state.columns)
        ordered = [name for name in names if name in new] + sorted(new - set(names))
        self.state = replace(
            self.state,
            next_row=first_row + len(records),
            num_photos=self.state.num_photos + len(records),
            columns=(*self.state.columns, *ordered),
        )
        self._renew_groups(first_row >> _GROUP, (self.state.next_row - 1) >> _GROUP)

    def remove(self, rows: Mapping[str, int]) -> None:
        """Mark live photos (id -> row number) as removed."""
        self._db.executemany("DELETE FROM live WHERE id = ?", ((photo,) for photo in rows))
        self._db.executemany("INSERT INTO removed VALUES (?)", ((row,) for row in rows.values()))
        row_M = np.fromiter(rows.values(), np.int64, len(rows))
        self.state = replace(
            self.state,
            num_photos=self.state.num_photos - len(rows),
            num_removed=self.state.num_removed + len(rows),
            removed_hash=self.state.removed_hash ^ hash_of_rows(row_M),
        )

    def change_photos(self, records: Mapping[int, Mapping[str, Any]]) -> None:
        """Put these whole records (row number -> record) in the place of those of the same rows and ids."""
        named = ", ".join(f"{name} = ?" for name in (*FIXED, "extra"))
        self._db.executemany(
            f"UPDATE photos SET {named} WHERE row = ?",  # noqa: S608 - the names are those of FIXED
            ((*(record[name] for name in FIXED), _extra(record), row) for row, record in records.items()),
        )
        new = [name for record in records.values() for name in record if name not in FIXED]
        known = self.state.columns
        self.state = replace(
            self.state, columns=(*known, *(name for name in dict.fromkeys(new) if name not in known))
        )
        for low, high in _runs(sorted({row >> _GROUP for row in records})):
            self._renew_groups(low, high)

    def forget_removed(self) -> None:
        """Drop the records of removed photos; their row numbers are not used again."""
        self._db.execute("DELETE FROM photos WHERE row IN (SELECT row FROM removed)")
        touched = self._db.execute("SELECT DISTINCT row >> ? FROM removed ORDER BY 1", (_GROUP,)).fetchall()
        self._db.execute("DELETE FROM removed")
        for low, high in _runs([number for (number,) in touched]):
            self._renew_groups(low, high)
        self.state = replace(self.state, num_removed=0, removed_hash=0)

    def exchange_segments(self, old: Iterable[int], new: Iterable[SegmentFacts]) -> None:
        """List the segments *new* instead of those numbered *old*."""
        gone, come = set(old), tuple(new)
        self._db.executemany("DELETE FROM segments WHERE number = ?", ((number,) for number in gone))
        for facts in come:
            fields = {key: value for key, value in asdict(facts).items() if key != "block_crcs"}
            self._db.execute(
                "INSERT INTO segments VALUES (?, ?, ?)", (facts.number, json.dumps(fields), facts.block_crcs)
            )
        self.segments = (*(facts for facts in self.segments if facts.number not in gone), *come)
        self.state = replace(
            self.state, next_segment=max([self.state.next_segment, *(facts.number + 1 for facts in come)])
        )

    def seal(self) -> None:
        """Write the state and its checksum: the last act before the commit."""
        listed = self._db.execute("SELECT number, facts, block_crcs FROM segments ORDER BY number").fetchall()
        facts = text_of(self.state)
        self._db.execute("UPDATE state SET facts = ?, seal = ?", (facts, seal_of(facts, listed)))

    def _renew_groups(self, low: int, high: int) -> None:
        self._db.execute("DELETE FROM photo_groups WHERE number BETWEEN ? AND ?", (low, high))
        self._db.executemany(
            "INSERT INTO photo_groups VALUES (?, ?)", _group_crcs(self._db, low, high).items()
        )


_EMPTY = zlib.crc32(repr([]).encode())


def _group_crcs(db: sqlite3.Connection, low: int, high: int) -> dict[int, int]:
    """crc32 of the groups *low* to *high*, both counted."""
    span = (low << _GROUP, (high + 1 << _GROUP) - 1)
    rows = db.execute("SELECT * FROM photos WHERE row BETWEEN ? AND ? ORDER BY row", span)
    crcs = dict.fromkeys(range(low, high + 1), _EMPTY)
    for number, group in itertools.groupby(rows, lambda row: row[0] >> _GROUP):
        crcs[number] = zlib.crc32(repr(list(group)).encode("utf-8", "surrogatepass"))
    return crcs


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of each run of consecutive numbers."""
    for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in group]
        yield members[0], members[-1]


def _in_parts(db: sqlite3.Connection, query: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    for start in range(0, len(values), _AT_ONCE):
        part = values[start : start + _AT_ONCE]
        yield from db.execute(query.format(", ".join("?" * len(part))), list(part))


def _extra(record: Mapping[str, Any]) -> str | None:
    own = {name: value for name, value in record.items() if name not in FIXED}
    return json.dumps(own, ensure_ascii=False, sort_keys=False) if own else None


def _record(found: Sequence[Any]) -> dict[str, Any]:
    return {**dict(zip(FIXED, found, strict=False)), **(json.loads(found[-1]) if found[-1] else {})}


def _write_generation(folder: Path, generation: int) -> None:
    number = f"{generation:020d}".encode()
    handle = os.open(folder / GENERATION, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(handle, number + b" " + f"{zlib.crc32(number):010d}".encode(), 0)  # one write of one sector
    finally:
        os.close(handle)
