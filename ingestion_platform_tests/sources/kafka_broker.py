"""A real Kafka broker for tests: one node of KRaft on loopback, from the jars that `scripts/servers/kafka.sh` installs."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # the stubs forget it

JARS = Path(__file__).resolve().parents[2] / ".servers/kafka/libs"
STARTS_WITHIN_SECONDS = 120.0
USER, PASSWORD = "reader", "open-sesame"
"""Whom the listener with SASL knows."""


@dataclass(frozen=True)
class Broker:
    """
    A running broker.

    Args:
        servers: without a login.
        sasl_servers: with SASL/PLAIN.
        pid: its process.
    """

    servers: str
    sasl_servers: str
    pid: int

    def admin(self) -> AdminClient:
        """Somebody who makes and removes topics."""
        return AdminClient({"bootstrap.servers": self.servers, "log_level": 0})

    def topic(self, partitions: int = 1, config: Mapping[str, str] | None = None, name: str | None = None) -> str:
        """Make a topic; its name."""
        name = name or f"t{uuid4().hex[:10]}"
        topic = NewTopic(name, partitions, 1, config=dict(config or {}))
        admin = self.admin()
        admin.create_topics([topic])[name].result(30)
        return name


@contextmanager
def serve(heap_mb: int = 320) -> Iterator[Broker]:
    """A broker, for as long as the context lasts."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kafka-")))
        plain, controller, sasl = _free_ports(3)
        config = folder / "server.properties"
        config.write_text(_PROPERTIES.format(plain=plain, controller=controller, sasl=sasl, folder=folder))
        java = [
            "java",
            f"-Xmx{heap_mb}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Xshare:auto",
            "-cp",
            f"{JARS}/*",
        ]
        log = stack.enter_context((folder / "broker.log").open("wb"))
        formatted = [
            *java,
            "kafka.tools.StorageTool",
            "format",
            "--standalone",
            "-t",
            uuid4().hex[:22],
            "-c",
            str(config),
        ]
        subprocess.run(formatted, check=True, stdout=log, stderr=subprocess.STDOUT, timeout=STARTS_WITHIN_SECONDS)
        process = subprocess.Popen([*java, "kafka.Kafka", str(config)], stdout=log, stderr=subprocess.STDOUT)
        try:
            broker = Broker(f"127.0.0.1:{plain}", f"127.0.0.1:{sasl}", process.pid)
            _wait_for(broker, process, folder / "broker.log")
            yield broker
        finally:
            # What it holds is gone with its folder.
            process.kill()
            process.wait(30)


def _wait_for(broker: Broker, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + STARTS_WITHIN_SECONDS
    admin = broker.admin()
    while time.monotonic() < until and process.poll() is None:
        try:
            admin.list_topics(timeout=1)
        except KafkaException:
            continue
        return
    raise RuntimeError(f"Kafka's broker didn't start:\n{log.read_text(errors='replace')[-3000:]}")


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        found = []
        for _ in range(number):
            one = stack.enter_context(closing(socket.socket()))
            one.bind(("127.0.0.1", 0))
            found.append(int(one.getsockname()[1]))
        return found


_PROPERTIES = f"""
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{{controller}}
listeners=PLAINTEXT://127.0.0.1:{{plain}},CONTROLLER://127.0.0.1:{{controller}},SASL_PLAINTEXT://127.0.0.1:{{sasl}}
advertised.listeners=PLAINTEXT://127.0.0.1:{{plain}},SASL_PLAINTEXT://127.0.0.1:{{sasl}}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_{USER}="{PASSWORD}";
log.dirs={{folder}}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.backoff.ms=100
log.cleaner.dedupe.buffer.size=20000000
"""
