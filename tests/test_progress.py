"""Progress: a line a minute where no bar can be drawn, by a clock of the test's own."""

from harness.progress import Lines, bars, silent


class Clock:
    """Seconds that pass when the test says so."""

    now = 0.0

    def __call__(self):
        return self.now


def told(capsys, clock, lines, seconds, *progress):
    clock.now += seconds
    lines(*progress)
    return capsys.readouterr().err


def test_a_line_a_minute_says_how_far_and_how_long(capsys):
    clock = Clock()
    lines = Lines(clock)
    assert told(capsys, clock, lines, 0, "encoding", 0, 6000) == ""
    assert told(capsys, clock, lines, 59, "encoding", 900, 6000) == ""
    assert told(capsys, clock, lines, 1, "encoding", 1000, 6000) == (
        "bench: encoding: 1,000 of 6,000, about 5 min left\n"
    )
    assert told(capsys, clock, lines, 59, "encoding", 1999, 6000) == ""
    assert told(capsys, clock, lines, 241, "encoding", 5800, 6000) == (
        "bench: encoding: 5,800 of 6,000, less than a minute left\n"
    )


def test_training_shows_its_figures_and_what_was_done_before_a_stop_is_no_pace(capsys):
    clock = Clock()
    lines = Lines(clock)
    lines("training", 9000, 10000, "loss 0.1")
    assert told(capsys, clock, lines, 60, "training", 9100, 10000, "loss 0.0312, best dev Spearman 74.10") == (
        "bench: training: 9,100 of 10,000, loss 0.0312, best dev Spearman 74.10, about 9 min left\n"
    )


def test_a_second_stretch_of_the_same_work_starts_anew(capsys):
    clock = Clock()
    lines = Lines(clock)
    told(capsys, clock, lines, 0, "encoding", 0, 100)
    told(capsys, clock, lines, 600, "encoding", 100, 100)
    told(capsys, clock, lines, 0, "encoding", 0, 100)
    assert told(capsys, clock, lines, 60, "encoding", 50, 100) == "bench: encoding: 50 of 100, about 1 min left\n"


def test_a_total_that_nobody_knows_is_left_out(capsys):
    clock = Clock()
    lines = Lines(clock)
    assert told(capsys, clock, lines, 60, "fitting", 16384, 0) == "bench: fitting: 16,384\n"


def test_lines_are_written_where_no_bar_can_be_drawn(monkeypatch):
    with bars() as progress:  # standard error of a test is no terminal
        assert isinstance(progress, Lines)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "dumb")
    with bars() as progress:
        assert isinstance(progress, Lines)
    with bars(quiet=True) as progress:
        assert progress is silent
