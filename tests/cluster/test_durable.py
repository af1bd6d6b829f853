"""Sessions whose worker goes away: another one goes on with them, from the journal."""
import signal
import sys
import uuid

import grpc
import pytest
from processes import Redis, until

sys.path.insert(0, __file__.rsplit("/", 1)[0] + "/chaos")
import protocol  # noqa: E402

TURNS = ("who goes there", "say more", "and then", "at last")
TOKENS = 60


@pytest.fixture
def redis(tmp_path):
    server = Redis(tmp_path)
    yield server
    server.kill()


@pytest.fixture(params=["sqlite", "redis"])
def journal(request, tmp_path):
    """What --journal wants."""
    return f"sqlite:{tmp_path}/sessions.db" if request.param == "sqlite" else request.getfixturevalue("redis").url


class Caller:
    """Interactive turns over gRPC through a cluster's gateway."""

    def __init__(self, cluster):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{cluster.gateway.ready['grpc_port']}")
        self.stream = protocol.stream_generate(self.channel)

    def open(self, session, turn, tokens=TOKENS):
        """The stream of one turn of a conversation that is the same whatever the session."""
        spec = protocol.GenerationSpec(request_id=uuid.uuid4().hex, session_id=session)
        spec.session.mode = protocol.INTERACTIVE
        spec.session.start = turn == 0
        spec.prompt.chat.messages.add(role="user", content=TURNS[turn])
        spec.sampling.seed, spec.sampling.temperature = turn, 1
        spec.stop.max_tokens, spec.stop.ignore_eos = tokens, True
        return self.stream(protocol.StreamGenerateRequest(generation=spec), timeout=60)

    def say(self, session, turn, tokens=TOKENS):
        return Answer().read(self.open(session, turn, tokens))

    def converse(self, session, tokens=TOKENS):
        """The answers to all turns."""
        return [self.say(session, turn, tokens) for turn in range(len(TURNS))]


class Answer:
    """What came of one turn."""

    def __init__(self):
        self.text, self.worker, self.position, self.resumed, self.seq = "", "", 0, 0, 0

    def read(self, stream, until_tokens=False):
        """To the end, or to the first tokens."""
        for message in stream:
            assert message.seq == self.seq
            self.seq += 1
            event = message.WhichOneof("event")
            if event == "started":
                self.worker = message.started.worker_id
            elif event == "resumed":
                self.worker, self.resumed = message.resumed.worker_id, self.resumed + 1
            elif event == "finished":
                self.position = message.finished.session_position
            else:
                self.text += message.delta.text
                if until_tokens:
                    break
        return self

    def same(self, other):
        return (self.text, self.position) == (other.text, other.position)


def workers_with(journal, *more):
    return ("--sim", "--sim-step-ms", 10, "--journal", journal, *more)


def other(worker):
    return {"w0": "w1", "w1": "w0"}[worker]


def test_a_session_outlives_its_worker(start_cluster, journal):
    cluster = start_cluster(worker_arguments=workers_with(journal))
    caller = Caller(cluster)
    calm = caller.converse("calm")
    first = caller.say("s", 0)
    assert first.same(calm[0])
    stream = caller.open("s", 1)
    second = Answer().read(stream, until_tokens=True)
    assert second.worker == first.worker
    cluster.workers[first.worker].kill()
    second.read(stream)
    assert second.resumed == 1 and second.worker == other(first.worker), "the turn was not hit"
    assert second.same(calm[1])
    assert caller.say("s", 2).same(calm[2])


def test_an_idle_session_goes_on_at_another_worker(start_cluster, journal):
    cluster = start_cluster(worker_arguments=workers_with(journal))
    caller = Caller(cluster)
    calm = caller.converse("calm")
    owner = caller.say("s", 0).worker
    cluster.workers[owner].kill()
    second = caller.say("s", 1)
    assert second.worker == other(owner)
    assert second.same(calm[1])


def test_own_sessions_go_on_while_redis_is_away_and_nothing_is_lost(start_cluster, redis):
    cluster = start_cluster(worker_arguments=workers_with(redis.url))
    caller = Caller(cluster)
    calm = caller.converse("calm")
    owner = caller.say("s", 0).worker
    redis.child.send_signal(signal.SIGSTOP)
    assert caller.say("s", 1).same(calm[1])
    with pytest.raises(grpc.RpcError) as refused:
        caller.say("new", 0)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "secret" not in refused.value.details()
    redis.child.send_signal(signal.SIGCONT)

    def back():
        try:
            return caller.say("new", 0).same(calm[0])
        except grpc.RpcError:
            return False

    until(back)
    assert caller.say("s", 2).same(calm[2])
    cluster.workers[owner].kill()
    fourth = caller.say("s", 3)
    assert fourth.worker == other(owner)
    assert fourth.same(calm[3])


def drain(cluster, tokens):
    """SIGTERM in the middle of the second turn. Returns that turn; the worker has ended well, and the session went on elsewhere."""
    caller = Caller(cluster)
    calm = caller.converse("calm", tokens)
    first = caller.say("s", 0, tokens)
    stream = caller.open("s", 1, tokens)
    second = Answer().read(stream, until_tokens=True)
    draining = cluster.workers[first.worker].child
    draining.send_signal(signal.SIGTERM)
    assert second.read(stream).same(calm[1])
    third = caller.say("s", 2, tokens)
    assert third.worker == other(first.worker)
    assert third.same(calm[2])
    assert draining.wait(60) == 0
    return second


def test_a_drained_worker_hands_a_long_turn_over(start_cluster, journal):
    cluster = start_cluster(worker_arguments=workers_with(journal, "--shutdown-grace", 0.5))
    assert drain(cluster, tokens=120).resumed == 1


def test_a_drained_worker_finishes_a_short_turn(start_cluster, tmp_path):
    cluster = start_cluster(worker_arguments=workers_with(f"sqlite:{tmp_path}/sessions.db"))
    assert drain(cluster, tokens=TOKENS).resumed == 0
