# SPDX-License-Identifier: Apache-2.0
"""Schema of ``state.db``, the SQLite file with the state of a campaign.

Times: ``at`` is the campaign's time, the seconds of fuzzing over all of its runs; ``wall`` is
Unix time in seconds. Counts are over all runs unless said otherwise. ``docs/state.md`` describes
each table for those who read the file with tools of their own.
"""

from __future__ import annotations

from pathlib import Path

APPLICATION = 0x706B7646
"""``PRAGMA application_id``, by which the file is known: the letters ``pkvF``."""

VERSION = 1
"""``PRAGMA user_version``; it grows with each change that a reader has to know."""

TABLES = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    began REAL NOT NULL,
    alive REAL NOT NULL,
    ended REAL,
    ended_by TEXT NOT NULL DEFAULT '',
    phase TEXT NOT NULL,
    starts_at REAL NOT NULL,
    fuzzed REAL NOT NULL DEFAULT 0,
    seconds REAL,
    programs INTEGER,
    seeds INTEGER NOT NULL,
    vms INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    options TEXT NOT NULL,
    target TEXT NOT NULL,
    bug TEXT,
    driver TEXT NOT NULL,
    kernel TEXT NOT NULL,
    release TEXT NOT NULL,
    fuzzed_on TEXT NOT NULL,
    judged_on TEXT NOT NULL,
    version TEXT NOT NULL,
    qemu TEXT NOT NULL,
    accel TEXT NOT NULL,
    host TEXT NOT NULL,
    cpus INTEGER NOT NULL,
    host_memory INTEGER NOT NULL
);
CREATE TABLE history (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    at REAL NOT NULL,
    wall REAL NOT NULL,
    programs INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    covered INTEGER NOT NULL,
    blocks INTEGER NOT NULL,
    corpus INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    sightings INTEGER NOT NULL,
    waiting INTEGER NOT NULL,
    restores INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    timeouts INTEGER NOT NULL,
    flaky INTEGER NOT NULL,
    replaced INTEGER NOT NULL,
    cpu REAL NOT NULL,
    load REAL NOT NULL,
    memory INTEGER NOT NULL,
    memory_free INTEGER NOT NULL,
    disk INTEGER NOT NULL,
    disk_free INTEGER NOT NULL,
    kept INTEGER NOT NULL
);
CREATE INDEX history_thin ON history (kept);
CREATE TABLE machine (
    name TEXT PRIMARY KEY,
    run INTEGER NOT NULL,
    phase TEXT NOT NULL,
    since REAL NOT NULL,
    programs INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    sightings INTEGER NOT NULL,
    restores INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    timeouts INTEGER NOT NULL,
    replaced INTEGER NOT NULL
);
CREATE TABLE judge (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    status TEXT NOT NULL,
    waiting INTEGER NOT NULL,
    ready INTEGER NOT NULL,
    unrun INTEGER NOT NULL,
    missing TEXT NOT NULL,
    replaced INTEGER NOT NULL
);
CREATE TABLE crash (
    slug TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    kind TEXT NOT NULL,
    function TEXT NOT NULL,
    level TEXT NOT NULL,
    score INTEGER NOT NULL,
    reproduced INTEGER NOT NULL,
    runs INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    judged_on TEXT NOT NULL,
    known TEXT NOT NULL,
    cause TEXT NOT NULL,
    sightings INTEGER NOT NULL,
    first_run INTEGER NOT NULL,
    first_at REAL NOT NULL,
    first_wall REAL NOT NULL
);
CREATE TABLE call (
    op INTEGER NOT NULL,
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    described INTEGER NOT NULL,
    PRIMARY KEY (op, number)
) WITHOUT ROWID;
CREATE TABLE outcome (
    op INTEGER NOT NULL,
    number INTEGER NOT NULL,
    error INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (op, number, error)
) WITHOUT ROWID;
CREATE TABLE block (
    number INTEGER PRIMARY KEY,
    section TEXT NOT NULL,
    offset INTEGER NOT NULL,
    first_run INTEGER,
    first_at REAL,
    first_wall REAL
);
CREATE TABLE aside (
    title TEXT PRIMARY KEY,
    sightings INTEGER NOT NULL,
    state TEXT NOT NULL
);
CREATE TABLE remark (
    about TEXT PRIMARY KEY,
    text TEXT NOT NULL,
    run INTEGER NOT NULL,
    at REAL NOT NULL,
    wall REAL NOT NULL,
    holds INTEGER NOT NULL
);
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    at REAL NOT NULL,
    wall REAL NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX event_kind ON event (kind, id);
"""
"""Statements that make the tables of an empty file."""


def state_file(workdir: Path) -> Path:
    """Return the file with the state of the campaign in a working directory."""
    return workdir / "state.db"
