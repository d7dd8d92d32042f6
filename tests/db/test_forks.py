"""A runtime that was opened before os.fork: gunicorn with preload, Celery's prefork, multiprocessing."""

import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from tests.support.processes import Environment, Processes

SEND = """
import os, sys, threading
from notifyctl import SendRequest, load_settings, open_runtime

CHILDREN, EACH = 4, 15
runtime = open_runtime(load_settings())

def request(number):
    context = {"client_name": "Acme", "reset_url": "https://cloud.example/reset/t0k3n", "valid_minutes": 60}
    recipient = f'user{number}@acme.example'
    return SendRequest(template_key="PASSWORD_RESET", recipient=recipient, context=context)

def send(number):
    with runtime.database.transaction() as session:
        runtime.orchestrator.send(session, request(number))

def send_all(first):
    for number in range(first, first + EACH):
        send(number)
"""
PREFORK = f"""{SEND}
send(0)
children = []
for child in range(CHILDREN):
    pid = os.fork()
    if pid == 0:
        threads = [threading.Thread(target=send_all, args=(1000 * child + 100 * half,)) for half in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        grandchild = os.fork()
        send(1000 * child + (400 if grandchild == 0 else 500))
        if grandchild:
            assert os.waitpid(grandchild, 0)[1] == 0
        {{exit}}
    children.append(pid)
send_all(5000)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * CHILDREN
send(6000)
"""
IN_A_TRANSACTION = f"""{SEND}
with runtime.database.transaction() as session:
    pid = os.fork()
    if pid == 0:
        try:
            send(1)
            print("sent", flush=True)
        except Exception as error:
            print(error, flush=True)
        if not runtime.database.is_sqlite:
            try:
                session.connection().exec_driver_sql("SELECT 1")
                print("the child has had an answer to the parent", flush=True)
            except Exception:
                pass
        os._exit(0)
    os.waitpid(pid, 0)
    runtime.orchestrator.send(session, request(2))
send(3)
"""
MEASURING = f"""{SEND}
clock = runtime.database.clock
assert clock._measuring.acquire()
pid = os.fork()
if pid == 0:
    send(1)
    os._exit(0)
clock._measuring.release()
assert os.waitpid(pid, 0)[1] == 0
"""


def _sent(runtime: Runtime) -> int:
    with runtime.database.read() as session:
        return session.execute(text("SELECT count(*) FROM message_log")).scalar_one()


@pytest.mark.parametrize("exit", ["sys.exit(0)", "os._exit(0)"])
def test_parent_children_and_theirs_send_as_before(
    exit: str, runtime: Runtime, environment: Environment, processes: Processes, tmp_path: Path
) -> None:
    script = tmp_path / "prefork.py"
    script.write_text(PREFORK.replace("{exit}", exit))
    ran = processes.run(sys.executable, script, env=environment())
    assert (ran.returncode, ran.stderr) == (0, "")
    assert _sent(runtime) == 2 + 15 + 4 * (30 + 2)


def test_a_fork_in_the_middle_of_a_transaction_leaves_it_to_the_parent(
    runtime: Runtime, environment: Environment, processes: Processes, tmp_path: Path
) -> None:
    script = tmp_path / "fork.py"
    script.write_text(IN_A_TRANSACTION)
    ran = processes.run(sys.executable, script, env=environment())
    assert (ran.returncode, ran.stderr) == (0, "")
    if runtime.database.is_sqlite:
        assert "was in use when this process was forked; fork between transactions" in ran.stdout
    else:
        assert ran.stdout == "sent\n"
    assert _sent(runtime) == (2 if runtime.database.is_sqlite else 3)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_fork_while_the_clock_is_measured_holds_nobody_up(
    runtime: Runtime, environment: Environment, processes: Processes, tmp_path: Path
) -> None:
    script = tmp_path / "fork.py"
    script.write_text(MEASURING)
    assert processes.run(sys.executable, script, env=environment()).returncode == 0
    assert _sent(runtime) == 1
