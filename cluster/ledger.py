"""The ledger of the shards that each actor was rendering when it died: the counts by which a shard that kills its actor
is found and left alone.

An actor that dies takes up to two shards with it: one that was being generated, one in upload. The rules:

- A shard that was in flight when its actor died is alone in its actor the next time.
- The death is charged to the shard that was being generated, or to the one that was alone. One in upload beside it is
  innocent until it dies alone.
- Only a death that a shard did not share, or an error of its own, can end its attempts: an innocent shard is never
  quarantined beside a guilty one.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

DIED = "its actor died (killed, out of memory, or lost with its node)"

Part = Literal["generating", "uploading"]


@dataclass(frozen=True)
class Admission:
    """The ledger's answer to an actor that asks for a shard."""

    row: str
    """Row that was reported of it before its actor died; empty when it has to be made."""
    given_up: bool
    """True for a shard that was begun too often and is not begun again."""
    standing: "Standing"


@dataclass(frozen=True)
class Standing:
    """The charges against a shard."""

    attempts: int = 0
    """Number of times it was begun and ended with its actor, or with an error that was not the product's own."""
    error: str = ""
    alone: bool = False
    """True where it must have its actor for itself the next time."""
    proven: bool = False
    """True where nothing else can have caused the last of them."""


@dataclass
class Ledger:
    """The counts of one job. Plain Python: it knows nothing of Ray; `open_ledger` puts it into an actor."""

    max_attempts: int
    """Number of attempts after which a shard is quarantined."""
    max_deaths: int
    """Number of deaths, with no shard finished in between, and one more for each other actor, after which the job
    stops."""
    deaths: int = 0
    deaths_in_a_row: int = 0
    rows: dict[int, str] = field(default_factory=dict)
    """Rows that were reported of the finished shards."""
    standings: dict[int, Standing] = field(default_factory=dict)
    in_flight: dict[str, dict[int, Part]] = field(default_factory=dict)
    """Shards in flight by actor. An actor that is here and starts again has died."""
    ending: dict[str, str] = field(default_factory=dict)
    """Actors that end themselves, with the reason: their death is nobody else's fault."""
    last: str = ""
    """The reason of the last death."""
    stopping: str = ""

    def started(self, actor: str) -> str:
        """Note that a process of the actor begins; return why it should do nothing, empty when it may go on."""
        if actor in self.in_flight:
            self._died(actor)
        self.in_flight[actor] = {}
        # A lost node takes several actors at once, so as many more are borne as there are actors.
        if self.deaths_in_a_row > self.max_deaths + len(self.in_flight) - 1:
            self.stopping = self.stopping or (
                f"actors died {self.deaths_in_a_row} times with no shard finished in between, more than "
                f"synthesis.max_failures={self.max_deaths} and one for each other actor; the last: {self.last}"
            )
        return self.stopping

    def _died(self, actor: str) -> None:
        shards, reason = self.in_flight[actor], self.ending.pop(actor, "")
        self.deaths, self.deaths_in_a_row, self.last = self.deaths + 1, self.deaths_in_a_row + 1, reason or DIED
        for shard, part in shards.items():
            before, alone = self.standing(shard), len(shards) == 1
            charged = not reason and (alone or part == "generating")
            self.standings[shard] = Standing(
                before.attempts + charged, DIED if charged else before.error, True, alone if charged else before.proven
            )

    def standing(self, shard: int) -> Standing:
        return self.standings.get(shard, Standing())

    def admit(self, actor: str, shard: int) -> Admission:
        standing = self.standing(shard)
        given_up = standing.proven and standing.attempts >= self.max_attempts
        return Admission(self.rows.get(shard, ""), given_up, standing)

    def begin(self, actor: str, shard: int) -> str:
        """Note that the shard is being generated from now on; or return the reason why no shard is begun any more."""
        if not self.stopping:
            self.in_flight[actor][shard] = "generating"
        return self.stopping

    def generated(self, actor: str, shard: int) -> None:
        """Note that the shard is in upload from now on."""
        self.in_flight[actor][shard] = "uploading"

    def left(self, actor: str, shard: int, row: str) -> None:
        """Note that the shard is in flight no longer: its marker is there, or `row` is empty and its error goes to the
        driver."""
        self.in_flight[actor].pop(shard, None)
        if row:
            self.rows[shard], self.deaths_in_a_row = row, 0

    def failed(self, actor: str, shard: int, error: str) -> None:
        """Note an error that a fresh process may not meet again; the actor ends itself now."""
        self.in_flight[actor].pop(shard, None)
        self.standings[shard] = Standing(self.standing(shard).attempts + 1, error, True, True)
        self.ending[actor] = f"shard {shard}: {error}"

    def ends(self, actor: str, error: str) -> bool:
        """An actor without models wants to end itself and try afresh; return whether that ever helped: some shard was
        made."""
        if self.rows:
            self.ending[actor] = error
        return bool(self.rows)

    def stop(self, reason: str) -> None:
        """Begin no shard from now on."""
        self.stopping = reason

    def counts(self) -> dict[str, Any]:
        parts = [part for shards in self.in_flight.values() for part in shards.values()]
        return {
            "deaths": self.deaths,
            "generating": parts.count("generating"),
            "uploading": parts.count("uploading"),
        }


def open_ledger(max_attempts: int, max_deaths: int) -> Any:
    """Open a ledger in an actor beside the driver, which ends with it; the driver's own node is the only one it
    needs."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=here).remote(max_attempts, max_deaths)
