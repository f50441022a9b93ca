"""Reads the driver's names from the configuration file before the file is validated: the sockets need them early."""

import re
from pathlib import Path

from gpuvitals.inventory.naming import Naming
from gpuvitals.yaml_text import yaml_documents

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")


def early_naming(config: Path | None) -> Naming | None:
    """The names in the file; None if they are only known once the whole file is validated."""
    if config is None:
        return Naming()
    try:
        documents = yaml_documents(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    content = next(iter(documents), None) or {}
    if not isinstance(content, dict):
        return None
    defaults = Naming()
    driver = content.get("driver", defaults.driver)
    group = content.get("api_group", defaults.api_group)
    domain = content.get("attribute_domain", defaults.attribute_domain)
    names = (driver, group, domain)
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        return None
    return Naming(driver=driver, api_group=group, attribute_domain=domain)
