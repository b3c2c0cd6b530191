"""What the health endpoints say, read as probes read them."""

import json
from dataclasses import dataclass

from .process import wait_until
from .streamhouse import StreamHouse

LIVE, READY, AGENT = "/health/live", "/health/ready", "/health/ready?scope=agent"


@dataclass(frozen=True)
class Health:
    """One answer of each endpoint."""

    live: int
    ready: int
    agent: int
    status: str
    agent_status: str
    components: dict[str, dict]

    @property
    def codes(self) -> tuple[int, int, int]:
        return self.live, self.ready, self.agent

    def failed(self) -> set[str]:
        return {name for name, each in self.components.items() if each["state"] == "failed"}


def look(broker: StreamHouse) -> Health:
    live = broker.get(LIVE)[0]
    ready, body = broker.get(READY)
    agent, agent_body = broker.get(AGENT)
    report = json.loads(body)
    components = {each["component"]: each for each in report["components"]}
    return Health(live, ready, agent, report["status"], json.loads(agent_body)["status"], components)


def wait_for(broker: StreamHouse, codes: tuple[int, int, int], seconds: float) -> Health:
    """Asks until live, ready and ready?scope=agent answer so; what was said then."""
    seen = None

    def reached() -> bool:
        nonlocal seen
        broker.child.require_alive()
        seen = look(broker)
        return seen.codes == codes

    try:
        wait_until(reached, seconds, f"{codes}", every=0.25)
    except TimeoutError:
        raise AssertionError(f"{codes} not within {seconds} s but {seen}") from None
    return seen
