"""Rules common to all objects: identity, versions, conflicts, deletion, dry run."""

import pytest

from support.kube_objects import EVENTS, LEASES, PODS, SLICES, device, event, lease, pod, resource_slice
from support.raw_api import MERGE_PATCH, RawApi
from support.realkube.answers import causes, refusal, stored

OTHER_UID = "00000000-0000-0000-0000-000000000000"
FINALIZER = "vitals.internal/test"


def test_a_created_object_has_an_identity(api: RawApi, unique: str) -> None:
    made = api.post(LEASES, lease(unique))

    assert made.status == 201
    meta = made.body["metadata"]
    assert {"uid", "resourceVersion", "creationTimestamp"} <= meta.keys()
    assert len(meta["uid"]) == 36
    assert api.get(f"{LEASES}/{unique}").body == made.body


def test_a_name_that_is_taken_is_already_exists(api: RawApi, unique: str) -> None:
    api.post(LEASES, lease(unique))
    again = api.post(LEASES, lease(unique))

    assert refusal(again) == (409, "AlreadyExists")
    assert again.body["message"] == f'leases.coordination.k8s.io "{unique}" already exists'
    assert again.body["details"] == {"name": unique, "group": "coordination.k8s.io", "kind": "leases"}


@pytest.mark.parametrize("verb", ["get", "patch", "delete"])
def test_what_is_not_there_is_not_found(api: RawApi, unique: str, verb: str) -> None:
    path = f"{LEASES}/{unique}"
    answer = {
        "get": lambda: api.get(path),
        "patch": lambda: api.patch(path, MERGE_PATCH, {}),
        "delete": lambda: api.delete(path),
    }[verb]()

    assert refusal(answer) == (404, "NotFound")
    assert answer.body["message"] == f'leases.coordination.k8s.io "{unique}" not found'
    assert answer.body["details"] == {"name": unique, "group": "coordination.k8s.io", "kind": "leases"}


def test_an_update_of_an_absent_slice_is_not_found_and_of_a_lease_creates_it(
    api: RawApi, unique: str
) -> None:
    assert refusal(api.put(f"{SLICES}/{unique}", resource_slice(unique))) == (404, "NotFound")
    assert api.put(f"{LEASES}/{unique}", lease(unique)).status == 201


def test_a_path_that_is_not_served_is_not_found(api: RawApi) -> None:
    for path in ("/nope", "/apis/nope.example/v1/things", "/apis/resource.k8s.io/v1/things"):
        assert api.get(path).status == 404


def test_an_object_in_a_namespace_that_does_not_exist_is_not_found(api: RawApi, unique: str) -> None:
    answer = api.post(f"/apis/coordination.k8s.io/v1/namespaces/{unique}/leases", lease("a"))

    assert refusal(answer) == (404, "NotFound")
    assert answer.body["message"] == f'namespaces "{unique}" not found'


def test_a_body_for_another_name_or_namespace_is_a_bad_request(api: RawApi, unique: str) -> None:
    api.post(LEASES, lease(unique))
    other_name = api.put(f"{LEASES}/{unique}", lease("other"))
    other_namespace = api.post(LEASES, lease(unique, namespace="other"))

    assert refusal(other_name) == (400, "BadRequest")
    assert other_name.body["message"] == (
        f"the name of the object (other) does not match the name on the URL ({unique})"
    )
    assert refusal(other_namespace) == (400, "BadRequest")
    assert other_namespace.body["message"] == (
        "the namespace of the provided object does not match the namespace sent on the request"
    )


def test_a_generated_name_has_five_random_characters(api: RawApi, unique: str) -> None:
    body = lease("")
    body["metadata"] = {"generateName": f"{unique}-"}
    made = api.post(LEASES, body)

    assert made.status == 201
    assert made.name.startswith(f"{unique}-")
    assert len(made.name) == len(unique) + 6


def test_a_long_generated_name_is_cut_to_63(api: RawApi) -> None:
    body = resource_slice("")
    body["metadata"] = {"generateName": f"00000-{'x' * 80}-"}
    made = api.post(SLICES, body)

    assert made.status == 201
    assert len(made.name) == 63
    assert made.name.startswith("00000-xxx")


@pytest.mark.parametrize("base", ["p.", "P-", "a b"])
def test_an_events_name_only_has_to_fit_into_a_path(api: RawApi, base: str) -> None:
    """The kubelet names events after objects of any kind; a dot at the end of generateName is ordinary."""
    made = api.post(EVENTS, event("", generateName=base))
    slash = api.post(EVENTS, event("a/b"))

    assert made.name.startswith(base)
    assert causes(slash) == ["""metadata.name: Invalid value: "a/b": may not contain '/'"""]


@pytest.mark.parametrize(
    ("base", "refused"),
    [("p.", ["metadata.generateName"]), ("p-", []), ("P-", ["metadata.name"])],
)
def test_a_pods_generated_name_is_a_subdomain(api: RawApi, base: str, refused: list[str]) -> None:
    answer = api.post(PODS, pod("", generateName=base), dryRun="All")

    assert [entry.partition(":")[0] for entry in (causes(answer) if answer.status == 422 else [])] == refused


def test_a_name_or_a_generated_name_is_required(api: RawApi) -> None:
    answer = api.post(LEASES, {**lease(""), "metadata": {}})

    assert causes(answer) == ["metadata.name: Required value: name or generateName is required"]


def test_an_update_that_changes_nothing_writes_nothing(api: RawApi, unique: str) -> None:
    made = api.post(LEASES, lease(unique))
    same = api.put(f"{LEASES}/{unique}", made.body)

    assert (same.status, same.version) == (200, made.version)


def test_generation_counts_changes_of_the_spec_and_not_of_labels(api: RawApi, unique: str) -> None:
    made = stored(api.post(SLICES, resource_slice(unique, device("a"))))
    labelled = stored(api.patch(f"{SLICES}/{unique}", MERGE_PATCH, {"metadata": {"labels": {"a": "b"}}}))
    changed = stored(api.put(f"{SLICES}/{unique}", resource_slice(unique, device("b"))))

    assert [each["metadata"]["generation"] for each in (made, labelled, changed)] == [1, 1, 2]
    assert "generation" not in stored(api.post(LEASES, lease(unique)))["metadata"]


def test_identity_and_creation_survive_an_update_that_omits_them(api: RawApi, unique: str) -> None:
    made = stored(api.post(SLICES, resource_slice(unique, device("a"))))["metadata"]
    after = stored(api.put(f"{SLICES}/{unique}", resource_slice(unique, device("b"))))["metadata"]

    assert after["uid"] == made["uid"]
    assert after["creationTimestamp"] == made["creationTimestamp"]


def test_a_stale_version_is_a_conflict(api: RawApi, unique: str) -> None:
    made = api.post(LEASES, lease(unique))
    api.patch(f"{LEASES}/{unique}", MERGE_PATCH, {"spec": {"holderIdentity": "b"}})
    stale = api.put(f"{LEASES}/{unique}", {**lease(unique, "c"), "metadata": made.body["metadata"]})

    assert refusal(stale) == (409, "Conflict")
    assert stale.body["details"] == {"name": unique, "group": "coordination.k8s.io", "kind": "leases"}
    assert stale.body["message"] == (
        f'Operation cannot be fulfilled on leases.coordination.k8s.io "{unique}": the object has been '
        "modified; please apply your changes to the latest version and try again"
    )


def test_a_patch_with_a_stale_version_is_a_conflict(api: RawApi, unique: str) -> None:
    made = api.post(LEASES, lease(unique))
    api.patch(f"{LEASES}/{unique}", MERGE_PATCH, {"spec": {"holderIdentity": "b"}})
    body = {"metadata": {"resourceVersion": made.version}, "spec": {"holderIdentity": "c"}}

    assert refusal(api.patch(f"{LEASES}/{unique}", MERGE_PATCH, body)) == (409, "Conflict")


def test_an_update_with_another_uid_is_a_conflict(api: RawApi, unique: str) -> None:
    made = api.post(LEASES, lease(unique))
    body = lease(unique, resourceVersion=made.version, uid=OTHER_UID)
    answer = api.put(f"{LEASES}/{unique}", body)

    assert refusal(answer) == (409, "Conflict")
    assert "Precondition failed: UID in precondition" in answer.body["message"]


def test_a_lease_wants_a_version_for_an_update(api: RawApi, unique: str) -> None:
    api.post(LEASES, lease(unique))
    answer = api.put(f"{LEASES}/{unique}", lease(unique, "b"))

    assert causes(answer) == [
        "metadata.resourceVersion: Invalid value: 0: must be specified for an update",
    ]


def test_a_slice_update_without_a_version_wins(api: RawApi, unique: str) -> None:
    api.post(SLICES, resource_slice(unique))
    answer = api.put(f"{SLICES}/{unique}", resource_slice(unique))

    assert answer.status == 200


def test_a_lease_is_taken_over_by_an_update_with_its_version(api: RawApi, unique: str) -> None:
    made = stored(api.post(LEASES, lease(unique)))
    taken = {**made, "spec": {"holderIdentity": "b", "leaseTransitions": 1}}
    answer = api.put(f"{LEASES}/{unique}", taken)

    assert stored(answer)["spec"] == {"holderIdentity": "b", "leaseTransitions": 1}
    assert refusal(api.put(f"{LEASES}/{unique}", taken)) == (409, "Conflict")


@pytest.mark.parametrize(
    ("precondition", "message"),
    [
        ({"uid": OTHER_UID}, "the UID in the precondition"),
        ({"resourceVersion": "1"}, "the ResourceVersion in the precondition (1) does not match"),
    ],
    ids=["uid", "version"],
)
def test_a_delete_with_a_wrong_precondition_is_a_conflict(
    api: RawApi, unique: str, precondition: dict[str, str], message: str
) -> None:
    api.post(LEASES, lease(unique))
    answer = api.delete(f"{LEASES}/{unique}", {"preconditions": precondition})

    assert refusal(answer) == (409, "Conflict")
    assert message in answer.body["message"]
    assert api.get(f"{LEASES}/{unique}").status == 200


def test_a_delete_answers_success_with_the_uid(api: RawApi, unique: str) -> None:
    made = stored(api.post(LEASES, lease(unique)))
    answer = api.delete(f"{LEASES}/{unique}", {"preconditions": {"uid": made["metadata"]["uid"]}})

    assert (answer.status, answer.body["status"]) == (200, "Success")
    assert answer.body["details"]["uid"] == made["metadata"]["uid"]
    assert api.get(f"{LEASES}/{unique}").status == 404


def test_a_delete_by_selector_takes_only_what_matches(api: RawApi, unique: str) -> None:
    for index in range(4):
        api.post(LEASES, lease(f"{unique}-{index}", labels={"case": unique, "odd": str(index % 2)}))
    answer = api.delete(LEASES, labelSelector=f"case={unique},odd=1")

    assert answer.status == 200
    left = api.get(LEASES, labelSelector=f"case={unique}").body["items"]
    assert [item["metadata"]["name"] for item in left] == [f"{unique}-0", f"{unique}-2"]


def test_a_finalizer_holds_a_deleted_object_until_it_is_taken_off(api: RawApi, unique: str) -> None:
    api.post(LEASES, lease(unique, finalizers=[FINALIZER]))
    deleted = api.delete(f"{LEASES}/{unique}")
    held = api.get(f"{LEASES}/{unique}")
    assert deleted.status == 200
    assert "deletionTimestamp" in held.body["metadata"]
    assert held.body["metadata"]["deletionGracePeriodSeconds"] == 0

    held.body["metadata"]["finalizers"] = []
    api.put(f"{LEASES}/{unique}", held.body)
    assert api.get(f"{LEASES}/{unique}").status == 404


def test_an_object_that_is_being_deleted_takes_no_new_finalizer(api: RawApi, unique: str) -> None:
    api.post(LEASES, lease(unique, finalizers=[FINALIZER]))
    api.delete(f"{LEASES}/{unique}")
    body = {"metadata": {"finalizers": [FINALIZER, "vitals.internal/late"]}}
    answer = api.patch(f"{LEASES}/{unique}", MERGE_PATCH, body)

    assert causes(answer) == [
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, "
        'found new finalizers []string{"vitals.internal/late"}'
    ]


def test_a_dry_run_create_shows_the_outcome_and_stores_nothing(api: RawApi, unique: str) -> None:
    answer = api.post(LEASES, lease(unique), dryRun="All")

    assert answer.status == 201
    assert "uid" in answer.body["metadata"]
    assert api.get(f"{LEASES}/{unique}").status == 404


def test_a_dry_run_update_shows_the_outcome_and_stores_nothing(api: RawApi, unique: str) -> None:
    made = stored(api.post(SLICES, resource_slice(unique, device("a"))))
    answer = stored(api.put(f"{SLICES}/{unique}", resource_slice(unique, device("b")), dryRun="All"))

    assert [each["name"] for each in answer["spec"]["devices"]] == ["b"]
    assert answer["metadata"]["generation"] == 2
    assert api.get(f"{SLICES}/{unique}").body == made


def test_a_dry_run_delete_answers_success_and_deletes_nothing(api: RawApi, unique: str) -> None:
    made = stored(api.post(LEASES, lease(unique)))
    by_query = api.delete(f"{LEASES}/{unique}", dryRun="All")
    by_body = api.delete(f"{LEASES}/{unique}", {"dryRun": ["All"]})

    assert (by_query.status, by_body.status) == (200, 200)
    assert api.get(f"{LEASES}/{unique}").body == made


def test_the_query_of_a_delete_that_has_a_body_is_ignored(api: RawApi, unique: str) -> None:
    """So `dryRun=All` beside a body of preconditions is no dry run: it goes into the body."""
    made = stored(api.post(LEASES, lease(unique)))
    body = {"preconditions": {"uid": made["metadata"]["uid"]}}
    api.delete(f"{LEASES}/{unique}", body, dryRun="All")

    assert api.get(f"{LEASES}/{unique}").status == 404


def test_an_unknown_dry_run_is_refused(api: RawApi, unique: str) -> None:
    answer = api.post(LEASES, lease(unique), dryRun="some")

    assert refusal(answer) == (422, "Invalid")
    assert 'dryRun: Unsupported value: ["some"]: supported values: "All"' in answer.body["message"]


def test_a_new_object_has_no_version_which_only_a_dry_run_forgives(api: RawApi, unique: str) -> None:
    answer = api.post(LEASES, lease(unique, resourceVersion="5"))

    assert answer.status == 500
    assert answer.body["message"] == "resourceVersion should not be set on objects to be created"
    assert api.post(LEASES, lease(unique, resourceVersion="5"), dryRun="All").status == 201


def test_a_version_that_is_no_number_is_an_error(api: RawApi, unique: str) -> None:
    api.post(LEASES, lease(unique))
    answer = api.put(f"{LEASES}/{unique}", lease(unique, resourceVersion="x"))

    assert answer.status == 500
    assert answer.body["message"] == 'strconv.ParseUint: parsing "x": invalid syntax'


def test_empty_lists_and_maps_are_not_stored(api: RawApi) -> None:
    made = stored(api.post(LEASES, lease("a", labels={}, finalizers=[], annotations=None), dryRun="All"))

    assert not {"labels", "finalizers", "annotations"} & made["metadata"].keys()


@pytest.mark.parametrize("path", [LEASES, SLICES], ids=["leases", "slices"])
def test_a_finalizer_without_a_domain_is_for_a_few_kinds(api: RawApi, path: str) -> None:
    body = lease("a") if path == LEASES else resource_slice("a")
    body["metadata"]["finalizers"] = ["test"]
    answer = api.post(path, body, dryRun="All")

    if path == LEASES:
        assert answer.status == 201
    else:
        text = "name is neither a standard finalizer name nor is it fully qualified"
        assert causes(answer) == [f'metadata.finalizers[0]: Invalid value: "test": {text}']


def owner(name: str, *, controller: bool = False) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Node", "name": name, "uid": name, "controller": controller}


def test_an_owner_comes_once_and_one_of_them_controls(api: RawApi, unique: str) -> None:
    twice = api.post(LEASES, lease(unique, ownerReferences=[owner("a"), owner("a")]))
    both = [owner("a", controller=True), owner("b", controller=True)]
    refused = api.post(LEASES, lease(f"{unique}-2", ownerReferences=both))

    assert [each["name"] for each in stored(twice)["metadata"]["ownerReferences"]] == ["a"]
    [complaint] = causes(refused)
    assert complaint.startswith("metadata.ownerReferences: Invalid value: ")
    assert complaint.endswith(
        'Only one reference can have Controller set to true. Found "true" in references for Node/a and Node/b'
    )


def test_an_owner_is_named_in_full(api: RawApi) -> None:
    answer = api.post(LEASES, lease("a", ownerReferences=[{"kind": "Node"}]), dryRun="All")

    assert [entry.partition(":")[0] for entry in causes(answer)] == [
        "metadata.ownerReferences[0].apiVersion",
        "metadata.ownerReferences[0].name",
        "metadata.ownerReferences[0].uid",
    ]


def test_annotations_have_at_most_256_ki(api: RawApi) -> None:
    answer = api.post(LEASES, lease("a", annotations={"a": "x" * 262144}), dryRun="All")

    assert causes(answer) == ["metadata.annotations: Too long: may not be more than 262144 bytes"]
