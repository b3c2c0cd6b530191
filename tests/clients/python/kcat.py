"""kcat speaks the scenarios' protocol: each request is an invocation, each member of a group a process.

kcat sets no timestamps and has no administration. Its messages about groups come through standard error, so
the moments of a member's events are those at which they were read here.
"""

import ctypes
import re
import signal
import subprocess
import threading

from protocol import Holdings, row, serve, unb64

# Lengths before contents, so that both may hold any byte. (kcat prints a record's headers as text.)
FORMAT = "%p %o %T %K %S %h\\n%k%s"
LIBC = ctypes.CDLL(None)


def kcat(bootstrap, *arguments, given=b""):
    command = ["kcat", "-b", bootstrap, "-X", "reconnect.backoff.ms=50", *map(str, arguments)]
    done = subprocess.run(command, input=given, capture_output=True, timeout=90, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} → {done.returncode}: {done.stderr.decode(errors='replace')[-1_000:]}")
    return done.stdout


def produce(bootstrap, topic, records, codec="none", idempotent=True, batch=100):
    """Runs of records that share partition, headers and the presence of key and value share an invocation."""
    def alike(each):
        return each["partition"], each["headers"], each["key"] is None, each["value"] is None

    runs: list[list] = []
    for each in records:
        if runs and alike(runs[-1][-1]) == alike(each):
            runs[-1].append(each)
        else:
            runs.append([each])
    if len({alike(each)[0] for each in records}) > 1 and len(runs) > 20:
        # Nothing said that partitions have to take turns.
        runs = [[each for each in records if each["partition"] == partition]
                for partition in sorted({each["partition"] for each in records})]
    for run in runs:
        partition, headers, no_key, no_value = alike(run[0])
        arguments = ["-P", "-t", topic, "-p", partition, "-z", codec, "-D", "~~~", "-E",
                     "-X", f"enable.idempotence={str(idempotent).lower()}", "-X", f"batch.num.messages={batch}",
                     "-X", "retry.backoff.ms=50"]
        for name, value in headers:
            arguments += ["-H", name if value is None else f"{name}={unb64(value).decode()}"]
        arguments += [] if no_key else ["-K", "|||"]
        arguments += ["-Z"] if no_value else []
        lines = [(b"" if no_key else unb64(each["key"]) + b"|||") + (unb64(each["value"]) or b"") for each in run]
        kcat(bootstrap, *arguments, given=b"~~~".join(lines))
    return [None] * len(records)


def read(bootstrap, topic, start, count, committed=False):
    [(partition, offset)] = start.items()
    isolation = "read_committed" if committed else "read_uncommitted"
    printed = kcat(bootstrap, "-C", "-t", topic, "-p", partition, "-o", offset, "-c", count, "-q", "-f", FORMAT,
                   "-X", f"isolation.level={isolation}", "-X", "fetch.wait.max.ms=100", "-X", "check.crcs=true")
    found = []
    while printed:
        line, printed = printed.split(b"\n", 1)
        partition, offset, timestamp, key_length, value_length, headers = line.decode().split(" ", 5)
        parts = []
        for length in (int(key_length), int(value_length)):
            parts.append(printed[:length] if length >= 0 else None)
            printed = printed[max(length, 0):]
        named = [each.split("=", 1) for each in headers.split(",") if each]
        headers = [(name, None if value == "NULL" else value.encode()) for name, value in named]
        found.append(row(int(partition), int(offset), int(timestamp), *parts, headers))
    return found


def time_(bootstrap, topic, partition, timestamp):
    printed = kcat(bootstrap, "-Q", "-t", f"{topic}:{partition}:{timestamp}").decode()
    offset = int(re.search(r"offset (-?\d+)", printed)[1])
    return offset if offset >= 0 else None


members: dict = {}


class Member:
    def __init__(self, bootstrap, member, group, topic, protocol, instance, session_ms):
        self.holdings = Holdings(member)
        strategy = {"cooperative": "cooperative-sticky"}.get(protocol, protocol)
        # No commits: whoever gets a partition reads it again. kcat would commit what it has not printed: a record
        # that librdkafka hands over, and thereby stores for the next commit, while SIGTERM arrives is dropped, and
        # closing the consumer commits it. `enable.auto.commit` does not keep it from that, because kcat takes the
        # name for the topic property that is called so too, and leaves the consumer's own at true.
        settings = {
            "session.timeout.ms": session_ms, "heartbeat.interval.ms": 500, "auto.offset.reset": "earliest",
            "partition.assignment.strategy": strategy, "enable.auto.offset.store": "false", "fetch.wait.max.ms": 100,
            **({"group.instance.id": instance} if instance else {}),
        }
        command = ["kcat", "-b", bootstrap, "-G", group, "-u", "-f", "%p %o %s\\n", "-E"]
        command += [part for name, value in settings.items() for part in ("-X", f"{name}={value}")]
        self.process = subprocess.Popen(
            [*command, topic], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            # It dies with us: PR_SET_PDEATHSIG.
            preexec_fn=lambda: LIBC.prctl(1, signal.SIGKILL))
        for read in (self.records, self.rebalances):
            threading.Thread(target=read, daemon=True).start()

    def records(self):
        for line in self.process.stdout:
            partition, offset, value = line.rstrip("\n").split(" ", 2)
            self.holdings.records([[int(partition), int(offset), value]])

    def rebalances(self):
        for line in self.process.stderr:
            print(line.rstrip())
            named = [int(each) for each in re.findall(r"\[(\d+)\]", line)]
            if re.search(" rebalanced.* (assigned|assignment)", line):
                self.holdings.gain(named)
            elif re.search(" rebalanced.* (revoked|revoke)", line):
                self.holdings.lose(named)


def join(member, **arguments):
    members[member] = Member(member=member, **arguments)


def leave(member, **_):
    one = members[member]
    one.process.terminate()
    one.process.wait(60)
    one.holdings.lose(one.holdings.held)


COMMANDS = {each.__name__.rstrip("_"): each for each in (produce, read, time_, join, leave)}

if __name__ == "__main__":
    serve(COMMANDS, lambda error: None)
