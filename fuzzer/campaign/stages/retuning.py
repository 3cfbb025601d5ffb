# SPDX-License-Identifier: Apache-2.0
"""Stage that varies programs whose crash did not reproduce.

Other allocations fail, as kernels do not make the same ones. The module is loaded with
other parameters, such as a longer delay: ``full`` takes longer to unload a module, so that
a timer which fired after that on the fuzzed kernel would fire before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fuzzer.campaign.stages.corpus_stage import CorpusStage
from fuzzer.campaign.stages.faults import MAX_FAULTS, MAX_LOAD_FAULTS, failing
from fuzzer.campaign.stages.stage import HALF
from fuzzer.campaign.stages.sweeps import Sweeps
from fuzzer.campaign.stages.workbench import Workbench
from fuzzer.program.conditions import can_fail, fault_of, is_racing
from fuzzer.program.ops import Op
from fuzzer.program.wire import decode, encode, split

# Sweeps that may wait; older ones are dropped.
_MOST_WAITING = 8
# Last programs of a history that may have started what crashed later.
_SUSPECTS = 8
# Variants remembered so that none runs twice; each is up to some kilobytes.
_MOST_RELOADED = 1000
_LOAD = int(Op.LOAD)


class Retuning(CorpusStage):
    """Runs programs of sightings that did not reproduce with other faults and other parameters.

    It has half of the turns, so that many such programs do not keep other stages waiting.
    """

    name, share = "retuning", HALF

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._sweeps = Sweeps(bench, _MOST_WAITING)
        self._reloaded: set[bytes] = set()

    def retune(self, program: bytes, history: Sequence[bytes] = ()) -> None:
        """Queue variants of a program that did not reproduce, and of those before it."""
        bench = self._bench
        if parameters := bench.mutator.load_parameters():
            self._sweeps.append(self._load_otherwise([*history, program], parameters))
        if not bench.mechanisms.faults or is_racing(chunks := split(program)):
            return
        for index, chunk in enumerate(chunks):
            if can_fail(chunk) and fault_of(chunk):
                self._sweeps.append(self._fail_near(chunks, index))

    def step(self) -> bool:
        """Run some variants; tell whether there were any."""
        return self._sweeps.step()

    def _load_otherwise(
        self, programs: Sequence[bytes], parameters: Sequence[bytes]
    ) -> Iterator[bool]:
        """Run the last programs with other parameters, those of them that load the module."""
        bench = self._bench
        for program in reversed(programs[-_SUSPECTS:]):
            calls = decode(program)
            if is_racing(split(program)):
                continue
            for each in parameters:
                changed = encode(
                    tuple(
                        replace(call, data=each) if call.op is Op.LOAD else call for call in calls
                    )
                )
                if changed == program or changed in self._reloaded:
                    continue
                if len(self._reloaded) >= _MOST_RELOADED:
                    self._reloaded.clear()
                self._reloaded.add(changed)
                outcome = bench.run(bench.plain, changed)
                yield True
                if outcome.splat:
                    return

    def _fail_near(self, chunks: list[bytes], index: int) -> Iterator[bool]:
        """Make one call fail at other allocations, the nearest first, until there is a splat."""
        bench, chunk = self._bench, chunks[index]
        asked = fault_of(chunk)
        last = MAX_LOAD_FAULTS if chunk[0] == _LOAD else MAX_FAULTS
        for nth in sorted(range(1, last + 1), key=lambda nth: abs(nth - asked)):
            if nth > last:
                continue
            outcome = bench.run(bench.plain, failing(chunks, index, nth))
            yield True
            if outcome.splat:
                return
            if not bench.has_failed(index):
                last = nth - 1
