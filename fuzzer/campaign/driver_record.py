# SPDX-License-Identifier: Apache-2.0
"""Record of the driver that a campaign fuzzes, in its working directory, for reports about it.

It has what reading a report would else take a kernel, a driver and a machine for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzer.atomic import write_whole
from fuzzer.driver.blocks import LINKED, Block
from fuzzer.driver.provision import Guest
from fuzzer.errors import BadInputError
from fuzzer.target.calls import AnyIoctlSpec, IoctlSpec

_FORMAT = 1
_FILE = "driver.json"
_TEXT = ".text"
# Bytes of code that a block has at most, by a generous guess.
_LONGEST_BLOCK = 4096
# The upper half of an address of the kernel's code.
_KERNEL = 0xFFFFFFFF00000000


@dataclass(frozen=True, slots=True)
class DriverRecord:
    """The build of a driver that a campaign fuzzes on the kernel of ``flavour`` and ``release``.

    ``key`` names the build. ``loaded`` are the numbers of the blocks that loading it reaches,
    ``sections`` the places of its sections, in bytes behind its code's. ``ioctls`` are the names
    of those that are described, by number; with ``any_ioctl`` others are tried as well.
    """

    name: str
    key: str
    flavour: str
    release: str
    target: str
    description: str
    blocks: tuple[Block, ...]
    loaded: frozenset[int]
    sections: dict[str, int]
    ioctls: dict[int, str]
    any_ioctl: bool

    def places_of(self, sites: Iterable[int]) -> dict[int, Block]:
        """Return the places of comparisons, as section and offset; of those in no section none.

        Sites are as :class:`fuzzer.engine.compared.ConstantCompared` has them.
        """
        if self.blocks and self.blocks[0].section == LINKED:
            return {site: Block(LINKED, _KERNEL | site) for site in sites}
        ends = {block.section: block.offset for block in sorted(self.blocks)}
        found = {}
        for site in sites:
            for section, start in self.sections.items():
                offset = (site - start) & 0xFFFFFFFF
                # A comparison may come behind the beginning of the last block.
                if section in ends and offset <= ends[section] + _LONGEST_BLOCK:
                    found[site] = Block(section, offset)
                    break
        return found


def record_of(guest: Guest) -> DriverRecord:
    """Return the record of the driver in a guest."""
    driver, target = guest.driver, guest.target
    described = [each for each in target.calls if isinstance(each, IoctlSpec)]
    places = guest.template.sections
    text = places.get(_TEXT, 0)
    return DriverRecord(
        name=driver.name,
        key=driver.key,
        flavour=guest.kernel.flavour.value,
        release=guest.kernel.release(),
        target=target.name,
        description=str(target.path),
        blocks=guest.blocks,
        loaded=guest.load_blocks,
        sections={
            name: start - text
            for name, start in places.items()
            if name in {block.section for block in guest.blocks}
        },
        ioctls={each.number: each.name or f"{each.number:#x}" for each in described},
        any_ioctl=any(isinstance(each, AnyIoctlSpec) for each in target.calls),
    )


def write_driver_record(workdir: Path, record: DriverRecord) -> None:
    """Write the record into a working directory.

    Raises:
        OSError: it cannot be written.
    """
    content = {
        "format": _FORMAT,
        "name": record.name,
        "key": record.key,
        "flavour": record.flavour,
        "release": record.release,
        "target": record.target,
        "description": record.description,
        "blocks": [[block.section, block.offset] for block in record.blocks],
        "loaded": sorted(record.loaded),
        "sections": record.sections,
        "ioctls": {str(number): name for number, name in record.ioctls.items()},
        "any_ioctl": record.any_ioctl,
    }
    write_whole(workdir / _FILE, json.dumps(content))


def read_driver_record(workdir: Path) -> DriverRecord:
    """Return the record in a working directory.

    Raises:
        BadInputError: there is none, or it is damaged.
    """
    path = workdir / _FILE
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        if content["format"] != _FORMAT:
            raise BadInputError(f"{path}: format {content['format']}; this pkvfuzz reads {_FORMAT}")
        return DriverRecord(
            name=str(content["name"]),
            key=str(content["key"]),
            flavour=str(content["flavour"]),
            release=str(content["release"]),
            target=str(content["target"]),
            description=str(content["description"]),
            blocks=tuple(Block(str(section), int(at)) for section, at in content["blocks"]),
            loaded=frozenset(map(int, content["loaded"])),
            sections={str(name): int(at) for name, at in content["sections"].items()},
            ioctls={int(number): str(name) for number, name in content["ioctls"].items()},
            any_ioctl=bool(content["any_ioctl"]),
        )
    except FileNotFoundError as error:
        raise BadInputError(
            f"{path}: missing. A campaign that runs in {workdir} writes it"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(
            f"{path}: damaged ({type(error).__name__}: {error}). "
            f"A campaign that runs in {workdir} writes it anew"
        ) from error
