# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of descriptions, by which editors complete and check them."""

from __future__ import annotations

from pathlib import Path


def schema_path() -> Path:
    """Return the path of the schema, which is a file of this package."""
    return Path(__file__).with_name("schema.json").absolute()


def schema_line() -> str:
    """Return a description's first line, which tells an editor where its schema is."""
    return f"# yaml-language-server: $schema={schema_path().as_uri()}"
