"""What a server answers, sorted by what happens next, and never quoted."""

from __future__ import annotations

import pytest
from redis import exceptions

from bridge.sink import Halt, Transient
from sinks.redis.failures import is_function_missing, sort, sorting

SECRET = "a-marker-that-must-not-be-told"


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError(f"Error 111 connecting to {SECRET}"),
        exceptions.TimeoutError("Timeout reading from host"),
        ConnectionResetError(),
        exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
        exceptions.ReadOnlyError("You can't write against a read only replica."),
        exceptions.OutOfMemoryError(
            "command not allowed when used memory > 'maxmemory'"
        ),
        exceptions.ClusterDownError("CLUSTERDOWN The cluster is down"),
        exceptions.MasterDownError("Link with MASTER is down"),
        exceptions.ResponseError("BUSY Redis is busy running a script."),
        exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"),
        exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."),
        exceptions.ResponseError(
            "ERR Error running script (call to f_12): @user_script:90: "
            "-OOM command not allowed when used memory > 'maxmemory'."
        ),
        exceptions.ResponseError(
            "Error running script (call to f_12): @user_script:90: "
            "-READONLY You can't write against a read only replica."
        ),
    ],
)
def test_what_is_waited_for(error: Exception) -> None:
    sorted_error = sort(error)
    assert isinstance(sorted_error, Transient)
    assert SECRET not in sorted_error.message


@pytest.mark.parametrize(
    "error",
    [
        exceptions.AuthenticationError(f"WRONGPASS {SECRET}"),
        exceptions.AuthenticationError("Authentication required."),
        exceptions.NoPermissionError(f"User b has no permissions on {SECRET}"),
        exceptions.ResponseError(f"NOPERM this user has no permissions: {SECRET}"),
        exceptions.MovedError("3999 127.0.0.1:6381"),
        exceptions.ResponseError(f"WRONGTYPE Operation against {SECRET}"),
        exceptions.ResponseError(f"unknown command with args beginning with: {SECRET}"),
        exceptions.ConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED] failed"),
    ],
)
def test_what_halts_with_a_hint(error: Exception) -> None:
    sorted_error = sort(error)
    assert isinstance(sorted_error, Halt)
    assert sorted_error.hint
    assert SECRET not in f"{sorted_error.message} {sorted_error.hint}"


def test_nothing_of_the_clients_error_is_left_in_a_traceback() -> None:
    with pytest.raises(Transient) as caught, sorting():
        raise exceptions.ConnectionError(SECRET)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_bug_is_not_wrapped() -> None:
    with pytest.raises(KeyError), sorting():
        raise KeyError("a bug")


@pytest.mark.parametrize(
    "error",
    [
        exceptions.NoScriptError("No matching script. Please use EVAL."),
        exceptions.ResponseError("Function not found"),
        exceptions.ResponseError("NOSCRIPT No matching script."),
    ],
)
def test_a_missing_function(error: Exception) -> None:
    assert is_function_missing(error)
    assert not is_function_missing(exceptions.ResponseError("OOM command"))
