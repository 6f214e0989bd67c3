"""Figures: what is counted, what is read at a scrape, that labels stay few, and that the manual lists them all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from tests.observability.calls import SECRETS, arrived, event, refused_call, spoken_call

from offhook.model.call_events import CallEnded, CallEvent
from offhook.observability.metrics import MAX_VALUES, Metrics, ServerFigures
from offhook.sip.events import Address, MessageRejected

MANUAL = Path(__file__).parents[2] / "docs" / "OPERATIONS.md"


def scrape(metrics: Metrics, figures: ServerFigures | None = None) -> dict[str, float]:
    """Every sample as ``name{label=value,…}``, labels in order."""
    text = metrics.render(figures or ServerFigures()).decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {sample.name + shown(sample.labels): sample.value for sample in samples}


def shown(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{name}={value}" for name, value in sorted(labels.items())) + "}" if labels else ""


def watched(*calls: Iterable[CallEvent]) -> Metrics:
    metrics = Metrics()
    for told in chain.from_iterable(calls):
        metrics.watch(told)
    return metrics


def test_a_call_is_counted_with_all_that_happened_in_it() -> None:
    samples = scrape(watched(spoken_call(), refused_call()))
    assert samples["offhook_calls_total{cause=hangup,direction=inbound,status=none}"] == 1
    assert samples["offhook_calls_total{cause=refused,direction=outbound,status=404}"] == 1
    assert samples["offhook_sip_refused_total{rule=no number matches,status=404}"] == 1
    assert samples["offhook_call_setup_seconds_sum{direction=inbound}"] == 0.12
    assert samples["offhook_call_duration_seconds_sum{direction=inbound}"] == 14
    assert samples["offhook_turn_latency_seconds_sum{provider=scripted}"] == 0.6
    assert samples["offhook_turn_latency_seconds_count{provider=scripted}"] == 1
    assert samples["offhook_turns_total{speaker=caller}"] == 1
    assert samples["offhook_turns_interrupted_total"] == 1
    assert samples["offhook_interruptions_resumed_total"] == 1
    assert samples["offhook_tool_seconds_sum{result=ok}"] == 0.8
    assert samples["offhook_transfers_total{mode=bridge,outcome=busy}"] == 1
    assert samples["offhook_provider_faults_total{provider=scripted,verdict=retry}"] == 1
    assert samples["offhook_rtp_packets_total{way=lost}"] == 5
    assert samples["offhook_rtp_loss_ratio_sum{way=received}"] == 0.01
    assert samples["offhook_rtp_jitter_seconds_sum"] == 0.004


def test_live_calls_are_those_that_have_not_ended() -> None:
    metrics = watched([event("a", 1, arrived()), event("b", 1, arrived("outbound")), event("c", 1, arrived())])
    metrics.watch(event("c", 2, CallEnded(by="caller", phase="up", cause="hangup")))
    samples = scrape(metrics)
    assert samples["offhook_calls_live{direction=inbound}"] == 1
    assert samples["offhook_calls_live{direction=outbound}"] == 1


def test_the_server_s_figures_are_read_at_each_scrape() -> None:
    metrics = Metrics()
    figures = ServerFigures(
        taking_calls=False, draining=True, trunks={"pbx": "online", "sip": "failed"}, loop_lag_s=0.07, journal_depth=12,
        outbox_pending=3, outbox_dead=1, late_ticks=9,
    )  # fmt: skip
    samples = scrape(metrics, figures)
    assert samples["offhook_taking_calls"] == 0
    assert samples["offhook_draining"] == 1
    assert samples["offhook_trunks{state=failed}"] == 1
    assert samples["offhook_trunks{state=stopped}"] == 0
    assert samples["offhook_trunk_online{trunk=sip}"] == 0
    assert samples["offhook_loop_lag_worst_seconds"] == 0.07
    assert samples["offhook_journal_depth"] == 12
    assert samples["offhook_webhook_deliveries{state=dead}"] == 1
    assert samples["offhook_media_late_ticks_total"] == 9
    assert scrape(metrics)["offhook_draining"] == 0


def test_what_others_tell_is_counted() -> None:
    metrics = Metrics()
    source = Address(host="192.0.2.66", port=5060)
    metrics.rejected(
        MessageRejected(source=source, status=None, rule="source that no trunk knows", evidence="", fix="")
    )
    metrics.committed(events=8, seconds=0.004)
    metrics.delivered("retried", 0.2)
    metrics.answered("/api/calls/{id}", "GET", 200, 0.003)
    metrics.answered("/api/calls/{id}", "BREW", 405, 0.001)
    metrics.lagged(0.03)
    samples = scrape(metrics)
    assert samples["offhook_sip_refused_total{rule=source that no trunk knows,status=none}"] == 1
    assert samples["offhook_journal_events_total"] == 8
    assert samples["offhook_webhook_attempts_total{result=retried}"] == 1
    assert samples["offhook_http_requests_total{method=GET,route=/api/calls/{id},status=200}"] == 1
    assert samples["offhook_http_requests_total{method=other,route=/api/calls/{id},status=405}"] == 1
    assert samples["offhook_loop_lag_seconds_bucket{le=0.05}"] == 1


def test_a_peer_cannot_make_labels_without_end() -> None:
    metrics = Metrics()
    source = Address(host="192.0.2.66", port=5060)
    for number in range(1000):
        told = MessageRejected(source=source, status=400 + number % 299, rule=f"rule {number}", evidence="", fix="")
        metrics.rejected(told)
    names = [name for name in scrape(metrics) if name.startswith("offhook_sip_refused_total")]
    rules = {re.search("rule=([^,]*)", name).group(1) for name in names}  # type: ignore[union-attr]
    statuses = {re.search("status=([^}]*)", name).group(1) for name in names}  # type: ignore[union-attr]
    assert len(rules) == MAX_VALUES + 1
    assert {"4xx", "5xx", "6xx", "486"} <= statuses


def test_no_figure_shows_who_called_or_what_was_said() -> None:
    text = watched(spoken_call("0f3c8a52")).render(ServerFigures()).decode()
    assert "0f3c8a52" not in text
    assert [secret for secret in SECRETS if secret in text] == []


def test_the_manual_lists_every_figure_and_no_other() -> None:
    listed = set(re.findall(r"^\| `(offhook_\w+)`", MANUAL.read_text(), re.M))
    families = text_string_to_metric_families(watched(spoken_call()).render(ServerFigures()).decode())
    ours = {f"{one.name}_total" if one.type == "counter" else one.name for one in families}
    assert listed == {name for name in ours if name.startswith("offhook_")}
