"""How clients reach the brokers."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faststream.security import BaseSecurity

    from shared.settings import ProcessSettings


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Address, security and the prefix of this deployment's topics and groups."""

    bootstrap_servers: str
    topic_prefix: str = ""
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: str | None = None
    idempotence: bool = True
    """Off only for a broker that is for trying out and knows no producer ids."""

    @classmethod
    def of(cls, settings: ProcessSettings) -> KafkaConnection:
        """The connection that `settings` describe."""
        password = settings.kafka_sasl_password
        return cls(
            bootstrap_servers=settings.kafka_bootstrap_servers,
            topic_prefix=settings.kafka_topic_prefix,
            security_protocol=settings.kafka_security_protocol,
            sasl_mechanism=settings.kafka_sasl_mechanism,
            sasl_username=settings.kafka_sasl_username,
            sasl_password=password.get_secret_value() if password else None,
            idempotence=settings.kafka_idempotence,
        )

    def named(self, name: str) -> str:
        """The name on the broker of a topic or a group."""
        return f"{self.topic_prefix}{name}"

    def plain(self, name: str) -> str:
        """The contract's name of a topic on the broker."""
        return name.removeprefix(self.topic_prefix)

    def client_options(self) -> dict[str, Any]:
        """What every aiokafka client takes."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol in ("SSL", "SASL_SSL"):
            options["ssl_context"] = ssl.create_default_context()
        if self.security_protocol.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        return options

    def faststream_security(self) -> BaseSecurity | None:
        """The same for FastStream's broker."""
        # Whoever only reads or publishes has no use for FastStream, and starts sooner without.
        from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

        encrypted = self.security_protocol in ("SSL", "SASL_SSL")
        context = ssl.create_default_context() if encrypted else None
        if not self.security_protocol.startswith("SASL"):
            return BaseSecurity(ssl_context=context) if encrypted else None
        kind = {
            "PLAIN": SASLPlaintext,
            "SCRAM-SHA-256": SASLScram256,
            "SCRAM-SHA-512": SASLScram512,
        }[self.sasl_mechanism]
        return kind(
            username=self.sasl_username or "",
            password=self.sasl_password or "",
            ssl_context=context,
            use_ssl=encrypted,
        )
