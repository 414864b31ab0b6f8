"""Our own fuzzing engine: a target, a corpus, some time. An input that reaches a rule or an
outcome for the first time is kept and varied further; the rules reached are the measure.

A campaign of one job and a number of executions is reproducible from its seed. Jobs are
processes that share the corpus directory and look into it now and then.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
import traceback
from dataclasses import dataclass, field

from hvmctx.errors import InputError
from hvmctx.files.output import replacing
from hvmctx.fuzz.corpus import Corpus
from hvmctx.fuzz.minimise import minimise
from hvmctx.fuzz.target import Target
from hvmctx.fuzz.targets import TARGETS
from hvmctx.messages import printable
from hvmctx.workers import Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Report = dict[str, Any]

__all__ = ["Engine", "Summary", "campaign"]

_LOOK_EVERY = 2.0
_SHOW_EVERY = 0.5
_MOST_FINDINGS = 50


@dataclass
class Summary:
    """What a campaign did. `timeline` has (seconds, rules reached so far) for every change;
    `interrupted` says whether Ctrl-C ended it."""

    target: str
    seed: int
    seconds: float = 0.0
    executions: int = 0
    corpus: int = 0
    reached: set[str] = field(default_factory=set)
    known: frozenset[str] = frozenset()
    findings: list[str] = field(default_factory=list)
    timeline: list[tuple[float, int]] = field(default_factory=list)
    interrupted: bool = False

    @property
    def missing(self) -> list[str]:
        """Known rules that no input reached."""
        return sorted(self.known - self.reached)

    @property
    def rules(self) -> int:
        """How many known rules were reached."""
        return len(self.known & self.reached)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "target": self.target, "seed": self.seed, "seconds": round(self.seconds, 1),
            "executions": self.executions,
            "executions_per_second": round(self.executions / max(self.seconds, 1e-9), 1),
            "corpus": self.corpus, "rules_reached": self.rules, "rules_known": len(self.known),
            "missing": self.missing, "findings": self.findings,
            "timeline": [[round(at, 1), count] for at, count in self.timeline],
        }  # fmt: skip

    def text(self) -> str:
        """A few lines for a terminal."""
        rate = self.as_dict()["executions_per_second"]
        lines = [
            f"{self.target}: {self.executions} executions in {self.seconds:.0f} s, {rate} a second",
            f"  corpus {self.corpus}, rules reached {self.rules} of {len(self.known)}",
        ]
        if self.missing:
            lines.append(f"  not reached: {', '.join(self.missing)}")
        lines += [f"  finding: {printable(path)}" for path in self.findings]
        return "\n".join(lines) + "\n"


class Engine:
    """One job: picks an input, edits it, runs the target, keeps what reached something new."""

    def __init__(self, target: Target, corpus: Corpus, seed: int, job: int = 0) -> None:
        self.target = target
        self.summary = Summary(target.name, seed, known=target.known)
        self._corpus = corpus
        self._rng = random.Random(f"{seed}/{job}")
        self._population: list[bytes] = []
        self._names: set[str] = set()
        self._raised: set[str] = set()
        self._started = time.monotonic()

    def begin(self) -> None:
        """Run the target's own inputs and those of the corpus."""
        for data in self.target.seeds(self._rng):
            self._try(data)
        self.look()
        if not self._population:
            self._population = self.target.seeds(self._rng)

    def look(self) -> None:
        """Take in what other jobs and earlier campaigns have found."""
        for name, data in self._corpus.load(self._names):
            self._names.add(name)
            self._try(data, keep=False)
            self._population.append(data)

    def step(self) -> None:
        """One execution."""
        population, rng = self._population, self._rng
        # what was found lately has been varied less
        late = rng.random() < 0.5
        among = population[-8:] if late else population
        data = rng.choice(among)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            data = self.target.mutate(data, rng)
        self._try(data)

    def _try(self, data: bytes, *, keep: bool = True) -> None:
        summary = self.summary
        summary.executions += 1
        try:
            reached = self.target.run(data)
        except Exception as error:
            self._found(data, error)
            return
        if reached <= summary.reached:
            return
        summary.reached |= reached
        summary.timeline.append((time.monotonic() - self._started, summary.rules))
        if keep:
            path = self._corpus.add(data)
            self._names.add(os.path.basename(path))
            self._population.append(data)

    def _found(self, data: bytes, error: Exception) -> None:
        """Keep the first finding of its kind, minimised."""
        kind = _where(error)
        if kind in self._raised or len(self._raised) >= _MOST_FINDINGS:
            return
        self._raised.add(kind)

        def again(candidate: bytes) -> bool:
            try:
                self.target.run(candidate)
            except Exception as other:
                return _where(other) == kind
            return False

        report, small = f"{kind}\n\n{traceback.format_exc()}", data
        try:
            small = minimise(data, again, tries=500)
        finally:  # it is kept after Ctrl-C too
            self.summary.findings.append(self._corpus.add_finding(small, report))


def _where(error: Exception) -> str:
    """What kind of finding an exception is: its class, and the function that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {os.path.basename(last.filename)}, {last.name}"


def campaign(
    name: str,
    directory: str,
    *,
    seed: int = 1,
    seconds: float | None = None,
    executions: int | None = None,
    jobs: int = 1,
    progress: Callable[[Summary], object] = lambda summary: None,
) -> Summary:
    """Fuzz a target for a number of seconds, or of executions of each job. Inputs that are
    in the corpus already are run first. Ctrl-C ends it; what was found until then is
    returned. Raises InputError if a job's process dies."""
    if jobs <= 1:
        return _job(name, directory, seed, 0, seconds, executions, progress)
    corpus = Corpus(directory)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as place:

        def so_far() -> Summary:
            whole = _together(Summary(name, seed, known=TARGETS[name].known), _reports(place))
            whole.seconds, whole.corpus = time.monotonic() - start, len(corpus.names())
            return whole

        calls = [
            (name, directory, seed, job, seconds, executions, place, os.getpid())
            for job in range(jobs)
        ]
        interrupted = False
        try:
            with Workers(_job_of_many, calls) as workers:
                while not workers.wait(_SHOW_EVERY):
                    progress(so_far())
        except KeyboardInterrupt:
            interrupted = True
        except InputError as error:
            raise InputError(f"{error}; what was found before is in {directory}") from error
        summary = so_far()
        summary.interrupted = interrupted
        return summary


def _job(
    name: str,
    directory: str,
    seed: int,
    job: int,
    seconds: float | None,
    executions: int | None,
    progress: Callable[[Summary], object],
) -> Summary:
    start = looked = time.monotonic()
    corpus = Corpus(directory)
    engine = Engine(TARGETS[name], corpus, seed, job)
    summary = engine.summary
    try:
        engine.begin()
        while True:
            now = time.monotonic()
            if seconds is not None and now - start >= seconds:
                break
            if executions is not None and summary.executions >= executions:
                break
            engine.step()
            if now - looked > _LOOK_EVERY:
                looked = now
                summary.seconds, summary.corpus = now - start, len(corpus.names())
                if seconds is not None:  # else the seed alone decides what is run
                    engine.look()
                progress(summary)
    except KeyboardInterrupt:
        summary.interrupted = True
    summary.seconds, summary.corpus = time.monotonic() - start, len(corpus.names())
    return summary


def _job_of_many(
    name: str, directory: str, seed: int, job: int, seconds: float | None,
    executions: int | None, place: str, parent: int,
) -> None:  # fmt: skip
    """A job in a process of its own, whose reports are files in `place`."""

    def report(summary: Summary) -> None:
        plain = {**summary.as_dict(), "reached": sorted(summary.reached)}
        with replacing(os.path.join(place, f"{job}.json"), force=True) as out:
            out.write(json.dumps(plain).encode())
        if os.getppid() != parent:  # nobody is left to end this process
            raise KeyboardInterrupt

    report(_job(name, directory, seed, job, seconds, executions, report))


def _reports(place: str) -> Iterator[Report]:
    """The last report of every job that has made one."""
    for name in sorted(os.listdir(place)):
        if name.endswith(".json"):
            with open(os.path.join(place, name), encoding="ascii") as file:
                yield json.load(file)


def _together(whole: Summary, reports: Iterator[Report]) -> Summary:
    """What all jobs did."""
    timeline: list[tuple[float, int]] = []
    for report in reports:
        whole.executions += report["executions"]
        whole.reached |= set(report["reached"])
        whole.findings += report["findings"]
        timeline += [(at, count) for at, count in report["timeline"]]
    best = 0
    for at, count in sorted(timeline):
        if count > best:
            best = count
            whole.timeline.append((at, count))
    return whole
