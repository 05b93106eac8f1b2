"""Callers that wait together, the retry and the circuit breaker. Knows neither HTTP nor SQL."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

PROBE_PAUSE = 0.5  # seconds between two probes while the circuit breaker is open


class Unavailable(Exception):
    """The work cannot be done now; the message says what to do."""


class AttemptError(Exception):
    """One attempt failed. `code` tells the kind of failure, `transient` whether another attempt may succeed."""

    def __init__(self, code: str, message: str, transient: bool) -> None:
        super().__init__(message)
        self.code = code
        self.transient = transient


class FaultLog:
    """Logs one line when a fault begins and one when it ends, whatever fails under it.

    Another cause has a line of its own, once, if work was given up for it.
    """

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._failing: set[CircuitBreaker] = set()
        self._logged: set[str] = set()  # codes, during this fault
        self._since = 0.0  # time.monotonic()

    def failed(self, breaker: CircuitBreaker, error: AttemptError, given_up: bool) -> None:
        """Note a failed attempt, and whether its work was given up."""
        if not self._failing:
            self._since = time.monotonic()
            self._logged.clear()
        if not self._failing or (given_up and error.code not in self._logged):
            self._logged.add(error.code)
            log("ERROR", f"{self._subject} fails", sqlstate=error.code, reason=str(error))
        self._failing.add(breaker)

    def succeeded(self, breaker: CircuitBreaker) -> None:
        """Note that an attempt succeeded."""
        if not self._failing:
            return
        self._failing = set() if breaker.writes else self._failing - {breaker}
        if not self._failing:
            log("NOTICE", f"{self._subject} works again", seconds=round(time.monotonic() - self._since, 1))


class CircuitBreaker:
    """Refuses callers at once while the work keeps failing, but for one at a time that probes whether it still does.

    `writes`: if this work succeeds, everything else works, too.
    """

    def __init__(self, advice: str, faults: FaultLog, *, writes: bool = False) -> None:
        self.advice = advice
        self.writes = writes
        self.is_open = False
        self._faults = faults
        self._next_probe = 0.0  # time.monotonic()

    def check(self, probe_seconds: float) -> None:
        """Raise Unavailable while it is open, unless a probe is due; the next one is then due after so many seconds."""
        if self.is_open:
            if time.monotonic() < self._next_probe:
                raise Unavailable(self.advice)
            self._next_probe = time.monotonic() + probe_seconds

    def failed(self, error: AttemptError, given_up: bool) -> None:
        """Note a failed attempt; it opens where the work was given up."""
        self._faults.failed(self, error, given_up)
        if given_up:
            self.is_open = True
            self._next_probe = time.monotonic() + PROBE_PAUSE

    def succeeded(self) -> None:
        """Note that an attempt succeeded, and close."""
        self.is_open = False
        self._faults.succeeded(self)


class _Batch(Generic[Item, Result]):
    """What is worked on together, since when it waits, and the outcome that all of its callers wait for."""

    def __init__(self, deadline: float, advice: str) -> None:
        loop = asyncio.get_running_loop()
        self.items: dict[Item, None] = {}  # a set that keeps the order
        self.caller_count = 0
        self.born = loop.time()
        self.outcome: asyncio.Future[Mapping[Item, Result | Exception] | Unavailable] = loop.create_future()
        self._timer = loop.call_at(self.born + deadline, self.settle, Unavailable(advice))

    @property
    def size(self) -> int:
        """What it costs to keep and to answer it."""
        return max(len(self.items), self.caller_count)

    def settle(self, outcome: Mapping[Item, Result | Exception] | Unavailable) -> None:
        """Let its callers have their results, or why there are none; after its deadline that is known already."""
        self._timer.cancel()
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Batcher(Generic[Item, Result]):
    """Lets callers that arrive while a batch is under way wait, and go together in the next one.

    `work` takes the different items of a batch and returns the result of each, or the exception that its callers get.
    It raises AttemptError where the outcome is unknown; so it must be safe to repeat. A batch is tried again until it
    is `patience` seconds old, and its callers have their answer when it is `deadline` seconds old, whatever happens.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Awaitable[Mapping[Item, Result | Exception]]],
        breaker: CircuitBreaker,
        *,
        max_size: int,
        max_waiting: int,
        patience: float = 5.0,
        deadline: float = 7.5,
    ) -> None:
        self._work = work
        self._breaker = breaker
        self._max_size = max_size  # callers or items of a batch; one caller with more items gets a batch of its own
        self._max_waiting = max_waiting  # of all batches that wait, which bounds the memory and the wait
        self._patience = patience
        self._deadline = deadline
        self._waiting: deque[_Batch[Item, Result]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def submit(self, *items: Item) -> list[Result]:
        """Return the results of the items, in their order; raise Unavailable, or the exception that one of them got."""
        self._breaker.check(self._deadline)
        batch = self._batch_for(len(items))
        batch.caller_count += 1
        batch.items.update(dict.fromkeys(items))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        outcome = await asyncio.shield(batch.outcome)  # shared: a caller that is cancelled must not cancel it
        if isinstance(outcome, Unavailable):
            raise Unavailable(*outcome.args)
        return [_raised_or_returned(outcome[item]) for item in items]

    def _batch_for(self, item_count: int) -> _Batch[Item, Result]:
        last = self._waiting[-1] if self._waiting else None
        if (
            last
            and not last.outcome.done()
            and last.caller_count < self._max_size
            and len(last.items) + item_count <= self._max_size
        ):
            return last
        if sum(batch.size for batch in self._waiting) + item_count > self._max_waiting:
            raise Unavailable("Too many are waiting. Send it again in a moment.")
        self._waiting.append(_Batch(self._deadline, self._breaker.advice))
        return self._waiting[-1]

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting.popleft()
                if not batch.outcome.done():
                    batch.settle(await self._outcome_of(batch))
        finally:
            self._task = None

    async def _outcome_of(self, batch: _Batch[Item, Result]) -> Mapping[Item, Result | Exception] | Unavailable:
        """Try until there are results, or it makes no sense to try again."""
        for pause in _backoff():
            try:
                results = await self._work(list(batch.items))
            except AttemptError as error:
                age = asyncio.get_running_loop().time() - batch.born
                given_up = self._breaker.is_open or not error.transient or age >= self._patience
                self._breaker.failed(error, given_up)
                if given_up:
                    break
            except Exception as error:  # noqa: BLE001 - a fault in the code must not take the batches behind it along
                log("ERROR", "A batch failed", reason=repr(error))
                break
            else:
                self._breaker.succeeded()
                return results
            await asyncio.sleep(min(pause, self._patience - age))  # so that the last attempt is made at the very end
        return Unavailable(self._breaker.advice)


def _raised_or_returned(result: Result | Exception) -> Result:
    if isinstance(result, Exception):
        raise result
    return result


def _backoff() -> Iterator[float]:
    """Pauses in seconds, each about twice the one before, with jitter so that instances do not retry in step."""
    pause = 0.02
    while True:
        pause = min(2 * pause, 1.0) * random.uniform(0.75, 1.25)
        yield pause


def log(severity: str, message: str, **more: str | float) -> None:
    """Write one line as Cloud Logging reads it: https://cloud.google.com/logging/docs/structured-logging."""
    print(json.dumps({"severity": severity, "message": message, **more}), file=sys.stderr, flush=True)
