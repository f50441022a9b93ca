"""The real kubectl against any server, with its output normalized for a comparison of two servers.

The program comes from tests/cluster/build.py. It gets a home of its own and nothing of the caller's environment.
"""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cluster.build import locate
from support.raw_api import Json

TIMEOUT_SECONDS = 30
_CHANGING = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uid>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}"), "<time>"),
    (re.compile(r'(resourceVersion"?: )"\d+"'), r'\1"<version>"'),
    (re.compile(r"(Resource Version: +)\d+"), r"\1<version>"),
    (re.compile(r"(?<![\w.])\d+(ms|[smhd])(\d+[smh])?\b"), "<age>"),
    (re.compile(r"https?://127\.0\.0\.1:\d+"), "<url>"),
    (re.compile(r" +"), " "),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The output and exit code of one call."""

    code: int
    out: str
    err: str


class Kubectl:
    """kubectl with one kubeconfig; `home` holds its caches."""

    def __init__(self, kubeconfig: Path, home: Path) -> None:
        self._program = str(locate("kubernetes-1.37", "kubectl"))
        self._environment = {"KUBECONFIG": str(kubeconfig), "HOME": str(home), "PATH": ""}

    def run(self, *arguments: str, manifest: Json | None = None) -> Output:
        """Runs one call; a manifest becomes its standard input. Output is comparable between servers."""
        done = subprocess.run(
            [self._program, *arguments],
            env=self._environment,
            input=json.dumps(manifest) if manifest is not None else None,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        return Output(code=done.returncode, out=comparable(done.stdout), err=comparable(done.stderr))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts a call that goes on, as `get -w` does. The caller ends it."""
        return subprocess.Popen(
            [self._program, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def comparable(text: str) -> str:
    """The text without identities, versions, times, ages, ports and the widths of columns."""
    for pattern, replacement in _CHANGING:
        text = pattern.sub(replacement, text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def plain_kubeconfig(url: str) -> Json:
    """A kubeconfig for a server without TLS and without users."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "plain",
        "clusters": [{"name": "plain", "cluster": {"server": url}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "plain", "context": {"cluster": "plain", "user": "nobody"}}],
    }
