import pytest

from launcher.failure import Verdict
from launcher.restart import Restart, after
from trainer.config.schema import SupervisionSection

LOST = Verdict(5, ("rank 1 was killed by SIGKILL",), 1, restart=True)
MISTAKE = Verdict(4, ("rank 0: ValueError",), 0)
POLICY = SupervisionSection(max_restarts=3)


def test_what_the_system_did_is_tried_again_at_once_and_a_mistake_is_not():
    assert after(LOST, 0, 4, [1, 2, 4], POLICY) == Restart(4, 0.0)
    assert after(LOST, 1, 4, [1, 2, 4], POLICY) == Restart(4, 0.0)
    assert after(MISTAKE, 0, 4, [1, 2, 4], POLICY) is None


def test_restarts_without_a_new_checkpoint_end_and_those_with_one_do_not_count():
    assert [after(LOST, in_vain, 1, [1], POLICY) is not None for in_vain in range(6)] == [True, True, True, True, False, False]


def test_no_restart_at_all_can_be_asked_for():
    assert after(LOST, 0, 4, [1, 2, 4], SupervisionSection(max_restarts=0)) is None


def test_a_second_attempt_in_vain_is_followed_by_one_with_fewer_workers_and_a_pause():
    assert after(LOST, 2, 4, [1, 2, 4], POLICY) == Restart(2, 1.0)
    assert after(LOST, 3, 2, [1, 2, 4], POLICY) == Restart(1, 2.0)
    assert after(LOST, 3, 1, [1, 2, 4], POLICY) == Restart(1, 2.0)


def test_workers_stay_as_many_where_that_is_asked_for():
    assert after(LOST, 2, 4, [1, 2, 4], SupervisionSection(fewer_workers=False)) == Restart(4, 1.0)


@pytest.mark.parametrize(("fitting", "workers"), [([1, 2], 2), ([1], 1), ([1, 2, 4], 4)])
def test_with_fewer_devices_than_before_there_are_fewer_workers(fitting, workers):
    assert after(LOST, 0, 4, fitting, SupervisionSection(fewer_workers=False)) == Restart(workers, 0.0)
