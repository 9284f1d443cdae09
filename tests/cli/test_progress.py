"""What a log without a terminal says about long work."""

from landseer.cli.progress import line_writer, progress_bars


def written(told, *, seconds):
    """The lines for calls *told* that come at these *seconds* after the first, of a command begun long before."""
    lines, times = [], iter([-60, *seconds])
    show = line_writer(lines.append, clock=lambda: next(times))
    for call in told:
        show(*call)
    return lines


def test_a_line_when_it_begins_and_one_every_ten_seconds():
    told = [("describing", done, 1000) for done in (0, 100, 200, 300, 1000)]
    assert written(told, seconds=[0, 5, 10, 15, 50]) == [
        "describing: 1000 ...",
        "describing: 200 of 1000, 20.0/s, 40 s left",
    ]


def test_what_was_done_before_is_no_part_of_the_rate():
    told = [("describing", 900, 1000), ("describing", 950, 1000)]
    assert written(told, seconds=[0, 10])[1] == "describing: 950 of 1000, 5.0/s, 10 s left"


def test_facts_are_shown_and_nothing_divides_by_zero():
    told = [("training", 0, 10, {}), ("training", 0, 10, {"loss": 1.23456, "lr": 0.001})]
    assert written(told, seconds=[0, 20])[1] == "training: 0 of 10, loss 1.23  lr 0.001"


def test_a_time_is_shown_as_one():
    told = [("training", 0, 10), ("training", 0, 10, {"loss": 2.0, "all_training_left_s": 3725.4})]
    assert written(told, seconds=[0, 20])[1] == "training: 0 of 10, loss 2  all training left 1:02:05"


def test_steps_that_count_nothing_are_one_line():
    told = [("searching", 0, 1), ("reading tables", 0, None), ("reading tables", 7, None)]
    assert written(told, seconds=[0, 1, 99]) == ["searching ...", "reading tables ..."]


def test_what_is_over_at_once_needs_no_line():
    lines, times = [], iter([0, 0.5, 0.9, 9, 11, 12])
    show = line_writer(lines.append, clock=lambda: next(times))
    show("reading tables", 0, 1)
    show("describing", 0, 40)
    show("describing", 10, 40)
    assert lines == []
    show("describing", 20, 40)
    show("searching", 0, 1)
    assert lines == ["describing: 20 of 40, 2.0/s, 10 s left", "searching ..."]


def test_without_a_terminal_it_writes_to_standard_error(capfd, monkeypatch):
    monkeypatch.setattr("landseer.cli.progress.QUIET_S", 0.0)
    with progress_bars() as show:
        show("describing [bold]", 0, 3)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == "describing [bold]: 3 ...\n"


def test_on_a_terminal_every_thing_has_a_bar(monkeypatch, capfd):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    with progress_bars() as show:
        show("drawing", 1, 2)
        show("searching", 0, 1)
        show("training", 1, 4, {"loss": 0.5})
    captured = capfd.readouterr()
    assert captured.out == ""
    for words in ("drawing", "2/2", "searching", "1/1", "training", "4/4", "loss 0.5"):
        assert words in captured.err
