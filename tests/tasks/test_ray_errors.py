"""What Ray's errors become, without a cluster."""

import socket

import pytest

from hf_mmtab.data.shards.ray_engine import RayEngine, _plain_errors

exceptions = pytest.importorskip("ray.exceptions", reason="needs Ray: pip install 'hf-mmtab[ray]'")


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (
            exceptions.OutOfMemoryError("Task was killed due to the node running low on memory.\nMemory on the node"),
            "memory",
        ),
        (exceptions.ObjectStoreFullError("no space for 99 bytes"), "no space for 99 bytes"),
        (exceptions.OutOfDiskError("the local disk is full"), "the local disk is full"),
        (exceptions.WorkerCrashedError(), "The worker died unexpectedly"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_a_cluster_could_not_do_is_one_sentence(error, found, wrapped):
    message = rf"Expected workers that finish, found {type(error).__name__}: .*{found}.*`--shards`\), and run the same"
    with pytest.raises(OSError, match=message) as raised, _plain_errors():
        if wrapped:
            raise RuntimeError("System error when executing") from error
        raise error
    assert "\n" not in str(raised.value)


def test_an_error_of_a_worker_is_told_without_advice_about_ray():
    theirs = ValueError("Expected columns, found none.\nFailed to apply UDF transform after 1/1 attempts (total 0.0s).")
    with pytest.raises(ValueError, match=r"^Expected columns, found none\.$"), _plain_errors():
        raise RuntimeError("in a worker") from theirs
    with pytest.raises(IndexError), _plain_errors():  # a fault of the program keeps its traceback
        raise IndexError("out of bounds")


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "no-such-host.invalid:{}"])
def test_an_address_of_nobody_is_named_at_once(tmp_path, monkeypatch, address):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = address.format(free.getsockname()[1])
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray would wait for minutes"))
    with pytest.raises(ValueError, match=rf"Expected a Ray cluster at '{address}', found none .*correct --ray_address"):
        RayEngine(tmp_path, address)
