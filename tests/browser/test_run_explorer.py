"""The run explorer in a real browser: from the list to a query and back, filters, keys, phone width, dark.

Slow, since it starts a server and a browser; as in the explorer's tests no page may log an error or ask anyone else.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

_spec = importlib.util.spec_from_file_location(
    "run_folder", Path(__file__).parents[1] / "pipeline" / "run_folder.py"
)
by_hand = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(by_hand)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the run by hand is shown beside one that goes better."""
    folder = tmp_path_factory.mktemp("runs")
    collection = by_hand.collection_in(folder)
    by_hand.run_in(folder / "RUN", collection)
    by_hand.run_in(folder / "BETTER", collection, spoilt=False)
    process = subprocess.Popen(
        [sys.executable, "-m", "landseer", "serve", "--run", "RUN", "--compare", "BETTER", "--port", "0"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process.stdout.readline().split()[0]
    finally:
        process.terminate()
        process.wait(timeout=20)


def open_list(visit, address, **more):
    page = visit(address, wait=False, **more)
    page.wait_for_selector(".entry")
    return page


def names(page):
    return page.locator(".entry h2").all_inner_texts()


def wait_for_entries(page, num):
    """Until the list has exactly *num*."""
    page.wait_for_selector(f".entry:first-child:nth-last-child({num})")


def test_from_the_list_to_a_query_and_back(address, visit):
    page = open_list(visit, address)
    assert page.url == f"{address}/run"
    assert "4 of 10 queries failed" in page.inner_text("#told") and "beside BETTER (95" in page.inner_text(
        "#told"
    )
    assert page.locator(".entry").count() == 10
    worst = page.locator(".entry").first
    assert worst.locator(".ap b").inner_text() == "0.000"
    assert worst.locator(".strip").count() == 2  # of either run
    assert page.evaluate("document.querySelector('.entry img').decode().then(() => true)")
    assert "Round <b>Tower</b>" in names(page)  # a name is text, never markup

    page.click("[data-tag='label-disagreement']")
    assert page.url.endswith("?tag=label-disagreement")
    wait_for_entries(page, 1)
    assert names(page) == ["Old Gate"]
    assert "3 or more stand above" in page.get_attribute("[data-tag='label-disagreement']", "title")

    page.click(".entry .open")
    page.wait_for_selector("#query .wall")
    assert page.url.endswith("tag=label-disagreement&query=q3")
    assert page.inner_text("#query-title") == "Old Gate"
    assert "label disagreement: Of the first 5" in page.inner_text(".reasons")
    walls = page.locator("#query .wall")
    assert walls.count() == 2 and walls.first.locator(".answer").count() == 18
    assert walls.first.locator(".answer").first.get_attribute("class") == "answer wrong"
    assert walls.last.locator(".answer").first.get_attribute("class") == "answer right"
    assert "first of q3" in walls.first.inner_text()  # why it stands there

    walls.first.locator("button").first.click()
    assert page.inner_text("#look-title") == "Answer 1: wrong"
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#look-title").startswith("Answer 2")
    page.keyboard.press("Escape")
    page.wait_for_selector(".look", state="detached")

    reloaded = visit(page.url, wait=False)  # the address is the view
    reloaded.wait_for_selector("#query .wall")
    assert reloaded.inner_text("#query-title") == "Old Gate"
    page.go_back()
    page.wait_for_selector("#overview:not([hidden])")
    assert names(page) == ["Old Gate"]


def test_order_and_landmarks_that_are_taken_for_others(address, visit):
    page = open_list(visit, address)
    page.select_option("#sort", "change")
    assert page.url.endswith("?sort=change")
    page.wait_for_selector(".entry:first-child .change.down")
    row = page.locator("#confusions tbody tr").first
    assert row.inner_text().split("\t") == ["Old Gate", "Long Bridge", "5 of 15"]
    row.locator("a").click()
    wait_for_entries(page, 3)
    assert set(names(page)) == {"Old Gate"} and page.url.endswith("?sort=change&landmark=0")
    page.click("#landmark .chip")
    wait_for_entries(page, 10)


def test_keys_alone_are_enough(address, visit):
    page = open_list(visit, address)
    page.keyboard.press("f")
    wait_for_entries(page, 4)
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    second = page.locator(".entry .open").nth(1).get_attribute("data-query")
    assert page.evaluate("document.activeElement.dataset.query") == second
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#query .facts:has-text('{second}')")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".way:has-text('3 of 4')")
    page.keyboard.press("Escape")
    page.wait_for_selector("#overview:not([hidden])")
    page.keyboard.press("?")
    assert "no positive in the gallery" in page.inner_text("dialog.help")


def test_on_a_phone_nothing_sticks_out_and_dark_is_dark(address, visit):
    page = open_list(visit, f"{address}/run", width=390, height=844, touch=True, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
    frame = "getComputedStyle(document.querySelector('.answer.{} .photo')).borderTopColor"
    assert page.evaluate(frame.format("right")) == "rgb(108, 184, 245)"
    assert page.evaluate(frame.format("wrong")) == "rgb(255, 156, 71)"
    page.locator(".entry .open").first.tap()
    page.wait_for_selector("#query .wall")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_an_address_of_no_query_is_told_in_a_line(address, visit):
    visit.expected.add("404")
    page = visit(f"{address}/run?query=nobody", wait=False)
    page.wait_for_selector("#toast:has-text('the run scores no such query')")
