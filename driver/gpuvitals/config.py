"""The settings that a file may change: names, mode, cadence, policy values. Checked on load, field by field."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpuvitals.health.policy import Policy, policy_with
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.taints import ServiceMode

_DNS = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


class ConfigError(Exception):
    """The file can't be used. The message names the file and the field."""


class NodeConfig(BaseModel):
    """The node agent's file. Everything has a default; an unknown field is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    driver: str = Field(default=Naming().driver, pattern=_DNS, max_length=63)
    api_group: str = Field(default=Naming().api_group, pattern=_DNS, max_length=253)
    attribute_domain: str = Field(default=Naming().attribute_domain, pattern=_DNS, max_length=63)
    service_mode: Literal["auto", "taint", "withdraw"] = "auto"
    poll_seconds: float = Field(default=5.0, ge=0.05, le=60)
    neighbour_seconds: float = Field(default=60.0, ge=0.05, le=3600)
    node_seconds: float = Field(default=20.0, ge=0.05, le=30)
    dcgm_url: str = Field(default="", max_length=256)
    dcgm_any_host: bool = False
    policy: dict[str, int] = Field(default_factory=dict)

    @property
    def naming(self) -> Naming:
        """The names in force."""
        return Naming(driver=self.driver, api_group=self.api_group, attribute_domain=self.attribute_domain)

    @property
    def forced_mode(self) -> ServiceMode | None:
        """The mode that the file forces; None where the server is asked."""
        return None if self.service_mode == "auto" else ServiceMode(self.service_mode)

    @property
    def health_policy(self) -> Policy:
        """The values in force. The DCGM exporter is expected where it has an address, unless the file says otherwise."""
        return policy_with({"dcgm_expected": int(bool(self.dcgm_url)), **self.policy})


def load_config(path: Path | None) -> NodeConfig:
    """The settings of a YAML file, or the defaults. Raises ConfigError."""
    if path is None:
        return NodeConfig()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    try:
        config = NodeConfig.model_validate({} if content is None else content)
        config.health_policy  # noqa: B018  # evaluated for its check
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ConfigError(f"{path}: {field}: {first['msg'].lower()}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: policy: {error}") from error
    return config
