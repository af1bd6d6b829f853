"""Callers with keys and certificates, and operators at the admin port: real processes, TLS everywhere."""
import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
from processes import Process, text_of, until

REQUEST = {"model": "sim", "prompt": "once upon a time", "max_tokens": 20, "ignore_eos": True, "temperature": 0, "seed": 7}
KEYS = "tenant acme\nkey sha256:" + hashlib.sha256(b"secret").hexdigest() + " acme\n"


class Certificates:
    """An authority, and folders "gateway" and "worker" with a certificate and a key each, replaced in one go."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.ca = self.path("ca.pem")
        self.issued = 0
        self.found()
        for name in ("gateway", "worker"):
            self.issue(name)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def _openssl(self, *arguments):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", *arguments],
            check=True, capture_output=True,
        )  # fmt: skip

    def found(self):
        """A new authority in place of the old one."""
        self._openssl("-subj", "/CN=authority", "-keyout", self.path("ca.key"), "-out", self.path("next-ca"))
        os.rename(self.path("next-ca"), self.ca)

    def issue(self, name):
        self.issued += 1
        version = f"{name}-{self.issued}"
        os.mkdir(self.path(version))
        self._openssl(
            "-CA", self.ca, "-CAkey", self.path("ca.key"), "-subj", f"/CN={version}", "-addext", "basicConstraints=CA:FALSE",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", self.path(version, "key"), "-out", self.path(version, "cert"),
        )  # fmt: skip
        os.symlink(version, self.path("next"))
        os.rename(self.path("next"), self.path(name))

    def flags(self, name, *prefixes):
        return [x for prefix, file in zip(prefixes, ("cert", "key")) for x in (prefix, self.path(name, file))]

    def serial(self, name):
        with open(self.path(name, "cert")) as file:
            return ssl.PEM_cert_to_DER_cert(file.read())

    def context(self, client=None):
        context = ssl.create_default_context(cafile=self.ca)
        context.set_alpn_protocols(["h2", "http/1.1"])
        if client:
            context.load_cert_chain(self.path(client, "cert"), self.path(client, "key"))
        return context


def served_certificate(context, port):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as tls:
            return tls.getpeercert(binary_form=True)


@pytest.fixture
def certificates(tmp_path):
    return Certificates(tmp_path)


@pytest.fixture
def secure_cluster(start_cluster, certificates, tmp_path):
    (tmp_path / "keys").write_text(KEYS)
    return start_cluster(
        worker_arguments=("--sim", "--sim-step-ms", 5, "--tls-ca", certificates.ca,
                          *certificates.flags("worker", "--tls-cert", "--tls-key")),
        gateway_arguments=("--api-keys-file", tmp_path / "keys", "--worker-tls-ca", certificates.ca,
                           *certificates.flags("gateway", "--worker-tls-cert", "--worker-tls-key"),
                           *certificates.flags("gateway", "--ssl-certfile", "--ssl-keyfile")),
    )  # fmt: skip


def post(cluster, context, key="secret", **more):
    connection = http.client.HTTPSConnection("127.0.0.1", cluster.gateway.ready["http_port"], timeout=30, context=context)
    try:
        connection.request("POST", "/v1/completions", json.dumps({**REQUEST, **more}), {"Authorization": f"Bearer {key}"})
        response = connection.getresponse()
        return (response.status, text_of(response)) if more.get("stream") else (response.status, json.loads(response.read()))
    finally:
        connection.close()


def test_keys_and_certificates_change_under_load_and_nobody_notices(secure_cluster, certificates, tmp_path):
    cluster, context = secure_cluster, certificates.context()
    expected = post(cluster, context, stream=True)[1]
    answers, failures, stop = [], [], threading.Event()

    def ask(**more):
        try:
            return post(cluster, context, stream=True, **more)
        except Exception as error:  # what a caller would see
            failures.append(error)

    def load():
        while not stop.is_set():
            answers.append(ask())

    threads = [threading.Thread(target=target) for target in (load, load, lambda: ask(max_tokens=600))]
    for thread in threads:
        thread.start()
    workers = [worker.ready["port"] for worker in cluster.workers.values()]
    as_gateway = certificates.context(client="gateway")
    try:
        for version in range(2):
            for name in ("gateway", "worker"):
                certificates.issue(name)
            (tmp_path / "next-keys").write_text(KEYS + f"# {version}\n")
            os.rename(tmp_path / "next-keys", tmp_path / "keys")
            for port in (cluster.gateway.ready["http_port"], cluster.gateway.ready["grpc_port"]):
                until(lambda: served_certificate(context, port) == certificates.serial("gateway"))
            for port in workers:
                until(lambda: served_certificate(as_gateway, port) == certificates.serial("worker"))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert len(answers) > 10 and all(answer == (200, expected) for answer in answers)
    assert cluster.metric(cluster.gateway, "berth_gateway_config_reloads_total", result="ok") >= 2
    for shown_to in ("callers", "workers"):
        assert cluster.metric(cluster.gateway, "berth_gateway_tls_cert_expiry_timestamp_seconds", shown_to=shown_to) > time.time()
    for worker in cluster.workers.values():
        assert cluster.metric(worker, "berth_worker_tls_cert_expiry_timestamp_seconds") > time.time()


def test_a_new_link_uses_the_certificates_of_the_day(secure_cluster, certificates, request, tmp_path):
    cluster = secure_cluster
    certificates.found()
    for name in ("gateway", "worker"):
        certificates.issue(name)
    assert post(cluster, certificates.context())[0] == 200, "the links stay as they are"
    old = cluster.workers["w0"]
    old.kill()
    until(lambda: cluster.metric(cluster.gateway, "berth_gateway_worker_up", worker="w0") == 0)
    restarted = Process(
        os.path.join(request.config.getoption("--bin-dir"), "berth-worker"), "--worker-id", "w0", "--port", old.ready["port"],
        "--sim", "--tls-ca", certificates.ca, *certificates.flags("worker", "--tls-cert", "--tls-key"), log=tmp_path / "again.log",
    )  # fmt: skip
    try:
        until(lambda: cluster.metric(cluster.gateway, "berth_gateway_worker_up", worker="w0") == 1)
    finally:
        assert restarted.stop() == 0


def test_files_that_do_not_fit_are_passed_over(secure_cluster, certificates, tmp_path):
    cluster, context = secure_cluster, certificates.context()
    # The keys of one and the certificate of another.
    shutil.copy(certificates.path("worker", "key"), certificates.path("gateway", "other"))
    os.rename(certificates.path("gateway", "other"), certificates.path("gateway", "key"))
    (tmp_path / "keys").write_text("key sha256:00 acme\n")
    until(lambda: cluster.metric(cluster.gateway, "berth_gateway_config_reloads_total", result="error") >= 1)
    assert post(cluster, context)[0] == 200
    assert post(cluster, context, key="wrong")[0] == 401


def test_a_slow_request_is_answered_over_tls_too(start_cluster, certificates):
    cluster = start_cluster(
        workers=1, gateway_arguments=("--http-request-seconds", 1, *certificates.flags("gateway", "--ssl-certfile", "--ssl-keyfile"))
    )
    for beginning in (b"GET /health HTTP/1.1\r\nX: ", b"POST /v1/completions HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n{"):
        with socket.create_connection(("127.0.0.1", cluster.gateway.ready["http_port"]), timeout=30) as raw:
            with certificates.context().wrap_socket(raw, server_hostname="127.0.0.1") as connection:
                connection.sendall(beginning)
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                assert (answer.status, json.loads(answer.read())["error"]["code"]) == (408, "request_timeout")


def test_a_tls_session_is_resumed_by_callers_with_certificates_too(start_cluster, certificates):
    cluster = start_cluster(workers=1, gateway_arguments=(
        *certificates.flags("gateway", "--ssl-certfile", "--ssl-keyfile"), "--ssl-ca-certs", certificates.ca))  # fmt: skip
    context = certificates.context(client="worker")

    def visit(session=None):
        with socket.create_connection(("127.0.0.1", cluster.gateway.ready["http_port"]), timeout=30) as raw:
            with context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as connection:
                connection.sendall(b"GET /v1/models HTTP/1.1\r\n\r\n")
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                answer.read()
                return answer.status, connection.session, connection.session_reused

    status, session, _ = visit()
    assert status == 200
    status, _, reused = visit(session)
    assert (status, reused) == (200, True)


def program_error(binary, *arguments):
    ended = subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1, ended
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    return ended.stderr


def test_bad_files_are_one_clear_error_at_the_start(request, certificates, tmp_path):
    bin_dir = request.config.getoption("--bin-dir")
    (tmp_path / "keys").write_text("tenant a requests-per-minute=many\n")
    cert, key = certificates.path("gateway", "cert"), certificates.path("worker", "key")
    gateway = os.path.join(bin_dir, "berth-gateway"), "--workers", "w=127.0.0.1:1"
    pair = certificates.flags("gateway", "--ssl-certfile", "--ssl-keyfile")
    for arguments, expected in (
        ((*gateway, "--ssl-certfile", cert, "--ssl-keyfile", key), f"the key in {key} does not belong to the certificate in {cert}"),
        ((*gateway, "--ssl-certfile", cert), "both a certificate file and a key file"),
        ((*gateway, "--worker-tls-ca", "/no/ca"), "cannot read /no/ca"),
        ((*gateway, "--api-keys-file", tmp_path / "keys"), "keys:1: requests-per-minute is \"many\""),
        ((*gateway, "--admin-host", "0.0.0.0", *pair), "the admin host is 0.0.0.0"),
        ((os.path.join(bin_dir, "berth-worker"), "--sim", "--tls-cert", cert, "--tls-key", key), "does not belong"),
    ):
        assert expected in program_error(*arguments)


def test_an_operator_looks_drains_and_takes_back(start_cluster, request):
    cluster = start_cluster()
    berth = os.path.join(request.config.getoption("--bin-dir"), "berth")

    def admin(*arguments, process=cluster.gateway, port="admin_port", expect=0):
        command = [berth, "admin", "--server", f"127.0.0.1:{process.ready[port]}", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert ended.returncode == expect, ended
        return ended.stdout if expect == 0 else ended.stderr

    lines = admin("workers").splitlines()
    assert [line.split()[0] for line in lines] == ["WORKER", "w0", "w1"]
    assert all("ready" in line for line in lines[1:])

    worker = cluster.workers["w0"]
    assert "draining: 0 running, 0 waiting" in admin("drain", process=worker)
    until(lambda: "draining" in admin("workers").splitlines()[1])
    assert admin("undrain", process=worker).strip() == "ready"
    until(lambda: "draining" not in admin("workers"))

    connection, response = cluster.open_stream({**REQUEST, "max_tokens": 2000})
    assert "Deadline" in admin("drain", "--timeout", "1", expect=1)
    connection.close()
    response.close()
    assert admin("drain").splitlines()[-1] == "draining: 0 running, 0 waiting"
    status, _, answer = cluster.post("/v1/completions", REQUEST)
    assert (status, answer["error"]["code"]) == (503, "draining")
    assert admin("undrain").strip() == "ready"
    assert cluster.post("/v1/completions", REQUEST)[0] == 200

    admin("log-level", "debug")
    assert "want debug, info, warn or error" in admin("log-level", "loud", expect=1)

