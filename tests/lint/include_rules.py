"""Holds every #include against the table of docs/architecture.md: who may include whom."""
import os
import re
import sys

# Room → what it may include beside std, Abseil, base/ and itself: rooms and third-party prefixes. A longer path wins.
ROOMS = {
    "base": [],
    "proto": ["generated", "grpc"],
    "proto/rpc": ["proto", "generated", "grpc", "openssl", "prometheus", "boost", "log"],
    "kernels": ["highway"],
    "kernels/cuda": ["kernels", "cuda"],
    "worker/engine": [],
    "worker/text": ["json", "pcre2", "icu", "sentencepiece"],
    "worker/model": ["kernels"],
    "worker/model/hf_config.cc": ["json"],
    "worker/model/families": ["worker/model/decoder_spec.h", "worker/model/weight_rules.h", "worker/model/hf_config.h"],
    "worker/loader": ["worker/model", "worker/text", "kernels", "json"],
    "worker/session": ["worker/engine"],
    "worker/session/redis_connection.cc": ["hiredis", "openssl"],
    "worker/session/sqlite_journal.cc": ["sqlite"],
    "worker/session/sqlite_statement.h": ["sqlite"],
    "worker/runtime": ["worker/engine", "worker/model", "kernels"],
    "worker/service": ["worker/engine", "worker/session", "worker/text", "proto", "generated", "grpc", "prometheus", "json"],
    "gateway": ["proto", "generated", "grpc", "prometheus"],
    "gateway/http": ["boost", "json"],
    "clients/cpp": ["proto", "generated", "grpc"],
    "clients/cli": ["*"],
}
# The mains and the wiring beside them.
WIRING = re.compile(r"^(worker|gateway)/(main\.cc|options\.(h|cc)|worker\.(h|cc)|backend\.(h|cc)|notify_socket\.(h|cc)|watchdog\.(h|cc)|gateway\.(h|cc))$")

THIRD_PARTY = {
    "grpc": r"^(grpc|grpcpp|google/protobuf)/",
    "generated": r"^proto/(berth|google|grpc)/.*\.pb\.h$",
    "openssl": r"^openssl/",
    "prometheus": r"^prometheus/",
    "boost": r"^boost/",
    "log": r"^spdlog/",
    "highway": r"^hwy/",
    "json": r"^nlohmann/",
    "pcre2": r"^pcre2",
    "icu": r"^unicode/",
    "sentencepiece": r"^sentencepiece",
    "sqlite": r"^sqlite3",
    "hiredis": r"^hiredis/",
    "cuda": r"^(cuda|cublas)",
    "cli11": r"^CLI/",
}
SYSTEM = re.compile(r"^([a-z0-9_]+|(sys|netinet|arpa|linux|netdb)/[a-z0-9_]+\.h|[a-z0-9_]+\.h|absl/.*)$")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def room_of(path):
    """The longest entry of ROOMS that holds `path`, and what the path's whole chain of rooms may include."""
    best = None
    for room in ROOMS:
        if (path == room or path.startswith(room + "/")) and (best is None or len(room) > len(best)):
            best = room
    return best


def allowed(path, included):
    if WIRING.match(path):
        return None
    room = room_of(path)
    if room is None:
        return f"{path} is in no room of the table"
    may = list(ROOMS[room])
    if "." in os.path.basename(room):  # a file with rights of its own has its folder's too
        folder = room_of(os.path.dirname(room) + "/x")
        may += ROOMS[folder] + [folder]
    if room == "gateway/http":
        may += ROOMS["gateway"]
    if room.startswith("gateway"):
        may.append("gateway")
    if "*" in may:
        return None
    for name, pattern in THIRD_PARTY.items():
        if re.match(pattern, included):
            return None if name in may else f"{path} includes {included}: {room} may not include {name}"
    if SYSTEM.match(included) or included.startswith("base/"):
        return None
    if room != "worker/model/families" and room_of(included) == room_of(os.path.dirname(path) + "/x"):
        return None
    if os.path.dirname(included) == os.path.dirname(path):
        return None
    target = room_of(included)
    for entry in may:
        if included == entry or (target == entry) or (entry == "proto" and target == "proto/rpc"):
            return None
        if included.startswith(entry + "/") and target and target.startswith(entry) and room != "worker/loader":
            return None
    return f"{path} includes {included}: {room} may not include {target or 'it'}"


def main():
    errors = []
    for root in ["base", "proto", "kernels", "worker", "gateway", "clients"]:
        for folder, _, files in os.walk(root):
            for name in sorted(files):
                if not name.endswith((".h", ".cc", ".cu", ".cuh")):
                    continue
                path = os.path.join(folder, name)
                for _, included in INCLUDE.findall(open(path, encoding="utf-8").read()):
                    error = allowed(path, included)
                    if error:
                        errors.append(error)
    print("\n".join(errors) or "every include is allowed")
    sys.exit(bool(errors))


if __name__ == "__main__":
    main()
