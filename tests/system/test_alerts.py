"""Alerts that fire because something really broke, and end when it is mended.

A real Prometheus judges the rules as they are, but for time: ranges, delays and `for` are a thirtieth, so that
minutes become seconds. Thresholds stay. What takes days, and a healthy day, test_rules.py plays with promtool.
"""

import pytest
from confluent_kafka import TopicPartition

from harness.alerts import hurried
from harness.clients import consumer, create_topic, producer, send_all, unique
from harness.process import wait_until
from harness.prometheus import Prometheus

pytestmark = pytest.mark.ours


def test_alerts_fire_when_their_fault_is_there_and_end_with_it(new_broker, proxy, tmp_path):
    broker = new_broker("s3", endpoint=proxy.endpoint, inline_bytes=0)
    topic = create_topic(broker.address, unique("watched"))
    target = broker.http.removeprefix("http://")
    prometheus = Prometheus(tmp_path / "prometheus", [target], hurried(tmp_path / "rules")).start()

    def fires(name: str, seconds: float, **labels: str) -> None:
        def there() -> bool:
            return any(labels.items() <= each.items() for each in prometheus.alerts().get(name, []))
        try:
            wait_until(there, seconds, name, every=0.3)
        except TimeoutError:
            pytest.fail(f"{name} {labels} does not fire; firing are {prometheus.alerts()}, pending {prometheus.alerts('pending')}")

    def ends(*names: str) -> None:
        wait_until(lambda: not set(names) & set(prometheus.alerts()), 90, f"the end of {names}", every=0.3)

    try:
        send_all(broker.address, topic, [b"x" * 100] * 1_200)
        prometheus.wait_for_scrapes(3)
        assert not prometheus.alerts(), "all is well"

        # A group that is 1,200 records behind, and nobody of it there.
        group = unique("slow")
        member = consumer(broker.address, group_id=group)
        member.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
        fires("ConsumerLagHigh", 90, topic=topic, partition="0", consumer_group=group)
        member.commit(offsets=[TopicPartition(topic, 0, 1_200)], asynchronous=False)
        member.close()
        ends("ConsumerLagHigh")

        # A store that hangs.
        proxy.fault("stall", "PUT", "/objects/")
        client = producer(broker.address)
        client.produce(topic, b"waits")
        client.poll(0)
        fires("ProduceStalled", 90)
        proxy.heal()
        assert client.flush(60) == 0
        ends("ProduceStalled")

        # A store that refuses: tried again, given up, the component unhealthy.
        proxy.fault("503", "PUT")
        client.produce(topic, b"refused")
        client.poll(0)
        fires("NotReady", 90, component="object_store")
        fires("StoreThrottling", 90, operation="PUT")
        fires("S3UploadFailed", 90, operation="PUT")
        fires("UploadGivenUp", 90, operation="PUT")
        proxy.heal()
        client.produce(topic, b"welcome")
        client.flush(60)
        ends("NotReady", "S3UploadFailed", "UploadGivenUp", "StoreThrottling")

        broker.kill()
        fires("AgentDown", 60, instance=target)
        fires("ClusterViewMissing", 60)
        broker.start()
        ends("AgentDown", "ClusterViewMissing")
    finally:
        prometheus.stop()
