"""The claims that the kubelet plugin asks for: gone, or not readable now."""

import pytest

from gpuvitals.kube.claim_reader import ClaimReader
from gpuvitals.kube.transport import ConnectSettings, connect
from gpuvitals.kubeletplugin.ports import ClaimNotFoundError, ClaimUnavailableError
from gpuvitals.node.edge_adapters import ClaimAdapter
from gpuvitals_sim.apiserver import ApiServer, Match


def test_a_claim_is_gone_only_where_the_server_says_so_of_that_claim() -> None:
    """Finding K1: three answers 404 of a server that starts must not release the claim of a running pod."""
    with ApiServer() as server:
        adapter = ClaimAdapter(ClaimReader(connect(ConnectSettings(url=server.url))))
        with pytest.raises(ClaimNotFoundError):
            adapter.allocated("default", "c")
        server.faults.fail(404, times=1, match=Match(resource="resourceclaims"))
        with pytest.raises(ClaimUnavailableError):
            adapter.allocated("default", "c")
