"""Which devices are taken first, and which pools give none."""

from typing import Any

from contract.scheduling.world import World, gpu


def test_devices_in_the_published_order(world: World) -> None:
    world.publish(gpu("gpu-3"), gpu("gpu-1"), gpu("gpu-2"))
    world.submit("one")
    assert world.taken("one") == ["gpu-3"]
    world.submit("two", world.exactly(count=2))
    assert world.taken("two") == ["gpu-1", "gpu-2"]


def test_a_new_order_counts_for_the_next_claim(world: World) -> None:
    published = world.publish(gpu("gpu-0"), gpu("gpu-1"), gpu("gpu-2"))
    world.submit("one")
    assert world.taken("one") == ["gpu-0"]
    published["spec"]["devices"].reverse()
    world.replace(world.slices, published)
    world.again_until("two", ["gpu-2"])


def test_slices_of_a_pool_by_name(world: World) -> None:
    world.publish(gpu("gpu-1"), name=f"{world.name}-b", resourceSliceCount=2)
    world.publish(gpu("gpu-9"), name=f"{world.name}-a", resourceSliceCount=2)
    world.submit("both", world.exactly(count=2))
    assert world.taken("both") == ["gpu-9", "gpu-1"]


def test_pools_by_name(world: World) -> None:
    pools = [f"{world.name}-y", f"{world.name}-x"]
    for number, pool in enumerate(pools):
        world.publish(gpu(f"gpu-{number}"), name=f"{world.name}-{number}", pool=pool)
    world.submit("both", world.exactly(count=2))
    world.taken("both")
    assert [result["pool"] for result in world.results("both")] == [f"{world.name}-x", f"{world.name}-y"]


def test_an_obsolete_generation_gives_nothing(world: World) -> None:
    world.publish(gpu("gpu-0"), name=f"{world.name}-old", generation=1)
    world.publish(gpu("gpu-1"), name=f"{world.name}-young", generation=2)
    world.submit("one")
    assert world.taken("one") == ["gpu-1"]
    world.submit("two")
    world.waits("two")


def test_a_pool_with_missing_slices_gives_nothing_until_it_is_whole(world: World) -> None:
    world.publish(gpu("gpu-0"), name=f"{world.name}-0", resourceSliceCount=2)
    world.submit("one")
    world.waits("one")
    world.publish(gpu("gpu-1"), name=f"{world.name}-1", resourceSliceCount=2)
    assert world.taken("one") == ["gpu-0"]


def test_a_newer_generation_with_missing_slices_hides_the_older_one(world: World) -> None:
    world.publish(gpu("gpu-0"), name=f"{world.name}-old", generation=1)
    world.publish(gpu("gpu-1"), name=f"{world.name}-young", generation=2, resourceSliceCount=2)
    world.submit("one")
    world.waits("one")


def test_all_of_an_incomplete_pool_is_refused(world: World) -> None:
    world.publish(gpu("gpu-0"), name=f"{world.name}-0", resourceSliceCount=2)
    world.submit("all", world.exactly(allocationMode="All"))
    where = f"claim {world.name}/all, request gpu: asks for all devices, but resource pool {world.driver}/{world.name}-a"
    world.broken("all", f"{where} is currently being updated")


def test_a_device_name_that_comes_twice_spoils_its_pool(world: World) -> None:
    world.publish(gpu("gpu-0"), name=f"{world.name}-0", resourceSliceCount=2)
    world.publish(gpu("gpu-0"), name=f"{world.name}-1", resourceSliceCount=2)
    world.submit("one")
    world.waits("one", {"invalid resource pools were encountered": 1})


def test_all_of_an_invalid_pool_is_refused(world: World) -> None:
    world.publish(gpu("gpu-0"), name=f"{world.name}-0", resourceSliceCount=2)
    world.publish(gpu("gpu-0"), name=f"{world.name}-1", resourceSliceCount=2)
    world.submit("all", world.exactly(allocationMode="All"))
    where = f"claim {world.name}/all, request gpu: asks for all devices, but resource pool {world.driver}/{world.name}-a"
    world.broken("all", f"{where} is currently invalid")


def test_a_slice_of_another_node_gives_nothing_here(world: World) -> None:
    world.node("b")
    world.publish(gpu("gpu-0"), suffix="b")
    world.submit("one")
    assert world.placed("one")["spec"]["nodeName"] == f"{world.name}-b"
    world.submit("two")
    world.waits("two", {"cannot allocate all claims": 2})


def test_the_pod_goes_where_the_devices_are(world: World) -> None:
    world.node("b")
    world.publish(gpu("gpu-0", 50))
    world.publish(gpu("gpu-0", 95), suffix="b")
    world.submit("one", world.exactly("gpu", 'device.attributes["health"].score > 90'))
    assert world.placed("one")["spec"]["nodeName"] == f"{world.name}-b"
    (result,) = world.results("one")
    assert result["pool"] == f"{world.name}-b"


def selecting(world: World, **where: Any) -> None:
    """A slice that is not bound to a node by name."""
    spec = {
        "driver": world.driver,
        "pool": {"name": world.name, "generation": 1, "resourceSliceCount": 1},
        "devices": [gpu("net-0"), gpu("net-1")],
        **where,
    }
    world.create(world.slices, {"metadata": {"name": world.name}, "spec": spec})


def test_a_slice_with_a_node_selector_gives_to_its_nodes(world: World) -> None:
    term = {
        "matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [f"{world.name}-a"]}
        ]
    }
    selecting(world, nodeSelector={"nodeSelectorTerms": [term]})
    world.submit("one")
    assert world.taken("one") == ["net-0"]
    assert world.status("one")["allocation"]["nodeSelector"] == {"nodeSelectorTerms": [term]}


def test_a_slice_for_all_nodes_gives_without_a_node_selector(world: World) -> None:
    selecting(world, allNodes=True)
    world.submit("one")
    assert world.taken("one") == ["net-0"]
    assert "nodeSelector" not in world.status("one")["allocation"]


def test_all_is_refused_for_an_incomplete_pool_of_another_driver(world: World) -> None:
    world.publish(gpu("gpu-0"))
    pool = {"name": f"{world.name}-a", "generation": 1, "resourceSliceCount": 2}
    spec = {
        "driver": f"a-{world.driver}",
        "nodeName": f"{world.name}-a",
        "pool": pool,
        "devices": [{"name": "nic"}],
    }
    world.create(world.slices, {"metadata": {"name": f"a-{world.name}"}, "spec": spec})
    world.submit("all", world.exactly(allocationMode="All"))
    where = f"claim {world.name}/all, request gpu: asks for all devices, but resource pool a-{world.driver}/{world.name}-a"
    world.broken("all", f"{where} is currently being updated")
