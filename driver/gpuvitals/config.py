"""The agent's configuration file: names, mode, poll periods, policy values. Each field is checked on load."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gpuvitals.decode_error import misfit
from gpuvitals.health.policy import Policy, policy_with
from gpuvitals.health.policy_pairs import poll_interval_conflict
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.signals.dcgm import DcgmSettings, refused_address
from gpuvitals.yaml_text import yaml_documents

_DNS = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


class ConfigError(Exception):
    """The configuration file is invalid. The message names the file and the field."""


_Label = Annotated[str, Meta(pattern=_DNS, max_length=63)]


class NodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The node agent's configuration. Every field has a default; unknown fields are refused."""

    driver: _Label = Naming().driver
    api_group: Annotated[str, Meta(pattern=_DNS, max_length=253)] = Naming().api_group
    attribute_domain: _Label = Naming().attribute_domain
    service_mode: Literal["auto", "taint", "withdraw"] = "auto"
    poll_seconds: Annotated[float, Meta(ge=0.05, le=60)] = 5.0
    node_poll_seconds: Annotated[float, Meta(ge=0.05, le=30)] = 20.0
    dcgm_url: Annotated[str, Meta(max_length=256)] = ""
    dcgm_any_host: bool = False
    policy: dict[str, Any] = {}

    @property
    def naming(self) -> Naming:
        """The names in effect."""
        return Naming(driver=self.driver, api_group=self.api_group, attribute_domain=self.attribute_domain)

    @property
    def forced_mode(self) -> ServiceMode | None:
        """The configured service mode; None if it depends on the API server's support of device taints."""
        return None if self.service_mode == "auto" else ServiceMode(self.service_mode)

    @property
    def health_policy(self) -> Policy:
        """The policy values in effect. With `dcgm_url` the DCGM exporter is expected, unless the policy sets otherwise."""
        return policy_with({"dcgm_expected": int(bool(self.dcgm_url)), **self.policy})

    def dcgm(self, node_address: str) -> DcgmSettings | None:
        """The DCGM exporter's settings; `NODE_IP` in its address is this node's. None without one. Raises ConfigError."""
        if not self.dcgm_url:
            return None
        address = f"[{node_address}]" if ":" in node_address else node_address
        url = self.dcgm_url.replace("NODE_IP", address)
        refused = refused_address(url, node_address, any_host=self.dcgm_any_host)
        if refused:
            raise ConfigError(f"dcgm_url {url}: {refused}; dcgm_any_host allows other hosts")
        return DcgmSettings(url=url)


def load_config(path: Path | None) -> NodeConfig:
    """The configuration in a YAML file, or the defaults without a file. Raises ConfigError."""
    if path is None:
        return NodeConfig()
    try:
        documents = yaml_documents(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if len(documents) > 1:
        raise ConfigError(f"{path}: has {len(documents)} documents, expected one")
    content = documents[0] if documents else None
    try:
        config = msgspec.convert({} if content is None else content, NodeConfig)
        unfit = poll_interval_conflict(asdict(config.health_policy), config.poll_seconds)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {misfit(error, 'the document')}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: policy: {error}") from error
    if unfit:
        raise ConfigError(f"{path}: {unfit}")
    return config
