"""The batches, the retry and the circuit breaker, with plain coroutines in place of a database."""

import asyncio
import gc
import json
import time

import pytest
from servers import in_a_loop

from batch import AttemptError, Batcher, CircuitBreaker, FaultLog, Unavailable


class Work:
    """Doubles numbers; remembers its batches, waits while it is held, and fails as it is told."""

    def __init__(self):
        self.batches = []
        self.errors = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, items):
        self.batches.append(items)
        await self.go_on.wait()
        if self.errors:
            raise self.errors.pop(0)
        return {item: ValueError(f"{item} is negative") if item < 0 else 2 * item for item in items}


@pytest.fixture
def work():
    return Work()


def batcher_of(work, *, max_size=100, max_waiting=1000, **more):
    breaker = CircuitBreaker("Come back later.", FaultLog("The abacus"))
    return Batcher(work, breaker, max_size=max_size, max_waiting=max_waiting, **more)


def transient(code="57P01"):
    return AttemptError(code, "for a moment", transient=True)


def lasting():
    return AttemptError("42501", "for good", transient=False)


async def submit_while_held(work, batcher, *calls):
    """Submit these while a first batch is under way; return what became of them."""
    work.go_on.clear()
    first = asyncio.create_task(batcher.submit(0))
    await asyncio.sleep(0)
    tasks = [asyncio.create_task(batcher.submit(*call)) for call in calls]
    for _ in range(3):
        await asyncio.sleep(0)
    work.go_on.set()
    return (await asyncio.gather(first, *tasks, return_exceptions=True))[1:]


@in_a_loop
async def test_caller_gets_the_results_of_its_items_in_their_order(work):
    assert await batcher_of(work).submit(3, 1, 3, 2) == [6, 2, 6, 4]
    assert work.batches == [[3, 1, 2]]


@in_a_loop
async def test_callers_that_wait_go_together_in_the_next_batch(work):
    assert await submit_while_held(work, batcher_of(work), [1], [2], [1, 3]) == [[2], [4], [2, 6]]
    assert work.batches == [[0], [1, 2, 3]]


@in_a_loop
async def test_batch_is_bounded_by_its_callers(work):
    await submit_while_held(work, batcher_of(work, max_size=2), [1], [1], [1], [1], [1])
    assert work.batches == [[0], [1], [1], [1]]


@in_a_loop
async def test_batch_is_bounded_by_its_items(work):
    await submit_while_held(work, batcher_of(work, max_size=5), [1, 2, 3], [4, 5], [6], range(10, 14), [7])
    assert work.batches == [[0], [1, 2, 3, 4, 5], [6, 10, 11, 12, 13], [7]]


@in_a_loop
async def test_one_caller_with_more_items_than_a_batch_takes_has_a_batch_of_its_own(work):
    await submit_while_held(work, batcher_of(work, max_size=3), [1], range(10, 15), [2])
    assert work.batches == [[0], [1], [10, 11, 12, 13, 14], [2]]


@in_a_loop
async def test_more_than_may_wait_are_refused_at_once(work):
    batcher = batcher_of(work, max_size=2, max_waiting=4)
    results = await submit_while_held(work, batcher, *[[number] for number in range(1, 7)])
    assert results[:4] == [[2], [4], [6], [8]]
    assert [str(result) for result in results[4:]] == ["Too many are waiting. Send it again in a moment."] * 2
    assert all(isinstance(result, Unavailable) for result in results[4:])


@in_a_loop
async def test_wait_is_bounded_by_callers_also_where_they_ask_for_the_same(work):
    results = await submit_while_held(work, batcher_of(work, max_size=2, max_waiting=4), *[[1]] * 6)
    assert [type(result) for result in results] == [list] * 4 + [Unavailable] * 2


@in_a_loop
async def test_callers_that_ask_for_much_leave_room_for_those_that_ask_for_little(work):
    """Batches that are not full cost what they hold: not so many of them are waiting, but so many items."""
    much = [range(100 * number, 100 * number + 60) for number in range(1, 31)]
    results = await submit_while_held(work, batcher_of(work, max_size=100, max_waiting=2000), *much, [1], [2])
    assert [type(result) for result in results] == [list] * 32


@in_a_loop
async def test_there_is_room_again_when_those_before_have_their_results(work):
    batcher = batcher_of(work, max_size=2, max_waiting=2)
    for _ in range(3):
        results = await submit_while_held(work, batcher, [1], [2], [3])
        assert [type(result) for result in results] == [list, list, Unavailable]


@in_a_loop
async def test_item_that_has_no_result_fails_alone(work):
    results = await submit_while_held(work, batcher_of(work), [1], [-1], [2, -1], [3])
    assert (results[0], results[3]) == ([2], [6])
    assert [str(result) for result in results[1:3]] == ["-1 is negative"] * 2


@in_a_loop
async def test_caller_that_leaves_disturbs_no_other(work):
    batcher = batcher_of(work)
    work.go_on.clear()
    leaves, stays = asyncio.create_task(batcher.submit(1)), asyncio.create_task(batcher.submit(2))
    await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.sleep(0)
    work.go_on.set()
    assert await stays == [4]
    assert await batcher.submit(3) == [6]


# --- The retry --------------------------------------------------------------------------------------------------


def logged(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def codes(capsys):
    """The errors that were logged, and None where it works again."""
    return [line.get("sqlstate") for line in logged(capsys)]


@in_a_loop
async def test_batch_is_tried_again_until_it_succeeds(work, capsys):
    work.errors = [transient(), transient("40001"), transient()]
    assert await batcher_of(work).submit(1) == [2]
    assert work.batches == [[1]] * 4
    began, ended = logged(capsys)
    assert (began["severity"], began["sqlstate"], began["reason"]) == ("ERROR", "57P01", "for a moment")
    assert began["message"] == "The abacus fails"
    assert (ended["severity"], ended["message"]) == ("NOTICE", "The abacus works again")


@in_a_loop
async def test_last_attempt_is_made_when_the_patience_ends(work, capsys):
    work.errors = [transient() for _ in range(100)]
    started = time.monotonic()
    with pytest.raises(Unavailable, match="Come back later"):
        await batcher_of(work, patience=0.3).submit(1)
    assert time.monotonic() - started >= 0.3
    assert len(work.batches) >= 3
    assert [line["severity"] for line in logged(capsys)] == ["ERROR"]


@in_a_loop
async def test_what_will_not_pass_is_not_tried_again(work):
    work.errors = [lasting()]
    with pytest.raises(Unavailable):
        await batcher_of(work).submit(1)
    assert len(work.batches) == 1


@in_a_loop
async def test_callers_have_their_answer_at_the_deadline_though_the_work_hangs(work):
    batcher = batcher_of(work, deadline=0.2)
    work.go_on.clear()
    results = await asyncio.gather(*(batcher.submit(number) for number in range(3)), return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    work.go_on.set()
    await asyncio.sleep(0)
    assert await batcher.submit(5) == [10]


@in_a_loop
async def test_error_that_nobody_foresaw_is_logged_and_takes_nobody_else_along(work, capsys):
    batcher = batcher_of(work)
    work.errors = [KeyError("unforeseen")]
    results = await submit_while_held(work, batcher, [1], [2])
    assert results == [[2], [4]]  # those behind it
    with pytest.raises(Unavailable, match="Come back later"):
        work.errors = [KeyError("unforeseen")]
        await batcher.submit(3)
    assert await batcher.submit(4) == [8]
    lines = logged(capsys)
    assert [(line["severity"], line["reason"]) for line in lines] == [("ERROR", "KeyError('unforeseen')")] * 2


@in_a_loop
async def test_task_that_was_ended_is_started_again_by_the_next_caller(work):
    batcher = batcher_of(work, deadline=0.3)
    work.errors = [asyncio.CancelledError()]
    with pytest.raises(Unavailable):
        await batcher.submit(1)
    assert await batcher.submit(2) == [4]


@in_a_loop
async def test_batch_whose_callers_have_their_answer_is_not_worked_on(work):
    batcher = batcher_of(work, deadline=0.2)
    work.go_on.clear()
    results = await asyncio.gather(batcher.submit(1), asyncio.sleep(0.05), return_exceptions=True)
    assert isinstance(results[0], Unavailable)
    late = asyncio.create_task(batcher.submit(2))
    with pytest.raises(Unavailable):
        await late
    work.go_on.set()
    assert await batcher.submit(3) == [6]
    assert work.batches == [[1], [3]]


@in_a_loop
async def test_batch_whose_callers_have_left_leaves_no_exception_behind(work):
    left = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: left.append(context["message"]))
    batcher = batcher_of(work, deadline=0.1)
    work.go_on.clear()
    caller = asyncio.create_task(batcher.submit(1))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.sleep(0.15)
    work.go_on.set()
    assert await batcher.submit(2) == [4]
    del caller  # whose traceback keeps the batch alive
    gc.collect()
    assert left == []


# --- The circuit breaker ----------------------------------------------------------------------------------------


@in_a_loop
async def test_open_breaker_refuses_all_but_a_probe_and_closes_when_that_succeeds(work, capsys, monkeypatch):
    monkeypatch.setattr("batch.PROBE_PAUSE", 0.1)
    batcher = batcher_of(work)
    work.errors = [lasting(), transient()]
    with pytest.raises(Unavailable):
        await batcher.submit(1)
    with pytest.raises(Unavailable):
        await batcher.submit(2)
    assert work.batches == [[1]]
    await asyncio.sleep(0.11)
    with pytest.raises(Unavailable):
        await batcher.submit(3)  # a probe, which is tried once
    assert work.batches == [[1], [3]]
    await asyncio.sleep(0.11)
    work.go_on.clear()
    probe = asyncio.create_task(batcher.submit(4))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await batcher.submit(5)  # there is a probe already
    work.go_on.set()
    assert await probe == [8]
    assert await batcher.submit(6) == [12]
    assert codes(capsys) == ["42501", "57P01", None]


# --- The log ----------------------------------------------------------------------------------------------------


@pytest.fixture
def breakers():
    """Those of clicks, reads and histories, as there are in db.py."""
    faults = FaultLog("The abacus")
    return [CircuitBreaker("Come back later.", faults, writes=writes) for writes in (True, False, False)]


def test_fault_is_logged_once_whatever_fails_under_it(breakers, capsys):
    for _ in range(3):
        for breaker in breakers:
            breaker.failed(transient(), True)
    assert [line["message"] for line in logged(capsys)] == ["The abacus fails"]
    for breaker in [*breakers[::-1], *breakers]:
        breaker.succeeded()
    assert [line["message"] for line in logged(capsys)] == ["The abacus works again"]


def test_fault_that_lasts_is_logged_also_after_one_that_does_not(breakers, capsys):
    breakers[0].failed(transient(), False)
    for breaker in breakers * 2:
        breaker.failed(lasting(), True)
    assert codes(capsys) == ["57P01", "42501"]


def test_cause_for_which_clicks_are_given_up_is_logged_also_after_another(breakers, capsys):
    """A failover that ends read-only, a full disk after a restart: that it was restarted is not what to mend."""
    breakers[0].failed(transient("57P01"), False)
    breakers[0].failed(transient("53100"), False)
    for _ in range(3):
        breakers[0].failed(transient("53100"), True)
    assert codes(capsys) == ["57P01", "53100"]


def test_works_again_is_not_missing_where_one_kind_is_never_asked_for_again(breakers, capsys):
    clicks, _, histories = breakers
    histories.failed(transient("57014"), True)
    clicks.failed(transient(), True)
    clicks.succeeded()  # what can write can also read
    clicks.failed(transient("40001"), False)
    assert codes(capsys) == ["57014", "57P01", None, "40001"]


def test_works_again_is_not_early_where_reads_go_on_and_clicks_fail(breakers, capsys):
    clicks, reads, _ = breakers
    for _ in range(3):
        clicks.failed(transient("25006"), True)
        reads.failed(transient("25006"), False)
        reads.succeeded()
    assert codes(capsys) == ["25006"]
    clicks.succeeded()
    assert codes(capsys) == [None]


def test_fault_of_reads_alone_ends_when_all_of_them_succeed(breakers, capsys):
    _, reads, histories = breakers
    for breaker in (reads, histories):
        breaker.failed(transient(), True)
    histories.succeeded()
    assert codes(capsys) == ["57P01"]
    reads.succeeded()
    assert codes(capsys) == [None]


def test_next_fault_is_logged_though_it_has_the_same_causes(breakers, capsys):
    for _ in range(2):
        breakers[0].failed(transient(), False)
        breakers[0].failed(lasting(), True)
        breakers[0].succeeded()
    assert codes(capsys) == ["57P01", "42501", None] * 2
