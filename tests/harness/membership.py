"""What the members of a group held and were given, told by their programs' events; and who was wrong.

A partition belongs to a member from the moment its client says so until it says that it is gone, or until the
member's process is killed. Two members of one group never hold a partition at the same time, and records
reach only who holds their partition.
"""

import itertools
from dataclasses import dataclass, field

from .process import wait_until
from .program import Client, Program


@dataclass
class Holding:
    member: str
    since: float
    until: float = float("inf")


@dataclass
class Membership:
    partitions: int
    programs: list[Program] = field(default_factory=list)
    deaths: dict[str, float] = field(default_factory=dict)

    def _events(self):
        return itertools.chain.from_iterable(list(each.events) for each in self.programs)

    def holdings(self) -> dict[int, list[Holding]]:
        """Per partition who held it, by the beginning of each holding."""
        found: dict[int, list[Holding]] = {each: [] for each in range(self.partitions)}
        open_: dict[tuple[str, int], Holding] = {}
        for event in self._events():
            if event.name == "assigned":
                for partition in event.body["partitions"]:
                    holding = Holding(event.body["member"], event.at)
                    open_[event.body["member"], partition] = holding
                    found[partition].append(holding)
            elif event.name == "revoked":
                for partition in event.body["partitions"]:
                    open_.pop((event.body["member"], partition)).until = event.at
        for (member, _), holding in open_.items():
            holding.until = self.deaths.get(member, holding.until)
        return {partition: sorted(each, key=lambda one: one.since) for partition, each in found.items()}

    def shares(self) -> dict[str, list[int]]:
        """What each member that holds anything holds now."""
        now: dict[str, list[int]] = {}
        for partition, holdings in self.holdings().items():
            for each in holdings:
                if each.until == float("inf"):
                    now.setdefault(each.member, []).append(partition)
        return now

    def settle(self, members: set[str], seconds: float = 120, even: bool = False) -> dict[str, list[int]]:
        """Waits until exactly these members hold every partition between them, each at least one.

        With `even`, also until their shares are. Where partitions move one by one all may be held before that.
        """

        def settled():
            for program in self.programs:
                assert program.process.poll() is None or program.client.name, program.tail()
            shares = self.shares()
            held = sorted(itertools.chain.from_iterable(shares.values()))
            if set(shares) != members or held != list(range(self.partitions)):
                return None
            sizes = [len(share) for share in shares.values()]
            return None if even and max(sizes) - min(sizes) > 1 else shares

        try:
            return wait_until(settled, seconds, f"{sorted(members)} share {self.partitions} partitions")
        except TimeoutError as late:
            logs = "\n".join(each.tail(20) for each in self.programs)
            raise AssertionError(f"{late}; they hold {self.shares()}\n{logs}") from None

    def rows(self) -> list[tuple[float, str, int, int, str]]:
        """(when, member, partition, offset, value) of each record that was given to somebody."""
        return [
            (event.at, event.body["member"], *row)
            for event in self._events() if event.name == "records" for row in event.body["records"]
        ]

    def complete(self, wanted: set[str], seconds: float = 120) -> None:
        """Waits until the group was given every one of these values, and no other."""
        def missing() -> set[str]:
            return wanted - {row[4] for row in self.rows()}

        try:
            wait_until(lambda: not missing(), seconds, "every record reaches the group")
        except TimeoutError:
            raise AssertionError(f"{len(missing())} of {len(wanted)} records reach nobody: {sorted(missing())}") from None
        assert {row[4] for row in self.rows()} <= wanted

    def judge(self, client: Client) -> None:
        holdings = self.holdings()
        if client.exact_times:
            for partition, held in holdings.items():
                for before, after in itertools.pairwise(held):
                    assert before.until <= after.since, (
                        f"partition {partition}: {before.member} and {after.member} hold it for "
                        f"{before.until - after.since:.3f} s together"
                    )
            for at, member, partition, offset, _ in self.rows():
                own = [each for each in holdings[partition] if each.member == member]
                assert any(each.since <= at <= each.until for each in own), (
                    f"{member} was given {partition}/{offset} without holding it")
        # Whoever is given records of a partition gets them in order, without a gap.
        last: dict[tuple[str, int], int] = {}
        for _, member, partition, offset, _ in self.rows():
            before = last.get((member, partition))
            if before is not None and offset > before:
                others = {row[3] for row in self.rows() if row[2] == partition and row[1] != member}
                assert set(range(before + 1, offset)) <= others, f"{member} skipped from {before} to {offset}"
            last[member, partition] = offset
