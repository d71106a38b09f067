from launcher.memory import oom_kills


def test_kills_for_want_of_memory_are_counted_on_both_kinds_of_control_groups(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 2\n")
    (tmp_path / "self" / "cgroup").write_text("4:memory:/job\n0::/job2\n")
    for path, text in {
        "cg/memory/job/memory.oom_control": "under_oom 0\noom_kill 3\n",
        "cg/job2/memory.events": "oom 1\noom_kill 5\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    assert oom_kills(tmp_path, tmp_path / "cg") == 10


def test_a_system_that_tells_nothing_counts_as_none(tmp_path):
    assert oom_kills(tmp_path, tmp_path) == 0


def test_this_system_can_be_asked():
    assert oom_kills() >= 0
