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

    A fault that no retry can end has a line of its own, though it follows one that a retry can.
    """

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._failing: set[CircuitBreaker] = set()
        self._is_lasting = False
        self._since = 0.0  # time.monotonic()

    def failed(self, breaker: CircuitBreaker, error: AttemptError) -> None:
        """Note a failed attempt."""
        if not self._failing:
            self._since = time.monotonic()
        if not self._failing or not (error.transient or self._is_lasting):
            log("ERROR", f"{self._subject} fails", sqlstate=error.code, reason=str(error))
        self._failing.add(breaker)
        self._is_lasting |= not error.transient

    def succeeded(self, breaker: CircuitBreaker) -> None:
        """Note that an attempt succeeded."""
        if breaker in self._failing:
            self._failing.clear()  # nobody may ask for the others again
            self._is_lasting = False
            log("NOTICE", f"{self._subject} works again", seconds=round(time.monotonic() - self._since, 1))


class CircuitBreaker:
    """Refuses callers at once while the work keeps failing, but for one at a time that probes whether it still does."""

    def __init__(self, advice: str, faults: FaultLog) -> None:
        self.advice = advice
        self.is_open = False
        self._faults = faults
        self._next_probe = 0.0  # time.monotonic()

    def check(self, probe_seconds: float) -> None:
        """Raise Unavailable while it is open, unless a probe is due; the next one is then due after so many seconds."""
        if self.is_open:
            if time.monotonic() < self._next_probe:
                raise Unavailable(self.advice)
            self._next_probe = time.monotonic() + probe_seconds

    def failed(self, error: AttemptError) -> None:
        """Note a failed attempt."""
        self._faults.failed(self, error)

    def open(self) -> None:
        """Note that the work was given up."""
        self.is_open = True
        self._next_probe = time.monotonic() + PROBE_PAUSE

    def close(self) -> None:
        """Note that an attempt succeeded."""
        self.is_open = False
        self._faults.succeeded(self)


class _Batch(Generic[Item, Result]):
    """What is worked on together, since when it waits, and the results that all of its callers wait for."""

    def __init__(self, deadline: float, advice: str) -> None:
        loop = asyncio.get_running_loop()
        self.items: dict[Item, None] = {}  # a set that keeps the order
        self.callers = 0
        self.born = loop.time()
        self.results: asyncio.Future[Mapping[Item, Result | Exception]] = loop.create_future()
        self._timer = loop.call_at(self.born + deadline, self.give_up, advice)

    def succeed(self, results: Mapping[Item, Result | Exception]) -> None:
        self._timer.cancel()
        if not self.results.done():
            self.results.set_result(results)

    def give_up(self, advice: str) -> None:
        self._timer.cancel()
        if not self.results.done():
            self.results.set_exception(Unavailable(advice))


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
        size: int,
        waiting: int = 10,
        patience: float = 5.0,
        deadline: float = 7.5,
    ) -> None:
        self._work = work
        self._breaker = breaker
        self._size = size  # of a batch: callers, and items but for those of a caller that alone has more
        self._most_waiting = waiting  # batches, which bounds the memory
        self._patience = patience
        self._deadline = deadline
        self._waiting: deque[_Batch[Item, Result]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def submit(self, *items: Item) -> list[Result]:
        """Return the results of the items, in their order; raise Unavailable, or the exception that one of them got."""
        self._breaker.check(self._deadline)
        batch = self._batch_for(len(items))
        batch.callers += 1
        batch.items.update(dict.fromkeys(items))
        if self._task is None:
            self._task = asyncio.create_task(self._work_off())
        results = await asyncio.shield(batch.results)  # shared: a caller that is cancelled must not cancel it
        return [_raised_or_returned(results[item]) for item in items]

    def _batch_for(self, items: int) -> _Batch[Item, Result]:
        last = self._waiting[-1] if self._waiting else None
        if last and not last.results.done() and last.callers < self._size and len(last.items) + items <= self._size:
            return last
        if len(self._waiting) >= self._most_waiting:
            raise Unavailable("Too many are waiting. Send it again in a moment.")
        self._waiting.append(_Batch(self._deadline, self._breaker.advice))
        return self._waiting[-1]

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting.popleft()
                try:
                    if not batch.results.done():
                        await self._settle(batch)
                finally:
                    batch.give_up(self._breaker.advice)  # where it has no results by then, which nobody foresaw
        finally:
            self._task = None

    async def _settle(self, batch: _Batch[Item, Result]) -> None:
        """Try until there are results, or it makes no sense to try again."""
        for pause in _backoff():
            try:
                results = await self._work(list(batch.items))
            except AttemptError as error:
                age = asyncio.get_running_loop().time() - batch.born
                self._breaker.failed(error)
                if self._breaker.is_open or not error.transient or age >= self._patience:
                    self._breaker.open()
                    return
            else:
                self._breaker.close()
                batch.succeed(results)
                return
            await asyncio.sleep(min(pause, self._patience - age))  # so that the last attempt is made at the very end


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
