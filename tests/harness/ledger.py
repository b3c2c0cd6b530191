"""What a producer was told, and whether the log agrees: the judge of every test that breaks something.

A record is named by (partition, number). The promise: each acknowledged record is in the log exactly once
and at the offset that was reported; an unacknowledged one at most once; numbers of a partition stand in
the order in which they were sent; offsets have no gaps.
"""

import time

from confluent_kafka import KafkaError, Message, Producer

from .clients import read_all


class Ledger:
    def __init__(self, topic: str, partitions: int):
        self.topic = topic
        self.partitions = partitions
        self.sent = [0] * partitions
        self.acknowledged: list[dict[int, int]] = [{} for _ in range(partitions)]
        self.refused: list[str] = []

    def send(self, client: Producer, partition: int, size_bytes: int) -> None:
        """Sends the partition's next number in a record of about that size."""
        number = self.sent[partition]
        value = (b"%d/%d/" % (partition, number)).ljust(size_bytes, b"x")

        def report(error: KafkaError | None, message: Message) -> None:
            if error is None:
                self.acknowledged[partition][number] = message.offset()
            else:
                self.refused.append(f"{partition}/{number}: {error}")

        while True:
            try:
                client.produce(self.topic, value=value, partition=partition, on_delivery=report)
                break
            except BufferError:
                client.poll(0.05)
        self.sent[partition] += 1

    def acknowledged_count(self) -> int:
        return sum(map(len, self.acknowledged))

    def settle(self, client: Producer, seconds: float = 120) -> None:
        """Waits for every outstanding answer."""
        deadline = time.monotonic() + seconds
        while client.flush(1):
            assert time.monotonic() < deadline, f"{len(client)} records without an answer after {seconds} s"

    def judge(self, address: str) -> int:
        """Reads the whole topic and asserts the promise; the number of records found."""
        found = 0
        for partition, messages in enumerate(read_all(address, self.topic, self.partitions)):
            where = f"{self.topic}-{partition}"
            offsets = [each.offset() for each in messages]
            assert offsets == list(range(len(offsets))), f"{where}: offsets have gaps"
            numbers = []
            for message in messages:
                named, number, _ = message.value().split(b"/", 2)
                assert int(named) == partition, f"{where}: a record of partition {int(named)}"
                numbers.append(int(number))
            for before, after in zip(numbers, numbers[1:], strict=False):
                assert before < after, f"{where}: {after} follows {before}: twice, or out of order"
            at = {number: offset for offset, number in enumerate(numbers)}
            told = self.acknowledged[partition]
            lost = sorted(set(told) - set(at))
            assert not lost, f"{where}: {len(lost)} acknowledged records lost, first {lost[:5]}"
            # librdkafka reports -1 where a retry was answered as a duplicate without its offset.
            wrong = [number for number, offset in told.items() if offset >= 0 and at[number] != offset]
            assert not wrong, f"{where}: {len(wrong)} records at other offsets than reported, first {wrong[:5]}"
            found += len(messages)
        return found
