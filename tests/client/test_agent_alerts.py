"""What the agent remembers, and the command that is told of alerts."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from agent_world import DAY, open_agent_world
from money_world import START

from lnstore.client.agent import hook, rounds
from lnstore.client.agent.lock import AgentRunning, alone, running
from lnstore.client.agent.store import AgentStore, to_tell
from lnstore.client.catalog import Catalog
from lnstore.client.profile import ProfileBusy, lock_file


def test_an_alert_is_told_once_when_it_opens_and_once_when_it_ends(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "catalog.db") as catalog:
        store = AgentStore(catalog)

        def tell() -> list[tuple[str, str, str]]:
            told = [(alert.state, alert.subject, alert.text) for alert in store.alerts() if to_tell(alert)]
            for alert in store.alerts():
                if to_tell(alert) or alert.closed_at is not None:
                    store.told(alert)
            return told

        store.open_alerts("rent", {"account": "overdue"}, 10)
        assert (tell(), tell()) == ([("opened", "account", "overdue")], [])
        store.open_alerts("rent", {"account": "still overdue"}, 20)
        assert tell() == []
        assert [(alert.text, alert.opened_at) for alert in store.alerts()] == [("still overdue", 10)]
        store.open_alerts("audit", {}, 25)
        store.open_alerts("rent", {}, 30)
        assert (tell(), store.alerts()) == ([("closed", "account", "still overdue")], [])
        store.open_alerts("rent", {"account": "again"}, 40)
        store.open_alerts("rent", {}, 50)  # over before the hook heard of it
        assert (tell(), store.alerts()) == ([], [])


def test_runs_count_failures_and_since_when(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "catalog.db") as catalog:
        store = AgentStore(catalog)
        for at, ok, unanswered in ((1, True, False), (2, False, False), (3, False, True), (4, False, True)):
            store.note("rent", at=at, ok=ok, unanswered=unanswered, result=str(at), alerts={}, now=at)
        run = store.runs()["rent"]
        assert (run.runs, run.last_at, run.last_ok_at, run.failures) == (4, 4, 1, 3)
        assert (run.failing_since, run.unanswered_since, run.result) == (2, 3, "4")
        store.note("rent", at=5, ok=True, result="", alerts={"a": "b"}, now=5)
        run = store.runs()["rent"]
        assert (run.failures, run.failing_since, run.unanswered_since, run.last_ok_at) == (0, None, None, 5)
        store.keep_only({"audit"}, 6)
        assert store.runs() == {}
        assert [alert.closed_at for alert in store.alerts()] == [6]


def test_the_second_agent_is_refused_and_the_lock_ends_with_its_holder(tmp_path: Path) -> None:
    assert running(tmp_path) is None
    with alone(tmp_path):
        assert running(tmp_path) is not None
        with pytest.raises(AgentRunning, match="lnstore status"), alone(tmp_path):
            pass
    assert running(tmp_path) is None
    with alone(tmp_path):
        pass


async def test_the_hook_gets_json_and_variables_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each alert once when it opens and once when it ends; without one nothing is run."""
    said = tmp_path / "said"
    script = (
        "import os, sys; "
        f"open({str(said)!r}, 'a').write(os.environ['LNSTORE_ALERT_STATE'] + ' ' + sys.stdin.read() "
        "+ str('LNSTORE_PASSPHRASE_FILE' in os.environ) + '\\n')"
    )
    monkeypatch.setenv("LNSTORE_PASSPHRASE_FILE", "/secret")
    async with open_agent_world(tmp_path, 2) as world:
        world.set_agent(hook=(sys.executable, "-c", script))
        await world.round()
        assert not said.exists()
        world.nodes[0].away = True
        await world.live(START + 2 * DAY)
        world.nodes[0].away = False
        await world.live(START + 3 * DAY)
    lines = said.read_text().split("\n")
    heard = [(lines[at].split(" ", 1)[0], json.loads(lines[at].split(" ", 1)[1])) for at in range(0, len(lines) - 1, 2)]
    assert set(lines[1::2]) == {"False"}
    assert {state for state, _ in heard} == {"opened", "closed"}
    told = [(state, one["job"], one["node"], one["subject"]) for state, one in heard]
    assert len(told) == len(set(told))
    assert ("opened", "rent", "n0", "failing") in told
    assert ("closed", "rent", "n0", "failing") in told
    assert all(one["text"].startswith("n0: node ") and "does not answer" in one["text"] for _, one in heard)


async def test_what_is_wrong_at_a_node_goes_on_being_told_while_it_does_not_answer(tmp_path: Path) -> None:
    """An alert ends when the job has seen that it may, not because it could see nothing."""
    async with open_agent_world(tmp_path, 2) as world:
        world.nodes[0].forget()
        await world.round()
        store = AgentStore(world.catalog)
        (loss,) = [alert for alert in store.alerts() if alert.subject == "loss"]
        world.nodes[0].away = True
        await world.live(START + 3 * DAY)
        assert store.runs()[loss.job].failures > 0
        assert [alert for alert in store.alerts() if alert.job == loss.job] == [loss]
        world.nodes[0].lost.clear()
        world.nodes[0].away = False
        await world.live(START + 5 * DAY)
        assert not [alert for alert in store.alerts() if alert.job == loss.job]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("sleep", "60"), "took longer"),
        (("false",), "exit status 1"),
        (("/nonexistent/hook",), "cannot be run"),
    ],
)
async def test_a_hook_that_fails_or_hangs_does_not_stop_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], why: str
) -> None:
    """The work is done, the page has the alert, and the hook is told in a later round."""
    monkeypatch.setattr(hook, "HOOK_SECONDS", 0.1)
    async with open_agent_world(tmp_path, 2) as world:
        world.set_agent(hook=command)
        world.nodes[0].forget()
        done = await world.round()
        assert why in done.hook_failure
        assert done.alerts
        assert {ran.kind for ran in world.ran} == {"channels", "tokens", "rent", "audit", "repair", "backup"}
        waiting = [alert for alert in AgentStore(world.catalog).alerts() if to_tell(alert)]
        assert waiting
        world.set_agent(hook=("true",))
        assert (await world.round()).hook_failure == ""
        assert not [alert for alert in AgentStore(world.catalog).alerts() if to_tell(alert)]


async def test_it_waits_for_others_who_write_and_says_so_after_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is done meanwhile; afterwards the alert ends."""
    monkeypatch.setattr(rounds, "WRITER_PATIENCE_SECONDS", 0.0)
    async with open_agent_world(tmp_path, 2) as world:
        await world.round()
        world.ran.clear()
        for days, alerts in ((0.6, 0), (1.5, 1)):
            world.clock.at = START + int(days * DAY)
            other = lock_file(world.profile.directory / "profile.lock", 0)
            assert other is not None
            with pytest.raises(ProfileBusy):
                await world.round()
            assert len(AgentStore(world.catalog).alerts()) == alerts
            os.close(other)
        assert world.ran == []
        assert (await world.round()).alerts == ()
