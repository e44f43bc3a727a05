import threading
import time

import pytest
import torch

from neuraldiffuser.features.pipeline import kernels_that_repeat, map_ahead


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(workers):
    def later_is_faster(number):
        time.sleep((20 - number) / 4000)
        return number**2

    assert list(map_ahead(later_is_faster, range(20), workers=workers)) == [
        number**2 for number in range(20)
    ]


def test_stages_overlap():
    """Each stage waits until the other has begun with another item: in turn, neither would end."""
    meeting = threading.Barrier(2, timeout=20)

    def meet(number):
        if 1 <= number <= 6:
            meeting.wait()
        return number

    def meet_the_next(number):
        if number <= 5:
            meeting.wait()
        return number

    first = map_ahead(meet, range(8), workers=1)
    assert list(map_ahead(meet_the_next, first, workers=1)) == list(range(8))


def test_no_more_than_promised_is_taken_ahead():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = map_ahead(str, items(), workers=3)
    for done in range(1, 20):
        next(results)
        assert len(taken) <= done + 2 * 3
    results.close()


def test_an_error_comes_after_the_results_before_it_and_ends_every_thread():
    def fail_at_five(number):
        if number == 5:
            raise ValueError("five")
        return number

    before = threading.active_count()
    results = map_ahead(str, map_ahead(fail_at_five, range(50), workers=2), workers=2)
    seen = []
    with pytest.raises(ValueError, match="five"):
        seen.extend(results)
    assert threading.active_count() == before
    straight = map_ahead(fail_at_five, range(50), workers=2)
    assert [next(straight) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="five"):
        next(straight)


def test_kernels_have_one_thread_and_whole_float32_until_the_end():
    before = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    with pytest.raises(KeyError), kernels_that_repeat():
        assert torch.get_num_threads() == 1
        assert not torch.backends.cudnn.allow_tf32
        (seen,) = map_ahead(lambda _: torch.get_num_threads(), [0], workers=1)
        assert seen == 1
        raise KeyError
    assert before == (torch.get_num_threads(), torch.backends.cudnn.allow_tf32)
