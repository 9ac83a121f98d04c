"""How rows of the benchmark become figures, tables, plots and the page."""

import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from bench.goals import GOALS
from bench.install import told
from bench.results import Figure, Results

from bench import page, plots, report, work

FLOODED = ("floor", "sockade", "sockade default rates")


def row(name: str, server: str, number: int = 0, cpu_us: float = 10, **more: Any) -> dict[str, Any]:
    """Return what the driver would have found: a thousand units in a second."""
    return {
        "work": name, "server": server, "round": number, "clients": 100, "units": 1_000,
        "server_ns": int(cpu_us * 1e6), "wall_ns": 1_000_000_000, "driver_ns": 1, "p50_us": 100.0, "p99_us": 200.0,
        "most_us": 300.0, "kib_before": 1_000, "kib_after": 3_500, "flooded": 6, "flood_closed": 1, **more,
    }  # fmt: skip


def full() -> Results:
    """Return results that have something for every table."""
    results = Results(machine={"cores": "2"}, options={"rounds": 2, "seconds": 1.0, "clients": 100, "load": 0.1})
    for number in range(2):
        for one in work.SIDE_BY_SIDE:
            results.rows += [row(one.name, peer.name, number) for peer in one.peers]
        results.rows += [row(name, server, number) for name in ("calm", "flood") for server in FLOODED]
        results.rows.append(row("stalls", "sockade", number, stall_wall_ms=5.0, stall_cpu_ms=2.0))
        both = [(server, clients) for server in ("floor", "sockade") for clients in (100, 1_000)]
        results.rows += [row("many", server, number, clients=clients) for server, clients in both]
        at_rest = {"clients": 1_000, "rest_server_ns": 10_000_000, "rest_wall_ns": 1_000_000_000}
        results.rows.append({"work": "rest", "server": "sockade", "round": number, **at_rest})
    results.rows += [row("idle", "sockade"), row("sizes", "floor", size=128), row("sizes", "sockade", size=512)]
    results.rows += [row("channels", "sockade", channels=1), row("channels", "centrifugo", channels=10)]
    shares = {"parts": [("kernel", 60.0)], "functions": "py-spy is not installed"}
    results.options["many"] = 1_000
    growth = [("floor", "kernel", 7.0, 10.0), ("sockade", "kernel", 6.0, 9.0), ("sockade", "CPython", 1.0, 1.5)]
    results.profile = {"echo": shares, "fan-out": shares, "growth": growth}
    results.profile["disk"] = [("kernel", 6.0, 9.0), ("SQLite", 0.0, 2.5)]
    return results


def test_a_ratio_is_taken_within_each_round() -> None:
    results = Results()
    # The machine is ten times slower in the second round; the ratio is 2 in both.
    results.rows = [row("echo", "floor", 0, 1), row("echo", "sockade", 0, 2)]
    results.rows += [row("echo", "floor", 1, 10), row("echo", "sockade", 1, 20)]
    assert results.ratio("echo", "sockade", "floor") == Figure(2, 2, 2)
    assert results.ratio("echo", "starlette", "floor") is None


def test_a_ratio_is_taken_within_each_turn_and_a_round_is_the_median_of_its_turns() -> None:
    results = Results()
    # From turn to turn the machine slows down; the ratio is 2, but for one turn that was disturbed.
    for number, turn, pace in ((0, 0, 1), (0, 1, 3), (0, 2, 9), (1, 0, 5)):
        results.rows.append(row("echo", "floor", number, pace, turn=turn))
        results.rows.append(row("echo", "sockade", number, pace * (7 if (number, turn) == (0, 1) else 2), turn=turn))
    assert results.ratio("echo", "sockade", "floor") == Figure(2, 2, 2)
    assert results.figure("echo", "floor", "cpu_us") == Figure(4, 3, 5)


def test_a_figure_is_the_median_with_its_spread() -> None:
    results = Results(rows=[row("echo", "sockade", number, cpu) for number, cpu in enumerate((5, 1, 3))])
    assert results.figure("echo", "sockade", "cpu_us") == Figure(3, 1, 5)
    assert results.figure("echo", "sockade", "a_second") == Figure(1_000, 1_000, 1_000)
    assert results.figure("echo", "sockade", "kib") == Figure(25, 25, 25)


@pytest.mark.parametrize(("cpu", "reached"), [(18.0, True), (18.1, False)])
def test_a_goal_is_reached_up_to_its_bound(cpu: float, reached: bool) -> None:
    results = Results(rows=[row("echo", "floor"), row("echo", "sockade", cpu_us=cpu)])
    goal = next(goal for goal in GOALS if goal.name == "echo")
    assert goal.reached(results) is reached
    assert ("not reached" in report.goals(results).text()) is not reached


def test_a_goal_that_was_not_measured_is_not_reached() -> None:
    assert [goal.reached(Results()) for goal in GOALS] == [None] * len(GOALS)
    assert {line[-1] for line in report.goals(Results()).rows} == {"not measured"}


def test_the_guard_s_share_is_what_is_gone_without_it() -> None:
    results = Results(rows=[row("echo", "sockade"), row("echo", "sockade message checks off", cpu_us=9)])
    figure = next(goal for goal in GOALS if goal.name == "guard").measured(results)
    assert figure is not None
    assert figure.median == pytest.approx(10)


def test_growth_is_taken_within_each_turn() -> None:
    results = Results()
    for number, turns in enumerate((((10, 12), (20, 22), (10, 30)), ((10, 11),))):
        for turn, (few, most) in enumerate(turns):
            costs = ((100, few), (1_000, few), (10_000, most))
            results.rows += [row("many", "sockade", number, cpu, clients=clients, turn=turn) for clients, cpu in costs]
    growth = next(goal for goal in GOALS if goal.name == "growth")
    assert growth.measured(results) == Figure(1.15, 1.1, 1.2)
    in_floors = next(goal for goal in GOALS if goal.name == "growth-to-floor")
    assert in_floors.measured(results) is None
    floor = [(turn, *cost) for turn in range(3) for cost in ((100, 10), (10_000, 12))]
    results.rows += [row("many", "floor", 0, cpu, clients=clients, turn=turn) for turn, clients, cpu in floor]
    assert in_floors.measured(results) == Figure(1, 1, 1)
    results.rows = [one for one in results.rows if one["clients"] == 100]
    assert growth.measured(results) is None


def test_what_is_exceeded_by_one_in_a_hundred_is_the_longest_of_all_turns_where_a_turn_has_few() -> None:
    results = Results()
    results.rows = [row("many", "sockade", 0, turn=turn, p99_us=p99) for turn, p99 in enumerate((100, 300, 200))]
    assert report.many(results).rows[0][4] == "0.30"


def test_how_each_server_s_delivery_grows_stands_behind_its_most_subscribers() -> None:
    results = Results()
    for server, most in (("floor", 18), ("sockade", 17), ("uWebSockets", 16)):
        results.rows += [row("many", server, 0, cpu, clients=clients) for clients, cpu in ((100, 10), (10_000, most))]
    rows = report.many(results).rows
    assert [(one[0], one[1], one[3]) for one in rows if one[3]] == [
        ("floor", "10,000", "1.80"),
        ("sockade", "10,000", "1.70"),
        ("uWebSockets", "10,000", "1.60"),
    ]


def test_every_goal_has_a_figure_in_full_results() -> None:
    assert all(goal.measured(full()) is not None for goal in GOALS)


def test_who_is_absent_stands_in_the_table_with_the_reason() -> None:
    results = full()
    results.rows = [one for one in results.rows if one["server"] not in ("ws", "centrifugo")]
    results.absent = {"ws": "Node is not installed", "centrifugo": "Go is not installed"}
    tables = {table.name: table.text() for table in report.tables(results)}
    assert "absent: Node is not installed" in tables["servers"]
    assert "absent: Go is not installed" in tables["publishes"]
    assert "Node is not installed" in tables["ground"]


def test_who_fails_a_work_is_told_so_and_why() -> None:
    results = full()
    results.rows = [one for one in results.rows if (one["server"], one["work"]) != ("ws", "echo")]
    results.absent = {"ws, echo": "a message that was not due"}
    tables = {table.name: table for table in report.tables(results)}
    assert next(line for line in tables["servers"].rows if line[0].startswith("ws "))[3] == "failed"
    assert "a message that was not due" in tables["ground"].text()


def test_what_grows_with_the_subscribers_is_told_by_part_the_most_first() -> None:
    table = report.growth(full())
    assert table.head == ["part of a server", "100 subscribers", "1,000", "more"]
    assert table.rows[2:] == [
        ["sockade: in all", "7.00", "10.50", "+3.50"],
        ["sockade: kernel", "6.00", "9.00", "+3.00"],
        ["sockade: CPython", "1.00", "1.50", "+0.50"],
    ]
    without = Results(profile={"growth": "perf is not installed"})
    assert report.growth(without).rows == [["perf is not installed", "", "", ""]]
    assert report.growth(Results()).rows == []


def test_what_a_publish_costs_more_on_the_disk_is_told_by_part() -> None:
    table = report.disk(full())
    assert table.head == ["part of a server", "in memory", "on the disk", "more"]
    assert table.rows == [
        ["sockade: in all", "6.00", "11.50", "+5.50"],
        ["sockade: kernel", "6.00", "9.00", "+3.00"],
        ["sockade: SQLite", "0.00", "2.50", "+2.50"],
    ]
    assert report.disk(Results(profile={"disk": "perf is not installed"})).rows == [
        ["perf is not installed", "", "", ""]
    ]
    assert report.disk(Results()).rows == []


# The page.


def test_the_page_has_a_place_for_every_table_and_keeps_its_words() -> None:
    before = page.PAGE.read_text()
    after = page.filled(before, full())
    assert page.MARKED.sub(r"\1\4", after) == page.MARKED.sub(r"\1\4", before)
    assert page.NOTHING not in after
    assert page.filled(after, full()) == after


def test_a_table_without_a_place_is_an_error() -> None:
    with pytest.raises(ValueError, match="no marker for"):
        page.filled("<!-- bench goals -->\n<!-- end -->", full())


def test_the_page_shows_every_plot_there_is() -> None:
    shown = set(re.findall(r"images/bench-([a-z]+)\.svg", page.filled(page.PAGE.read_text(), full())))
    assert shown == {name for name, _ in page.drawn(full())}
    assert "bench-" not in page.filled(page.PAGE.read_text(), Results(options=full().options)).replace("bench-docs", "")


def test_every_plot_of_the_page_is_there() -> None:
    for name in re.findall(r"images/(bench-[a-z]+\.svg)", page.PAGE.read_text()):
        assert (page.IMAGES / name).exists()


def test_plots_are_images_with_a_name_in_light_and_dark() -> None:
    for _, image in page.drawn(full()):
        root = ET.fromstring(image)
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"]
        assert "prefers-color-scheme: dark" in image


def test_a_label_is_text_and_never_markup() -> None:
    image = plots.bars("<&>", "", [plots.Bar("</svg>", 1, 1, 1)])
    assert "</svg>" in ET.fromstring(image).itertext()


def test_a_complaint_is_told_without_places_of_this_machine() -> None:
    assert told("first\n/home/somebody/x.py: cannot open https://registry.example/y\n") == "x.py: cannot open"
